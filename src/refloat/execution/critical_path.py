"""The chain of steps that determined how long a deployment took: a pure function of its journal.

Read backwards: what ended last, what that had to wait for, and so on to the beginning. What lies between is
a segment too, so that the segments cover the time from the request to the end without gap or overlap.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from refloat.domain.deployment import Deployment, Outcome, Step
from refloat.execution.limits import PARALLEL
from refloat.planning.plan import Plan, StepName

_Names = tuple[str, str]


class Kind(StrEnum):
    """What a segment of time went to."""

    QUEUED = "queued"
    """From the request until it began: behind others, or until a server looked."""
    STEP = "step"
    BETWEEN = "between"
    """From one step to the next: writing down, and choosing what is next."""
    TAKEOVER = "takeover"
    """Until a step was begun again, and its earlier attempt: a server stopped."""
    CONCLUDING = "concluding"
    """From the last step to the end."""


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """Time in which one thing was waited for. A wait names the step that it came before."""

    kind: Kind
    started_at: datetime
    ended_at: datetime
    service_id: str = ""
    name: str = ""
    stage: str = ""
    step: str = ""
    outcome: Outcome | None = None

    @property
    def seconds(self) -> float:
        return (self.ended_at - self.started_at) / timedelta(seconds=1)


def critical_path(deployment: Deployment, steps: Sequence[Step], plan: Plan | None) -> tuple[Segment, ...]:
    """Of a deployment that ended: segments from its request to its end, each beginning where the one
    before ended. Clocks that went back make segments empty, never negative."""
    assert deployment.finished_at is not None
    start, end = deployment.created_at, max(deployment.created_at, deployment.finished_at)
    began = min(max(start, deployment.started_at or end), end)
    chain = _chain(steps, plan, end) if plan else []
    return tuple(s for s in _tiled(start, began, end, chain, _names(plan)) if _counts(s))


def _counts(segment: Segment) -> bool:
    """Waits of no length are left out; steps are always named."""
    return segment.kind is Kind.STEP or segment.ended_at > segment.started_at


class _Order:
    """Which steps a step had to wait for, by the plan."""

    def __init__(self, plan: Plan, steps: Sequence[Step]) -> None:
        self._stage = {s.service_id: n for n, stage in enumerate(plan.stages) for s in stage.services}
        self._crowded = {n for n, stage in enumerate(plan.stages) if len(stage.services) > PARALLEL}
        tails = {s.service_id: _tail(s.steps) for s in plan.services}
        holding = [s for s in steps if s.name not in tails.get(s.service_id, ())]
        self._holding = {(s.service_id, s.name) for s in holding}
        self._first: dict[tuple[str, bool], Step] = {}  # of each service, of its build and of what follows
        self._last: dict[tuple[str, bool], Step] = {}
        for step in sorted(holding, key=lambda step: step.ordinal):
            part = step.service_id, step.name == StepName.BUILD
            self._first.setdefault(part, step)
            self._last[part] = step

    def before(self, later: Step, steps: Sequence[Step]) -> list[Step]:
        """Those of `steps` without whose end the step would not have begun."""
        if later is not self._first.get((later.service_id, later.name == StepName.BUILD)):
            return [s for s in steps if s.service_id == later.service_id and s.ordinal < later.ordinal]
        return [s for s in steps if (s.service_id, s.name) in self._holding and self._opens(s, later)]

    def _opens(self, earlier: Step, later: Step) -> bool:
        """For the first step of a service in its part of a stage: its own build and all others come before
        what follows them, earlier stages before both. In a large stage, and where builds take turns, a place
        had to become free."""
        is_build = earlier.name == StepName.BUILD
        one, two = self._stage.get(earlier.service_id, -1), self._stage.get(later.service_id, -1)
        if one != two or not earlier.service_id:
            return one < two
        if is_build != (later.name == StepName.BUILD):
            return is_build
        return (is_build or two in self._crowded) and earlier is self._last[earlier.service_id, is_build]


def _tail(steps: Sequence[StepName]) -> frozenset[str]:
    """What follows a verified switch holds nothing up but the end."""
    return frozenset(steps[steps.index(StepName.VERIFY) + 1 :]) if StepName.VERIFY in steps else frozenset()


def _chain(steps: Sequence[Step], plan: Plan, end: datetime) -> list[Step]:
    """The steps of the path, the last one first."""
    order, left, found = _Order(plan, steps), list(steps), list[Step]()
    current = max(left, key=lambda step: _finished(step, end), default=None)
    while current is not None:
        found.append(current)
        left.remove(current)
        started = current.started_at
        before = [s for s in order.before(current, left) if _finished(s, end)[0] <= started]
        current = max(before, key=lambda step: _finished(step, end), default=None)
    return found


def _finished(step: Step, end: datetime) -> tuple[datetime, int]:
    """One whose end was never written down lasted to the end."""
    return step.finished_at or end, step.ordinal


def _tiled(
    start: datetime, began: datetime, end: datetime, chain: Sequence[Step], names: Mapping[str, _Names]
) -> Iterator[Segment]:
    yield Segment(kind=Kind.QUEUED, started_at=start, ended_at=began)
    at = began
    for step in reversed(chain):
        name, stage = names.get(step.service_id, ("", ""))
        starts = min(max(at, step.started_at), end)
        own = Segment(
            kind=Kind.STEP,
            started_at=starts,
            ended_at=min(max(starts, step.finished_at or end), end),
            service_id=step.service_id,
            name=name,
            stage=stage,
            step=step.name,
            outcome=step.outcome,
        )
        wait = Kind.TAKEOVER if step.attempt > 1 else Kind.BETWEEN
        yield msgspec.structs.replace(own, kind=wait, started_at=at, ended_at=starts, outcome=None)
        yield own
        at = own.ended_at
    yield Segment(kind=Kind.CONCLUDING, started_at=at, ended_at=end)


def _names(plan: Plan | None) -> dict[str, _Names]:
    """Name and stage of every service."""
    stages = plan.stages if plan else ()
    return {s.service_id: (s.name, stage.name) for stage in stages for s in stage.services}


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What took another time than in an earlier deployment. `before` None: it was not done then."""

    kind: Kind
    service_id: str
    name: str
    step: str
    seconds: float
    before: float | None

    @property
    def more(self) -> float:
        """Seconds that it took longer."""
        return self.seconds - (self.before or 0.0)


