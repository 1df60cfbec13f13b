"""Rebuilds the records of what runs, from what the engine remembers beside it: the database was lost.

Records that are there already stay, unless what runs is newer than they are (an older backup was put
back). Nothing that runs is touched; the next server finds it recorded, and goes on with it.
"""

from collections.abc import Mapping, Sequence

import msgspec

from refloat.control.context import Context
from refloat.domain.deployment import Deployment, Origin, Request, Verb
from refloat.domain.errors import Conflict
from refloat.domain.progress import Phase
from refloat.domain.resources import ClusterKind, Environment, Resource
from refloat.domain.revision import ALIVE, Instance
from refloat.domain.services import Service
from refloat.execution import applied as applied_store
from refloat.execution import queue
from refloat.execution.basis import Observed, plan_for
from refloat.execution.inventory import FORMAT, Inventory
from refloat.execution.places import addresses_on
from refloat.execution.platform import Platform
from refloat.execution.snapshot import Addresses, compile_environment
from refloat.planning.plan import Change
from refloat.store import deployments as store
from refloat.store import resources
from refloat.store.backup import clear_first_start, why_used
from refloat.store.database import Transaction

_WHO = "adopt"


class AdoptedEnvironment(msgspec.Struct, frozen=True, kw_only=True):
    """`number` is that of the deployment which stands for what was found; None when history knew it."""

    id: str
    name: str
    project: str
    services: tuple[str, ...]
    number: int | None


class Adopted(msgspec.Struct, frozen=True, kw_only=True):
    """What was recorded, and in words what could not be."""

    environments: tuple[AdoptedEnvironment, ...]
    missing: tuple[str, ...]


class _Found(msgspec.Struct, frozen=True):
    """Everything that is known of one environment of the node."""

    members: tuple[Inventory, ...]
    last_number: int
    running: frozenset[str]
    addresses: Addresses

    @property
    def environment(self) -> Environment:
        return max(self.members, key=lambda it: it.number).environment


async def adopt(context: Context) -> Adopted:
    """Record all of it, or nothing. Raises Unavailable when a value cannot be opened with the key."""
    platform = context.platforms[ClusterKind.LOCAL]
    instances = await platform.engine.observe()
    inventories, numbers, missing = await _remembered(platform)
    for inventory in inventories:
        inventory.applied.revision(context.sealer)
    missing += _strangers(instances, inventories)
    found = await _environments(context, platform, instances, inventories, numbers)
    done = []
    async with context.database.transaction() as tx:
        if not await why_used(tx):
            await clear_first_start(tx)
        for each in found:
            if await store.open_deployments(tx, each.environment.id):
                missing.append(f"{each.environment.name}: it has an open deployment and is left as it is")
                continue
            try:
                done.append(await _record(tx, context, each))
            except Conflict as error:
                raise Conflict(
                    f"the environment {each.environment.name} cannot be recorded here: {error.message}",
                    hint="move the database away, and adopt into an empty one",
                ) from None
            missing += _differences(each)
    return Adopted(environments=tuple(done), missing=tuple(missing))


async def _remembered(platform: Platform) -> tuple[list[Inventory], dict[str, int], list[str]]:
    """What can be read, the highest number of each service, and what cannot be read."""
    inventories, numbers, missing = [], {}, []
    for kept in await platform.engine.remembered():
        numbers[kept.service_id] = kept.last_number
        try:
            inventory = msgspec.json.decode(kept.document, type=Inventory)
        except msgspec.DecodeError as error:
            missing.append(f"service {kept.service_id}: its inventory cannot be read: {error}")
            continue
        if inventory.format != FORMAT or inventory.service.id != kept.service_id:
            missing.append(f"service {kept.service_id}: its inventory is of another version or service")
            continue
        inventories.append(inventory)
    return inventories, numbers, missing


def _strangers(instances: Sequence[Instance], inventories: Sequence[Inventory]) -> list[str]:
    known = {inventory.service.id for inventory in inventories}
    return [
        f"{key} runs, and nothing is known of its service; it is left alone"
        for key in sorted({i.revision_key for i in instances if i.service_id not in known})
    ]


