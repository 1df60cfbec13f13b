"""The progress of one service in a deployment: stored together with the event that tells it."""

import msgspec

from refloat.clock import Clock
from refloat.domain.deployment import Deployment, Event, Target
from refloat.domain.progress import Phase, advance
from refloat.domain.revision import Level
from refloat.store import deployments as store
from refloat.store.database import Transaction


async def move_target(
    tx: Transaction,
    deployment: Deployment,
    target: Target,
    phase: Phase,
    clock: Clock,
    *,
    reason: str = "",
    serving: str = "",
) -> Target:
    """Move a target along an arrow, store it and append the event that tells it; the new value."""
    now = clock.now()
    moved = msgspec.structs.replace(
        target,
        phase=advance(target.action, target.phase, phase),
        reason=reason or target.reason,
        serving=serving or target.serving,
        started_at=target.started_at or (now if phase in _WORK else None),
        finished_at=now if phase in _END else None,
    )
    await store.put_target(tx, moved)
    level = Level.ERROR if phase in (Phase.FAILED, Phase.BUILD_FAILED) else Level.INFO
    message = reason or f"{target.name}: {phase.replace('_', ' ')}"
    await tell(tx, deployment, target.service_id, phase, level, message, clock, moved)
    return moved


async def tell(
    tx: Transaction,
    deployment: Deployment,
    service_id: str,
    step: str,
    level: Level,
    message: str,
    clock: Clock,
    moved: Target | None = None,
) -> None:
    """Append one event; `moved` makes it a change of progress."""
    event = Event(
        sequence=0,
        deployment_id=deployment.id,
        environment_id=deployment.environment_id,
        service_id=service_id,
        at=clock.now(),
        level=level,
        step=step,
        message=message,
        action=moved.action if moved else None,
        phase=moved.phase if moved else None,
    )
    await store.put_event(tx, event)


_WORK = frozenset({Phase.BUILDING, Phase.RUNNING, Phase.EXECUTING})
_END = frozenset({Phase.DONE, Phase.FAILED, Phase.BUILD_FAILED, Phase.CANCELED})
