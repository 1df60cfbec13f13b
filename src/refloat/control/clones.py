"""Cloning an environment or a service: the same configuration under other ids, and nothing of what runs.

Copied are stages, services with their pinned versions and skip flags, and variables of every type with
their sealed values. References among the copied things follow: a service stands in the copy of its stage,
an alias of a built-in variable names the copy of the neighbour. Host names follow the new ids by themselves.
"""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from refloat.control.context import Context
from refloat.control.organizations import checked_name
from refloat.control.services import new_password
from refloat.control.stages import default_for
from refloat.domain.deployment import Principal
from refloat.domain.errors import Invalid
from refloat.domain.ids import short
from refloat.domain.resources import (
    Cluster,
    Environment,
    EnvironmentMode,
    Project,
    Resource,
    Stage,
    Variable,
    VariableScope,
)
from refloat.domain.services import AnyService, Database, Service
from refloat.store import resources as store
from refloat.store.database import Transaction

R = TypeVar("R", bound=Resource)
_BUILT_IN = re.compile(r"(QOVERY_[A-Z_]+_Z)([0-9A-F]{8})(?=_)")
_REFERENCE = re.compile(r"\{\{[^{}]*\}\}")


async def clone_environment(
    context: Context,
    principal: Principal,
    source: Environment,
    name: str,
    *,
    mode: EnvironmentMode | None,
    cluster: Cluster,
    project: Project,
) -> Environment:
    """A new environment configured as `source`, never deployed. Conflict when the project has the name."""
    if cluster.parent != project.parent:
        raise Invalid(f"cluster_id: {cluster.id} belongs to another organization than the project")
    async with context.database.transaction() as tx:
        current = await store.get(tx, Environment, source.id)
        copy = _Copy(context, tx)
        made = await copy.of(
            current,
            parent=project.id,
            name=checked_name(name),
            mode=mode or current.mode,
            cluster_id=cluster.id,
            last_updated_by=principal.id,
        )
        for stage in await store.children(tx, Stage, current.id):
            await copy.of(stage, parent=made.id)
        services = await store.services(tx, current.id)
        for service in services:
            await copy.service(service, made.id)
        await copy.variables([current.id, *(service.id for service in services)])
    return made


async def clone_service(context: Context, source: Service, name: str, environment: Environment) -> AnyService:
    """A new service configured as `source`; Conflict when the environment has the name.

    In its own environment it stands in the same stage. In another one it goes to the default stage of its
    kind, and aliases and overrides are left out: what they refer to is not there.
    """
    async with context.database.transaction() as tx:
        current = await store.get_service(tx, source.id)
        stays = environment.id == current.parent
        stage_id = current.stage_id if stays else (await default_for(tx, environment.id, current.kind)).id
        copy = _Copy(context, tx)
        copy.stands_for(current.stage_id, stage_id)
        await copy.service(msgspec.structs.replace(current, name=checked_name(name)), environment.id)
        await copy.variables([current.id], referring=stays)
        return await store.get_service(tx, copy.copy_of(current.id))


class _Copy:
    """The copies made so far, by the id of what they were made from."""

    def __init__(self, context: Context, tx: Transaction) -> None:
        self._context = context
        self._tx = tx
        self._ids: dict[str, str] = {}
        self._now = context.clock.now()

    def stands_for(self, old_id: str, new_id: str) -> None:
        """References to the one become references to the other."""
        self._ids[old_id] = new_id

    def copy_of(self, old_id: str) -> str:
        """The id of the copy."""
        return self._ids[old_id]

    async def of(self, resource: R, **changes: Any) -> R:
        """Store a copy under a new id."""
        made = msgspec.structs.replace(
            resource, id=self._context.new_id(), created_at=self._now, updated_at=self._now, **changes
        )
        await store.insert_resource(self._tx, made)
        self._ids[resource.id] = made.id
        return made

    async def service(self, service: Service, environment_id: str) -> None:
        """Its ports, storages and whatever else of it has an id get new ones, a database its own password."""
        parts: dict[str, Any] = {
            field: tuple(self._renewed(item) for item in value)
            for field, value in msgspec.structs.asdict(service).items()
            if isinstance(value, tuple)
        }
        if isinstance(service, Database):
            parts["sealed_password"] = new_password(self._context)
        await self.of(service, parent=environment_id, stage_id=self._ids[service.stage_id], **parts)

    def _renewed(self, item: Any) -> Any:
        return msgspec.structs.replace(item, id=self._context.new_id()) if hasattr(item, "id") else item

    async def variables(self, owners: list[str], *, referring: bool = True) -> None:
        """First those that others refer to, so that every reference has its copy; without `referring`
        aliases and overrides are left out."""
        everything = [v for owner in owners for v in await store.children(self._tx, Variable, owner)]
        found = [
            v
            for v in everything
            if v.scope is not VariableScope.BUILT_IN and (referring or v.target_id is None)
        ]
        shorts = {short(old).upper(): short(new).upper() for old, new in self._ids.items()}
        for variable in sorted(found, key=lambda v: v.target_id is not None):
            target = variable.target_id
            await self.of(
                variable,
                parent=self._ids[variable.parent],
                target_id=target and self._ids.get(target, _renamed(target, shorts)),
                sealed=self._followed(variable.sealed, shorts),
            )

    def _followed(self, sealed: str, shorts: Mapping[str, str]) -> str:
        """The value, its references to built-in variables of neighbours leading to their copies."""
        if not sealed:
            return sealed
        value = self._context.sealer.open(sealed)
        followed = _REFERENCE.sub(lambda match: _renamed(match[0], shorts), value)
        return sealed if followed == value else self._context.sealer.seal(followed)


def _renamed(text: str, shorts: Mapping[str, str]) -> str:
    return _BUILT_IN.sub(lambda match: match[1] + shorts.get(match[2], match[2]), text)
