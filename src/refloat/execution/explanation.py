"""Why a deployment is where it is: a pure function of what is recorded about it.

Any server can tell it of any deployment, because nothing is asked of the one that works on it.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from refloat.domain.deployment import Attempt, Deployment, Outcome, Step, Target
from refloat.domain.progress import TERMINAL, Phase
from refloat.execution.limits import DEADLINES, ServiceLimits
from refloat.planning.plan import Plan, ServicePlan, StepName


class Situation(StrEnum):
    """Where a deployment is, in one word."""

    BEHIND = "behind"
    """Another deployment of the environment goes first."""
    NODE = "waits_for_node"
    """No server lives on the node that its cluster belongs to."""
    ROOM = "waits_for_room"
    """Its cluster is asked to do as much at once as it takes."""
    NEXT = "next"
    """Nothing is in front of it: the next look at the queue begins it."""
    HALTED = "halted"
    """The server that works on it cannot go on: nothing can be stored, for one."""
    RUNNING = "running"
    CANCELING = "canceling"
    ENDED = "ended"


class Doing(msgspec.Struct, frozen=True, kw_only=True):
    """One step that is under way. `begun` counts how often: more than once after a server died.

    `attempt` is what is tried within it: counted failures of a probe, runs of a job.
    """

    service_id: str
    name: str
    stage: str
    step: StepName
    since: datetime
    deadline: datetime
    begun: int
    attempt: Attempt | None = None
    limits: ServiceLimits = ServiceLimits()
    routed: bool = True


class Coming(msgspec.Struct, frozen=True, kw_only=True):
    """What is left to do of one service, as planned. The stage's builds come before all else of it."""

    service_id: str
    name: str
    stage: str
    steps: tuple[StepName, ...]


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """`ends_by` is when it has ended whatever happens; None while nobody works on it."""

    deployment: Deployment
    targets: tuple[Target, ...]
    situation: Situation
    now: datetime
    ahead: tuple[Deployment, ...] = ()
    """Those that go first, the running one before those that wait."""
    node_reason: str = ""
    halt_reason: str = ""
    """Why nothing goes on though a server lives: it can store nothing, for one."""
    room_reason: str = ""
    """What its cluster is asked to do by others, as far as it concerns one that waits."""
    doing: tuple[Doing, ...] = ()
    coming: tuple[Coming, ...] = ()
    ends_by: datetime | None = None


def explain(
    deployment: Deployment,
    targets: Sequence[Target],
    steps: Sequence[Step],
    plan: Plan | None,
    limits: Mapping[str, ServiceLimits],
    *,
    ahead: Sequence[Deployment] = (),
    node_reason: str = "",
    halt_reason: str = "",
    room_reason: str = "",
    is_full: bool = False,
    now: datetime,
) -> Explanation:
    """`plan` and `limits` are of a deployment that began; `node_reason` says why no server can work on it,
    `halt_reason` why the one that does cannot go on, `room_reason` what its cluster does already, `is_full`
    whether that is all it takes."""
    planned = {service.service_id: service for service in plan.services} if plan else {}
    named = {target.service_id: target for target in targets}
    situation = _situation(deployment, bool(ahead), node_reason, halt_reason, is_full)
    coming = tuple(_coming(plan, named, steps)) if plan and not deployment.ended else ()
    ends_by = None
    if plan and situation in (Situation.RUNNING, Situation.CANCELING):
        ends_by = now + timedelta(seconds=longest(deployment, named, steps, plan, limits, now))
    return Explanation(
        deployment=deployment,
        targets=tuple(targets),
        situation=situation,
        now=now,
        ahead=tuple(ahead),
        node_reason=node_reason,
        halt_reason=halt_reason,
        room_reason=room_reason,
        doing=tuple(_doing(step, named, planned, limits) for step in _open(deployment, steps)),
        coming=coming,
        ends_by=ends_by,
    )


