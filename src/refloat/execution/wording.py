"""An explanation in sentences, for people."""

from collections.abc import Iterator
from datetime import datetime

from refloat.domain.deployment import Deployment
from refloat.domain.progress import Phase
from refloat.domain.services import Probe
from refloat.execution.explanation import Doing, Explanation, Situation
from refloat.execution.limits import PARALLEL
from refloat.execution.readiness import ALIVE_SECONDS, BOOT_SECONDS
from refloat.planning.plan import StepName

_AWAITED = {
    StepName.PRECHECK: "for the commits of services that were never pinned",
    StepName.BUILD: "for its build to end",
    StepName.PREPARE: "for the cluster to start the new revision",
    StepName.SWITCH: "for the route to lead to the new revision",
    StepName.VERIFY: "for an answer below 500 of the new revision through its public route",
    StepName.WITHDRAW: "for its route to be taken away",
    StepName.DRAIN: "for requests in flight on the old revision to end",
    StepName.STOP: "for the old revision to end",
    StepName.DESTROY: "for all of it to be removed",
    StepName.REVERT: "for the old revision to serve again",
    StepName.DISCARD: "for the new revision to end",
}

_PLACES = f"{PARALLEL} services of a stage are worked on at once, and as many builds as the cluster has left"


def words(it: Explanation) -> tuple[str, ...]:
    """One sentence a line; the first says where it is."""
    return tuple(_SITUATIONS[it.situation](it))


def _behind(it: Explanation) -> Iterator[str]:
    first = it.ahead[0]
    yield f"{_called(it.deployment)} waits behind {len(it.ahead)} other of its environment"
    for position, other in enumerate(it.ahead):
        state = "runs" if other.owner else "waits"
        yield f"  {position}. {_called(other)} {state}: {other.id}"
    if it.node_reason or it.halt_reason:
        yield f"nothing moves: {it.node_reason or it.halt_reason}"
    yield "it begins when they have ended; what the first one waits for is told by"
    yield f"  refloat explain {first.environment_id} --version {first.id}"


def _node(it: Explanation) -> Iterator[str]:
    yield f"{_called(it.deployment)} waits: {it.node_reason}"
    if it.doing:
        yield from _steps(it)
    yield from _next_steps(it)
    yield "a server that is started on that node goes on with it; it is not lost"


def _halted(it: Explanation) -> Iterator[str]:
    yield f"{_called(it.deployment)} waits: {it.halt_reason}"
    if it.doing:
        yield from _steps(it)
    yield from _next_steps(it)
    yield "it goes on by itself when that is mended; nothing of it is lost"


def _next(it: Explanation) -> Iterator[str]:
    yield f"{_called(it.deployment)} is next: nothing is in front of it, the next look at the queue begins it"
    if it.room_reason:
        yield f"unless its builds do not fit: {it.room_reason}"


def _room(it: Explanation) -> Iterator[str]:
    yield f"{_called(it.deployment)} waits: {it.room_reason}"
    yield "it begins when there is room for it; no deadline runs until then"


def _running(it: Explanation) -> Iterator[str]:
    yield f"{_called(it.deployment)} has run for {_ago(it.now, it.deployment.started_at)}"
    yield from _steps(it)
    yield from _next_steps(it)
    yield from _bound(it)


def _canceling(it: Explanation) -> Iterator[str]:
    yield f"{_called(it.deployment)} is being canceled: what had begun is ended, nothing else begins"
    yield from _steps(it)
    yield from _bound(it)


def _ended(it: Explanation) -> Iterator[str]:
    deployment, how = it.deployment, it.deployment.phase
    took = _ago(deployment.finished_at or it.now, deployment.started_at)
    spent = f" after {took}" if deployment.started_at else ""
    outcome = "is done" if how is Phase.DONE else f"ended: {how.replace('_', ' ')}"
    yield f"{_called(deployment)} {outcome}{spent}" + (f": {deployment.reason}" if deployment.reason else "")
    for target in it.targets:
        why = f": {target.reason}" if target.reason else ""
        yield f"  {target.stage_name} → {target.name}: {target.phase.replace('_', ' ')}{why}"


