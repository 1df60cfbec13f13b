"""What is kept beside every deployed service, so that it can be adopted when the database is lost.

A copy of the documents that the database has, written after each deployment: values are sealed in it as
they are there. Nothing reads it while there is a database.
"""

from collections.abc import Sequence

import msgspec
import structlog

from refloat.clock import Clock
from refloat.domain.deployment import Deployment, Target
from refloat.domain.errors import RefloatError
from refloat.domain.resources import (
    Cluster,
    CustomDomain,
    Environment,
    Organization,
    Project,
    Stage,
    Variable,
)
from refloat.domain.services import AnyService
from refloat.execution.applied import Applied, decoded
from refloat.execution.deadline import Overdue, within
from refloat.execution.places import Platforms, platform_for
from refloat.store import deployments as store
from refloat.store.configuration import read_whole
from refloat.store.database import Database, Reader

FORMAT = 1
_SECONDS = 10.0

log = structlog.get_logger()


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """One service that was deployed, with everything above it and all that its environment shares.

    `number` is that of the environment's last deployment.
    """

    format: int = FORMAT
    organization: Organization
    project: Project
    cluster: Cluster
    environment: Environment
    stages: tuple[Stage, ...]
    service: AnyService
    variables: tuple[Variable, ...] = ()
    domains: tuple[CustomDomain, ...] = ()
    applied: Applied
    number: int


async def read_inventory(read: Reader, environment_id: str) -> tuple[Inventory, ...]:
    """Of every service of the environment that is applied."""
    whole = await read_whole(read, environment_id)
    if whole is None:
        return ()
    it, applied = whole.configuration, decoded(whole.configuration.applied)
    shared = [v for parent in (it.project.id, environment_id) for v in it.variables.get(parent, ())]
    return tuple(
        [
            Inventory(
                organization=whole.organization,
                project=it.project,
                cluster=whole.cluster,
                environment=whole.environment,
                stages=it.stages,
                service=service,
                variables=(*shared, *it.variables.get(service.id, ())),
                domains=tuple(it.domains.get(service.id, ())),
                applied=applied[service.id],
                number=whole.number,
            )
            for service in it.services
            if service.id in applied
        ]
    )


async def keep_inventory_after(
    database: Database,
    clock: Clock,
    platforms: Platforms,
    deployment: Deployment,
    ended_with: Sequence[Target] | None,
) -> None:
    """As `keep_inventory`, once a deployment has ended that changed something; `ended_with` are its services,
    if they are known."""
    try:
        targets = ended_with or await _ended_with(database.read, deployment)
    except RefloatError:  # the database is away: the next server sees to it
        return
    if any(target.change != "skip" for target in targets):
        await keep_inventory(database, clock, platforms, deployment.environment_id)


async def _ended_with(read: Reader, deployment: Deployment) -> Sequence[Target]:
    current = await store.find_deployment(read, deployment.id)
    if current is None or not current.ended:
        return ()
    return await store.targets(read, deployment.id)


async def keep_inventory(database: Database, clock: Clock, platforms: Platforms, environment_id: str) -> None:
    """Have the engine remember the environment as it is; one that cannot is told and asked again later."""
    try:
        found = await read_inventory(database.read, environment_id)
        if not found:
            return
        platform = platform_for(platforms, found[0].cluster)
        for inventory in found:
            document = msgspec.json.encode(inventory, order="deterministic").decode()
            await within(clock, platform.engine.remember(inventory.service.id, document), _SECONDS)
    except (RefloatError, Overdue, OSError) as error:
        log.warning("the inventory was not kept", environment=environment_id, reason=str(error))