def _situation(
    deployment: Deployment, is_behind: bool, node_reason: str, halt_reason: str, is_full: bool
) -> Situation:
    if deployment.ended:
        return Situation.ENDED
    if is_behind:
        return Situation.BEHIND
    if node_reason:
        return Situation.NODE
    if halt_reason:
        return Situation.HALTED
    if deployment.owner is None:
        return Situation.ROOM if is_full else Situation.NEXT
    return Situation.CANCELING if deployment.phase is Phase.CANCELING else Situation.RUNNING


def _open(deployment: Deployment, steps: Sequence[Step]) -> Iterator[Step]:
    """Steps under way. What a server that died left open counts: it is begun again."""
    if not deployment.ended:
        yield from (step for step in steps if step.outcome is None)


def _doing(
    step: Step,
    targets: Mapping[str, Target],
    planned: Mapping[str, ServicePlan],
    limits: Mapping[str, ServiceLimits],
) -> Doing:
    name, target, own = StepName(step.name), targets.get(step.service_id), limits.get(step.service_id)
    service, bound = planned.get(step.service_id), own or ServiceLimits()
    return Doing(
        service_id=step.service_id,
        name=target.name if target else "",
        stage=target.stage_name if target else "",
        step=name,
        since=step.started_at,
        deadline=step.started_at + timedelta(seconds=bound.deadline(name)),
        begun=step.attempt,
        attempt=_attempt(step, name, bound),
        limits=bound,
        routed=service.routed if service else True,
    )


def _attempt(step: Step, name: StepName, limits: ServiceLimits) -> Attempt | None:
    if step.output != "{}":
        noted = msgspec.json.decode(step.output, type=Attempt)
        return msgspec.structs.replace(noted, number=min(noted.number, noted.most))
    if name is StepName.READY and limits.readiness:
        return Attempt(number=1, most=limits.readiness.failure_threshold)
    if name is StepName.EXECUTE and limits.runs:
        return Attempt(number=1, most=limits.runs)
    return None


def _coming(plan: Plan, targets: Mapping[str, Target], steps: Sequence[Step]) -> Iterator[Coming]:
    begun = {(s.service_id, s.name) for s in steps if s.outcome is not Outcome.CANCELED}
    for stage in plan.stages:
        for service in stage.services:
            target = targets.get(service.service_id)
            left = tuple(name for name in service.steps if (service.service_id, name) not in begun)
            if left and target and _goes_on(target):
                yield Coming(service_id=service.service_id, name=service.name, stage=stage.name, steps=left)


def _goes_on(target: Target) -> bool:
    """Not after a failure or a cancel. What is done may have an old revision to retire."""
    return target.phase not in (TERMINAL - {Phase.DONE}) | {Phase.CANCELING}


def longest(
    deployment: Deployment,
    targets: Mapping[str, Target],
    steps: Sequence[Step],
    plan: Plan,
    limits: Mapping[str, ServiceLimits],
    now: datetime,
) -> float:
    """Seconds from now until it has ended: every step left takes its deadline, one after the other, and
    then every service that is not done is returned to what was applied before."""
    known = {(step.service_id, step.name): step for step in steps}
    canceled = deployment.cancel_requested
    left = 0.0
    if ("", StepName.PRECHECK) in known or not known:  # it comes first, where there is anything to look up
        left = _left(known.get(("", StepName.PRECHECK)), DEADLINES[StepName.PRECHECK], now)
    for service in plan.services:
        phase = targets[service.service_id].phase if service.service_id in targets else Phase.QUEUED
        if phase in TERMINAL - {Phase.DONE}:
            continue
        own = limits.get(service.service_id, ServiceLimits())
        for name in service.steps:
            step = known.get((service.service_id, name))
            if phase is Phase.DONE or not canceled or (step and step.outcome is None):
                left += _left(step, own.deadline(name), now)
        left += 0.0 if phase is Phase.DONE else own.undo_seconds
    return left


def _left(step: Step | None, deadline: float, now: datetime) -> float:
    if step is None or step.outcome is Outcome.CANCELED:
        return deadline
    if step.outcome is not None:
        return 0.0
    return max(0.0, deadline - (now - step.started_at).total_seconds())