def changes(path: Sequence[Segment], earlier: Sequence[Segment], steps: Sequence[Step]) -> tuple[Change, ...]:
    """What the path spent its time on, against an earlier deployment: its path and all its `steps`. The
    largest difference first."""
    took = {(s.service_id, s.name): _took(s) for s in steps}
    waits = _sums(earlier)
    found = [
        Change(
            kind=kind,
            service_id=service_id,
            name=name,
            step=step,
            seconds=seconds,
            before=took.get((service_id, step)) if kind is Kind.STEP else waits.get((kind, "", "", ""), 0.0),
        )
        for (kind, service_id, name, step), seconds in _sums(path).items()
    ]
    return tuple(sorted(found, key=lambda change: -abs(change.more)))


def _took(step: Step) -> float | None:
    return (step.finished_at - step.started_at) / timedelta(seconds=1) if step.finished_at else None


def _sums(path: Sequence[Segment]) -> dict[tuple[Kind, str, str, str], float]:
    """Steps by themselves, waits of one kind together."""
    sums: dict[tuple[Kind, str, str, str], float] = {}
    for it in path:
        key = (it.kind, it.service_id, it.name, it.step) if it.kind is Kind.STEP else (it.kind, "", "", "")
        sums[key] = sums.get(key, 0.0) + it.seconds
    return sums
