"""What is recorded of a deployment, read at one instant: why it is where it is, and what took its time."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from refloat.control.context import Context
from refloat.domain.deployment import Deployment, Step
from refloat.domain.errors import Conflict, NotFound
from refloat.domain.progress import Action, Phase
from refloat.domain.resources import Cluster, Environment
from refloat.execution.critical_path import Change, Segment, changes, critical_path
from refloat.execution.explanation import Explanation, explain
from refloat.execution.limits import ServiceLimits, limits_of
from refloat.execution.places import is_here, waits_for
from refloat.execution.snapshot import open_snapshot
from refloat.planning.plan import Plan
from refloat.store import deployments as store
from refloat.store import resources
from refloat.store.database import Reader
from refloat.store.figures import used


async def read(context: Context, deployment_id: str) -> Explanation:
    """Why the deployment is where it is."""
    async with context.database.snapshot() as reader:
        deployment = await store.find_deployment(reader, deployment_id)
        if deployment is None:
            raise NotFound(f"no deployment {deployment_id}")
        environment = await resources.get(reader, Environment, deployment.environment_id)
        waiting = await store.open_deployments(reader, environment.id)
        plan, limits = await _claimed(context, reader, deployment)
        room_reason, is_full = await _room(context, reader, deployment)
        return explain(
            deployment,
            await store.targets(reader, deployment.id),
            await store.steps(reader, deployment.id),
            plan,
            limits,
            ahead=[other for other in waiting if other.id < deployment.id],
            node_reason="" if deployment.ended else await waits_for(reader, environment),
            halt_reason="" if deployment.ended else await _halt(context, reader, environment),
            room_reason=room_reason,
            is_full=is_full,
            now=context.clock.now(),
        )


async def _halt(context: Context, reader: Reader, environment: Environment) -> str:
    """Why this server does not go on, where the work is this one's."""
    cluster = await resources.get(reader, Cluster, environment.cluster_id)
    return context.halt() if is_here(context.platforms, cluster) else ""


async def _room(context: Context, reader: Reader, deployment: Deployment) -> tuple[str, bool]:
    """What others do on the cluster of one that waits, and whether it takes no more. How many builds it
    needs itself is known when it begins."""
    if deployment.ended or deployment.owner:
        return "", False
    most = context.settings
    running, builds = (await used(reader)).get(deployment.cluster_id, (0, 0))
    if running >= most.max_deployments:
        taken = f"{running} of the {most.max_deployments} deployments that its cluster takes at once run"
        return taken, True
    if not builds or deployment.action is not Action.DEPLOY:
        return "", False
    taken = f"{builds} of the {most.max_builds} builds that its cluster takes at once are reserved"
    return taken, builds >= most.max_builds


async def _claimed(
    context: Context, reader: Reader, deployment: Deployment
) -> tuple[Plan | None, dict[str, ServiceLimits]]:
    """The plan of a deployment that began, and how long each of its services may take."""
    if deployment.number is None:
        return None, {}
    text, sealed = await store.claimed_documents(reader, deployment.id)
    plan, snapshot = msgspec.json.decode(text, type=Plan), open_snapshot(sealed, context.sealer)
    limits = {
        service.service_id: limits_of(
            service,
            snapshot.services.get(service.service_id),
            snapshot.before.get(service.service_id),
            context.sealer,
            context.settings.drain_seconds,
        )
        for service in plan.services
    }
    return plan, limits


_LOOKED_THROUGH = 50
"""How many earlier deployments are looked through for one to compare with."""


@dataclass(frozen=True)
class TimeSpent:
    """What a deployment's time went to; `changes` against `earlier`, the one before that did the same and
    succeeded."""

    deployment: Deployment
    path: tuple[Segment, ...]
    earlier: Deployment | None = None
    earlier_path: tuple[Segment, ...] = ()
    changes: tuple[Change, ...] = ()


async def time_spent(context: Context, deployment_id: str) -> TimeSpent:
    """Raises Conflict while the deployment has not ended."""
    async with context.database.snapshot() as reader:
        deployment = await store.find_deployment(reader, deployment_id)
        if deployment is None:
            raise NotFound(f"no deployment {deployment_id}")
        if not deployment.ended:
            raise Conflict(
                f"the deployment {deployment.id} has not ended",
                hint="what it waits for is told by /refloat/deployment/{id}/explain",
            )
        path = await path_of(reader, deployment, await store.steps(reader, deployment.id))
        earlier = await _earlier(reader, deployment)
        if earlier is None:
            return TimeSpent(deployment, path)
        steps = await store.steps(reader, earlier.id)
        before = await path_of(reader, earlier, steps)
        found = changes(path, before, steps)
        return TimeSpent(deployment, path, earlier, before, found)


async def path_of(reader: Reader, deployment: Deployment, steps: Sequence[Step]) -> tuple[Segment, ...]:
    """The critical path of a deployment that has ended, with these steps."""
    plan = None
    if deployment.number is not None:
        text, _ = await store.claimed_documents(reader, deployment.id)
        plan = msgspec.json.decode(text, type=Plan)
    return critical_path(deployment, steps, plan)


async def _earlier(reader: Reader, deployment: Deployment) -> Deployment | None:
    known = await store.history(reader, deployment.environment_id, _LOOKED_THROUGH, deployment.id)
    return next((d for d in known if d.phase is Phase.DONE and d.action is deployment.action), None)