_SITUATIONS = {
    Situation.BEHIND: _behind,
    Situation.NODE: _node,
    Situation.HALTED: _halted,
    Situation.ROOM: _room,
    Situation.NEXT: _next,
    Situation.RUNNING: _running,
    Situation.CANCELING: _canceling,
    Situation.ENDED: _ended,
}


def _called(deployment: Deployment) -> str:
    number = f" {deployment.number}" if deployment.number else ""
    return f"deployment{number} ({deployment.request.verb.lower()} by {deployment.request.triggered_by})"


def _steps(it: Explanation) -> Iterator[str]:
    for doing in it.doing:
        span = f"{doing.step}{_times(doing)} for {_ago(it.now, doing.since)}"
        yield f"  {_place(doing)}{span}, {_until(doing, it.now)}"
    waiting = [t.name for t in it.targets if t.phase is Phase.WAITING]
    if waiting and it.doing:
        yield f"  {', '.join(waiting)}: waits for a place; {_PLACES}"
    elif not it.doing:
        yield "  between two steps"


def _place(doing: Doing) -> str:
    return f"{doing.stage} → {doing.name}: " if doing.service_id else ""


def _times(doing: Doing) -> str:
    return f" (begun {doing.begun} times)" if doing.begun > 1 else ""


def _until(doing: Doing, now: datetime) -> str:
    left = _seconds((doing.deadline - now).total_seconds())
    return f"waits {awaited(doing)}; its deadline is in {left}"


def awaited(doing: Doing) -> str:
    """What the step waits for, after the word "waits"."""
    attempt = doing.attempt
    tried = f" (attempt {attempt.number} of {attempt.most}{_because(attempt.complaint)})" if attempt else ""
    if doing.step is StepName.READY:
        return _ready(doing) + tried
    if doing.step is StepName.EXECUTE:
        return ("for the job to end" if doing.limits.runs else "for the release command to end") + tried
    return _AWAITED[doing.step]


def _because(complaint: str) -> str:
    return f"; before: {complaint}" if complaint else ""


def _ready(doing: Doing) -> str:
    if probe := doing.limits.readiness:
        return f"for its readiness probe: {_probe(probe)}"
    if doing.routed:
        return f"until its port accepts connections, at most {BOOT_SECONDS} s"
    return f"until it has lived for {ALIVE_SECONDS:.0f} s"


def _probe(probe: Probe) -> str:
    if probe.http:
        return f"an answer to {probe.http.scheme.lower()} GET {probe.http.path}{_port(probe.http.port)}"
    if probe.exec:
        return f"its command {probe.exec.command[0]!r} has to end well" if probe.exec.command else "a command"
    port = probe.tcp.port if probe.tcp else probe.grpc.port if probe.grpc else None
    return f"a connection{_port(port)}"


def _port(port: int | None) -> str:
    return f" at port {port}" if port else " at its port"


def _next_steps(it: Explanation) -> Iterator[str]:
    if it.coming:
        listed = [f"{c.stage} → {c.name}: {', '.join(c.steps)}" for c in it.coming]
        yield "then " + "; ".join(listed)


def _bound(it: Explanation) -> Iterator[str]:
    if it.ends_by:
        left = _seconds((it.ends_by - it.now).total_seconds())
        yield f"whatever happens, it has ended within {left}, by {it.ends_by:%Y-%m-%d %H:%M:%S} UTC"


def _ago(now: datetime, then: datetime | None) -> str:
    return _seconds((now - then).total_seconds()) if then else "just now"


def _seconds(value: float) -> str:
    if value < 60:
        return f"{max(0.0, value):.1f} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours} h " if hours else "") + f"{minutes} min {seconds:02d} s"
