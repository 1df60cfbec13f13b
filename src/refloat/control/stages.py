"""Deployment stages: their order, and which service stands in which."""

from collections.abc import Sequence

import msgspec

from refloat.control.context import Context
from refloat.control.organizations import change, checked_name
from refloat.domain.errors import Invalid, NotFound
from refloat.domain.resources import Environment, Stage
from refloat.domain.services import Service
from refloat.store import resources as store
from refloat.store.database import Reader, Transaction


async def ordered(read: Reader, environment_id: str) -> list[Stage]:
    """The stages of an environment in the order they run."""
    return sorted(await store.children(read, Stage, environment_id), key=lambda s: s.position)


async def create(context: Context, environment: Environment, name: str, description: str | None) -> Stage:
    """A new stage at the end."""
    now = context.clock.now()
    async with context.database.transaction() as tx:
        await store.get(tx, Environment, environment.id)
        made = Stage(
            id=context.new_id(),
            parent=environment.id,
            name=checked_name(name),
            description=description,
            position=len(await ordered(tx, environment.id)),
            created_at=now,
            updated_at=now,
        )
        await store.insert_resource(tx, made)
    return made


async def edit(context: Context, stage: Stage, name: str, description: str | None) -> Stage:
    """Another name or description; its place and its services stay."""
    return await change(context, stage, name=checked_name(name), description=description)


async def delete(context: Context, stage: Stage) -> None:
    """Only an empty one, and never the last."""
    async with context.database.transaction() as tx:
        left = [s for s in await ordered(tx, stage.parent) if s.id != stage.id]
        if any(s.stage_id == stage.id for s in await store.services(tx, stage.parent)):
            raise Invalid(f"stage {stage.name} must empty of service before it can be deleted")
        if not left:
            raise Invalid("the last stage of an environment cannot be deleted")
        await store.delete_resource(tx, stage.id)
        await _number(tx, left)


async def move(context: Context, stage: Stage, other: Stage, *, after: bool) -> None:
    """Put a stage right before or after another of the same environment."""
    if stage.parent != other.parent:
        raise NotFound(f"no stage {other.id} in the environment of stage {stage.id}")
    if stage.id == other.id:
        raise Invalid("a stage cannot be moved relative to itself")
    async with context.database.transaction() as tx:
        known = {s.id: s for s in await ordered(tx, stage.parent)}
        moved = known.pop(stage.id, None)
        rest = list(known.values())
        if moved is None or other.id not in known:
            raise NotFound("one of the stages was deleted meanwhile")
        at = rest.index(known[other.id]) + int(after)
        await _number(tx, [*rest[:at], moved, *rest[at:]])


async def place(context: Context, stage: Stage, service: Service, *, is_skipped: bool) -> None:
    """Attach a service to a stage of its environment; without `is_skipped` it is un-skipped."""
    if service.parent != stage.parent:
        raise NotFound(f"no stage {stage.id} in the environment of service {service.id}")
    async with context.database.transaction() as tx:
        await store.get(tx, Stage, stage.id)
        current = await store.get_service(tx, service.id)
        await store.replace_resource(
            tx, msgspec.structs.replace(current, stage_id=stage.id, is_skipped=is_skipped)
        )


async def default_for(read: Reader, environment_id: str, kind: str) -> Stage:
    """Where a new service goes: the default stage of its kind, else the last one."""
    stages = await ordered(read, environment_id)
    return next((s for s in stages if s.name == f"DEFAULT {kind.upper()}"), stages[-1])


async def _number(tx: Transaction, stages: Sequence[Stage]) -> None:
    for position, stage in enumerate(stages):
        await store.replace_resource(tx, msgspec.structs.replace(stage, position=position))
