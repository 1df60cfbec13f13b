"""How a deployment ends: its outcome, and what is written in the one instant in which it ends."""

from collections.abc import Sequence

from refloat.clock import Clock
from refloat.domain.deployment import Deployment, Target, Verb
from refloat.domain.progress import Phase
from refloat.execution import queue
from refloat.execution.going_back import go_back
from refloat.execution.journal import Journal
from refloat.planning.plan import Plan, StepName
from refloat.store import resources
from refloat.store.database import Transaction


def outcome(targets: Sequence[Target], canceled: bool) -> tuple[Phase, str]:
    """The worst of its services; an error outweighs a cancel."""
    for phase in (Phase.BUILD_FAILED, Phase.FAILED, Phase.CANCELED):
        for target in targets:
            if target.phase is phase and (phase is not Phase.CANCELED or canceled):
                return phase, f"{target.name}: {target.reason}" if target.reason else ""
    return Phase.DONE, ""


async def conclude(
    tx: Transaction,
    deployment: Deployment,
    phase: Phase,
    reason: str,
    targets: Sequence[Target],
    clock: Clock,
) -> None:
    """End it, show its successor as next, and go back or delete the environment if that is asked for."""
    await go_back(tx, deployment, phase, clock)
    await queue.conclude(tx, deployment, phase, reason, clock, targets)
    removes = deployment.request.verb is Verb.DELETE and deployment.request.services is None
    if removes and phase is Phase.DONE:
        await resources.delete_tree(tx, deployment.environment_id)


async def conclude_with(
    tx: Transaction, journal: Journal, plan: Plan, service_id: str, name: StepName, clock: Clock
) -> bool:
    """End it in the unit in which this step ends well, if all that was planned besides is stored as done.

    False when there is more to do or to tell, which takes a unit of its own.
    """
    planned = {(service.service_id, step) for service in plan.services for step in service.steps}
    if not all(journal.done(*step) for step in planned - {(service_id, name)}):
        return False
    await journal.own_all(tx)
    if any(target.phase is not Phase.DONE for target in journal.targets):
        return False
    await conclude(tx, journal.deployment, Phase.DONE, "", journal.targets, clock)
    return True
