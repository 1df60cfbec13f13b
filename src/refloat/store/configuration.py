"""Everything that is stored of one environment, in one read: what is configured, and what is applied."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Select, Text, bindparam, cast, literal, or_, select, union_all

from refloat.domain.errors import NotFound
from refloat.domain.resources import (
    Cluster,
    CustomDomain,
    Environment,
    Organization,
    Project,
    Stage,
    Variable,
)
from refloat.domain.services import SERVICE_KINDS, AnyService
from refloat.store.database import Query, Reader, Row
from refloat.store.resources import decode_service
from refloat.store.tables import applied, deployment
from refloat.store.tables import resource as t

_below, _above, _project = t.alias(), t.alias(), t.alias()
_COLUMNS = (t.c.id, t.c.kind, t.c.parent, t.c.document)
_OF_ENVIRONMENT = (*(it.kind for it in SERVICE_KINDS), Stage.kind, Variable.kind)
_OF_SERVICES = (Variable.kind, CustomDomain.kind)
_APPLIED, _LATEST = "applied", "latest"
_environment_id: Any = bindparam("environment_id")


def _configured(project_id: Any) -> tuple[Select[Any], ...]:
    return (
        select(*_COLUMNS).where(t.c.id == project_id),
        select(*_COLUMNS).where(t.c.parent == project_id, t.c.kind == Variable.kind),
        select(*_COLUMNS).where(
            t.c.parent == _environment_id, or_(*(t.c.kind == kind for kind in _OF_ENVIRONMENT))
        ),
        select(*_COLUMNS).where(
            or_(*(t.c.kind == kind for kind in _OF_SERVICES)),
            t.c.parent.in_(select(_below.c.id).where(_below.c.parent == _environment_id)),
        ),
        select(
            applied.c.service_id,
            literal(_APPLIED),
            applied.c.environment_id,
            applied.c.document,
        ).where(applied.c.environment_id == _environment_id),
    )


_CONFIGURATION = Query(union_all(*_configured(bindparam("project_id"))))
_project_id = select(_above.c.parent).where(_above.c.id == _environment_id).scalar_subquery()
_organization_id = select(_project.c.parent).where(_project.c.id == _project_id).scalar_subquery()
_number = (
    select(deployment.c.number)
    .where(deployment.c.environment_id == _environment_id, deployment.c.number.is_not(None))
    .order_by(deployment.c.id.desc())
    .limit(1)
    .subquery("latest")
)
_WITH_CLUSTERS = (
    select(*_COLUMNS).where(t.c.id == _environment_id),
    select(*_COLUMNS).where(t.c.parent == _organization_id, t.c.kind == Cluster.kind),
)
_WHOLE = Query(
    union_all(
        *_configured(_project_id),
        *_WITH_CLUSTERS,
        select(*_COLUMNS).where(t.c.id == _organization_id),
        select(literal(""), literal(_LATEST), literal(""), cast(_number.c.number, Text)),
    )
)
_PLACE = Query(
    union_all(
        *_WITH_CLUSTERS,
        select(*_COLUMNS).where(
            t.c.parent == _environment_id, or_(*(t.c.kind == it.kind for it in SERVICE_KINDS))
        ),
    )
)
_KINDS: dict[str, Any] = {
    it.kind: it for it in (Organization, Cluster, Project, Environment, Stage, Variable, CustomDomain)
}


@dataclass(frozen=True)
class Configuration:
    """Oldest first. `variables` and `domains` are by what they belong to: the project, the environment or a
    service; what has none has no key. `applied` are the documents of what serves, by service."""

    project: Project
    services: tuple[AnyService, ...]
    stages: tuple[Stage, ...]
    variables: Mapping[str, Sequence[Variable]] = field(default_factory=dict)
    domains: Mapping[str, Sequence[CustomDomain]] = field(default_factory=dict)
    applied: Mapping[str, str] = field(default_factory=dict)


class Place(NamedTuple):
    """An environment, the cluster that it is on, and its services, oldest first."""

    environment: Environment
    cluster: Cluster
    services: tuple[AnyService, ...]


class Whole(NamedTuple):
    """An environment with everything above it, and the number of its last deployment."""

    organization: Organization
    cluster: Cluster
    environment: Environment
    configuration: Configuration
    number: int


async def read_configuration(read: Reader, environment: Environment) -> Configuration:
    """Raises NotFound when the project is gone."""
    rows = await read.all(_CONFIGURATION, project_id=environment.parent, environment_id=environment.id)
    found = _Found(rows)
    if not found.of(Project):
        raise NotFound(f"no project {environment.parent}")
    return found.configuration


async def read_place(read: Reader, environment_id: str) -> Place:
    """Raises NotFound when the environment is gone, or its cluster."""
    found = _Found(await read.all(_PLACE, environment_id=environment_id))
    if not found.of(Environment):
        raise NotFound(f"no environment {environment_id}")
    (environment,) = found.of(Environment)
    if (cluster := found.cluster_of(environment)) is None:
        raise NotFound(f"no cluster {environment.cluster_id}")
    return Place(environment, cluster, found.services)


async def read_whole(read: Reader, environment_id: str) -> Whole | None:
    """All of it at one instant; None when it is gone, or was never deployed."""
    found = _Found(await read.all(_WHOLE, environment_id=environment_id))
    if not found.of(Environment) or found.latest is None:
        return None
    (organization,), (environment,) = found.of(Organization), found.of(Environment)
    cluster = found.cluster_of(environment)
    if cluster is None:
        return None
    return Whole(organization, cluster, environment, found.configuration, found.latest)


class _Found:
    """The rows of one read, by what they are."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._by_kind: dict[str, list[Any]] = defaultdict(list)
        self._applied: dict[str, str] = {}
        self.latest: int | None = None
        for row in sorted(rows, key=lambda row: str(row["id"])):
            self._add(row, row["kind"])

    def _add(self, row: Row, kind: str) -> None:
        if kind == _APPLIED:
            self._applied[row["id"]] = row["document"]
        elif kind == _LATEST:
            self.latest = int(row["document"])
        elif known := _KINDS.get(kind):
            self._by_kind[kind].append(msgspec.json.decode(row["document"], type=known))
        else:
            self._by_kind[""].append(decode_service(row))

    def of(self, kind: Any) -> list[Any]:
        return self._by_kind[kind.kind]

    def cluster_of(self, environment: Environment) -> Cluster | None:
        return next((it for it in self.of(Cluster) if it.id == environment.cluster_id), None)

    @property
    def services(self) -> tuple[AnyService, ...]:
        return tuple(self._by_kind[""])

    @property
    def configuration(self) -> Configuration:
        return Configuration(
            project=self.of(Project)[0],
            services=self.services,
            stages=tuple(self.of(Stage)),
            variables=_by_parent(self.of(Variable)),
            domains=_by_parent(self.of(CustomDomain)),
            applied=self._applied,
        )


def _by_parent(all_of_a_kind: Sequence[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for it in all_of_a_kind:
        found[it.parent].append(it)
    return dict(found)