async def _environments(
    context: Context,
    platform: Platform,
    instances: Sequence[Instance],
    inventories: Sequence[Inventory],
    numbers: Mapping[str, int],
) -> list[_Found]:
    by_environment: dict[str, list[Inventory]] = {}
    for inventory in inventories:
        by_environment.setdefault(inventory.environment.id, []).append(inventory)
    found = []
    for environment_id, members in sorted(by_environment.items()):
        services = [it.service for it in members]
        found.append(
            _Found(
                members=tuple(members),
                last_number=max(max(it.number, numbers[it.service.id]) for it in members),
                running=frozenset(
                    i.revision_key
                    for i in instances
                    if i.environment_id == environment_id and i.state in ALIVE
                ),
                addresses=await addresses_on(platform, environment_id, services, context.settings.domain),
            )
        )
    return found


async def _record(tx: Transaction, context: Context, found: _Found) -> AdoptedEnvironment:
    for inventory in sorted(found.members, key=lambda it: -it.number):
        await _record_member(tx, inventory)
    environment = await resources.get(tx, Environment, found.environment.id)
    latest = await store.latest_claimed(tx, environment.id)
    number = None
    if latest is None or (latest.number or 0) < found.last_number:
        number = found.last_number
        await _mark(tx, context, found, number)
    return AdoptedEnvironment(
        id=environment.id,
        name=environment.name,
        project=found.members[0].project.name,
        services=tuple(sorted(it.service.name for it in found.members)),
        number=number,
    )


async def _record_member(tx: Transaction, it: Inventory) -> None:
    known = (await applied_store.of_environment(tx, it.environment.id)).get(it.service.id)
    newer = known is None or known.number < it.applied.number
    above = (it.organization, it.cluster, it.project, it.environment, *it.stages)
    for document in (*above, it.service, *it.variables, *it.domains):
        await _put(tx, document, newer=newer)
    if newer:
        await applied_store.put(tx, it.applied)


async def _put(tx: Transaction, document: Resource, *, newer: bool) -> None:
    """A document that is missing, or is older than what runs."""
    known = await resources.find(tx, type(document), document.id)
    if known is None:
        await resources.insert_resource(tx, document)
    elif newer and known != document and known.updated_at <= document.updated_at:
        await resources.replace_resource(tx, document)


async def _mark(tx: Transaction, context: Context, found: _Found, number: int) -> None:
    """A deployment that stands for those that are lost: later ones count on from it, and what it found as
    configured can be gone back to."""
    environment = await resources.get(tx, Environment, found.environment.id)
    compiled = await compile_environment(tx, context.sealer, environment, found.addresses)
    request = Request(verb=Verb.DEPLOY, principal_id=_WHO, triggered_by=f"refloat {_WHO}", origin=Origin.CLI)
    observed = Observed(found.running, found.running)
    plan = plan_for(environment.id, request, compiled, observed)
    same = tuple(s.service_id for s in plan.services if s.change is Change.SKIP)
    request = msgspec.structs.replace(request, services=same)
    deployment = Deployment(
        id=context.new_id(),
        environment_id=environment.id,
        cluster_id=environment.cluster_id,
        request=request,
        phase=Phase.QUEUED,
        created_at=context.clock.now(),
    )
    await store.insert_deployment(tx, deployment)
    plan = plan_for(environment.id, request, compiled, observed)
    sealed = compiled.snapshot.seal(context.sealer)
    claimed = await queue.claim(tx, deployment, _WHO, plan, sealed, 0, context.clock, number)
    assert claimed is not None
    now = context.clock.now()
    for target in claimed.targets:
        as_found = msgspec.structs.replace(target, phase=Phase.DONE, started_at=now, finished_at=now)
        await store.put_target(tx, as_found)
    await queue.conclude(tx, claimed.deployment, Phase.DONE, "adopted as it was found", context.clock)


def _differences(found: _Found) -> list[str]:
    words = []
    for it in found.members:
        service: Service = it.service
        where = f"{it.environment.name}/{service.name}"
        if it.applied.should_run and it.applied.revision_key not in found.running:
            words.append(f"{where}: {it.applied.revision_key} does not run; the server will start it")
        others = {k for k in found.running if k.startswith(f"{service.id}.")} - {it.applied.revision_key}
        words += [f"{where}: {key} runs and is not what was deployed; the server ends it" for key in others]
    return words
