"""Everything that is configured of one environment, in one read."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import bindparam, or_, select, union_all

from refloat.domain.errors import NotFound
from refloat.domain.resources import CustomDomain, Environment, Project, Stage, Variable
from refloat.domain.services import SERVICE_KINDS, AnyService
from refloat.store.database import Query, Reader
from refloat.store.tables import resource as t

_below = t.alias()
_COLUMNS = (t.c.id, t.c.kind, t.c.parent, t.c.document)
_OF_ENVIRONMENT = (*(it.kind for it in SERVICE_KINDS), Stage.kind, Variable.kind)
_OF_SERVICES = (Variable.kind, CustomDomain.kind)
_CONFIGURATION = Query(
    union_all(
        select(*_COLUMNS).where(t.c.id == bindparam("project_id")),
        select(*_COLUMNS).where(t.c.parent == bindparam("project_id"), t.c.kind == Variable.kind),
        select(*_COLUMNS).where(
            t.c.parent == bindparam("environment_id"),
            or_(*(t.c.kind == kind for kind in _OF_ENVIRONMENT)),
        ),
        select(*_COLUMNS).where(
            or_(*(t.c.kind == kind for kind in _OF_SERVICES)),
            t.c.parent.in_(select(_below.c.id).where(_below.c.parent == bindparam("environment_id"))),
        ),
    )
)
_KINDS: dict[str, Any] = {it.kind: it for it in (Project, Stage, Variable, CustomDomain)}


@dataclass(frozen=True)
class Configuration:
    """Oldest first. `variables` and `domains` are by what they belong to: the project, the environment or a
    service; what has none has no key."""

    project: Project
    services: tuple[AnyService, ...]
    stages: tuple[Stage, ...]
    variables: Mapping[str, Sequence[Variable]] = field(default_factory=dict)
    domains: Mapping[str, Sequence[CustomDomain]] = field(default_factory=dict)


async def read_configuration(read: Reader, environment: Environment) -> Configuration:
    """Raises NotFound when the project is gone."""
    rows = await read.all(_CONFIGURATION, project_id=environment.parent, environment_id=environment.id)
    found: dict[str, list[Any]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: str(row["id"])):
        kind: Any = _KINDS.get(row["kind"], AnyService)
        found[row["kind"] if kind is not AnyService else ""].append(
            msgspec.json.decode(row["document"], type=kind)
        )
    if not found[Project.kind]:
        raise NotFound(f"no project {environment.parent}")
    return Configuration(
        project=found[Project.kind][0],
        services=tuple(found[""]),
        stages=tuple(found[Stage.kind]),
        variables=_by_parent(found[Variable.kind]),
        domains=_by_parent(found[CustomDomain.kind]),
    )


def _by_parent(all_of_a_kind: Sequence[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for it in all_of_a_kind:
        found[it.parent].append(it)
    return dict(found)
