"""What is recorded of a deployment, read at one instant, for those who ask why it is where it is."""

import msgspec

from refloat.control.context import Context
from refloat.domain.deployment import Deployment
from refloat.domain.errors import NotFound
from refloat.domain.resources import Environment
from refloat.execution.explanation import Explanation, explain
from refloat.execution.limits import ServiceLimits, limits_of
from refloat.execution.places import waits_for
from refloat.execution.snapshot import open_snapshot
from refloat.planning.plan import Plan
from refloat.store import deployments as store
from refloat.store import resources
from refloat.store.database import Reader


async def read(context: Context, deployment_id: str) -> Explanation:
    """Why the deployment is where it is."""
    async with context.database.snapshot() as reader:
        deployment = await store.find_deployment(reader, deployment_id)
        if deployment is None:
            raise NotFound(f"no deployment {deployment_id}")
        environment = await resources.get(reader, Environment, deployment.environment_id)
        waiting = await store.open_deployments(reader, environment.id)
        plan, limits = await _claimed(context, reader, deployment)
        return explain(
            deployment,
            await store.targets(reader, deployment.id),
            await store.steps(reader, deployment.id),
            plan,
            limits,
            ahead=[other for other in waiting if other.id < deployment.id],
            node_reason="" if deployment.ended else await waits_for(reader, environment),
            now=context.clock.now(),
        )


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
