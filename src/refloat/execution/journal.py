"""The write-ahead journal of one running deployment.

A step is written down before it is done and again when it ended; folding these lines is all that a
resumed runner needs. Every write carries owner and fence, so a replaced owner writes nothing more.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import msgspec
import structlog
from structlog.contextvars import bound_contextvars

from refloat.clock import Clock
from refloat.domain.deployment import Attempt, Deployment, Event, Outcome, Step, Target
from refloat.domain.errors import STORAGE, Fenced, StepFailed
from refloat.domain.progress import Phase, advance
from refloat.domain.revision import Level
from refloat.execution.crash import CrashPoints, Moment
from refloat.execution.deadline import Overdue, within
from refloat.execution.telemetry import Silent, Telemetry
from refloat.planning.plan import StepName
from refloat.store import deployments as store
from refloat.store.database import Database, Reader, Transaction

Output = dict[str, object]
Effect = Callable[[], Coroutine[Any, Any, Output]]
InTransaction = Callable[[Transaction, Output], Coroutine[Any, Any, None]]

log = structlog.get_logger()


class CancelRequested(Exception):
    """A cancel was recorded before this step began; it has not begun."""


class Journal:
    """What was begun, what ended and how, for one claimed deployment."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        deployment: Deployment,
        owner: str,
        crash: CrashPoints,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.deployment = deployment
        self.telemetry = telemetry or Silent()
        self._database = database
        self._clock = clock
        self._owner = owner
        self._crash = crash
        self._steps: dict[tuple[str, str], Step] = {}
        self._targets: dict[str, Target] = {}
        self._ordinal = 0
        self._since: dict[tuple[str, str], float] = {}

    async def load(self) -> None:
        """Fold what an earlier owner wrote."""
        for step in await store.steps(self._database.read, self.deployment.id):
            self._steps[step.service_id, step.name] = step
            self._ordinal = max(self._ordinal, step.ordinal)
        for target in await store.targets(self._database.read, self.deployment.id):
            self._targets[target.service_id] = target

    def target(self, service_id: str) -> Target:
        return self._targets[service_id]

    @property
    def targets(self) -> tuple[Target, ...]:
        return tuple(self._targets.values())

    def output(self, service_id: str, name: StepName) -> Output | None:
        """What a step left when it was done; None if it was not."""
        step = self._steps.get((service_id, name))
        if step is None or step.outcome is not Outcome.DONE:
            return None
        return msgspec.json.decode(step.output, type=dict[str, object])

    def failure(self, service_id: str) -> str:
        """Why a service failed, if its undoing was begun already (by a former owner); else ""."""
        return self.complaint(service_id) if self.begun(service_id, StepName.REVERT) else ""

    def complaint(self, service_id: str) -> str:
        """What the first failed step of a service said; "" when none failed."""
        failed = [
            s for s in self._steps.values() if s.service_id == service_id and s.outcome is Outcome.FAILED
        ]
        return str(msgspec.json.decode(failed[0].output).get("error")) if failed else ""

    def begun(self, service_id: str, name: StepName) -> bool:
        """Whether a step was ever begun."""
        return (service_id, name) in self._steps

    async def step(
        self,
        service_id: str,
        name: StepName,
        effect: Effect,
        deadline: float,
        *,
        phase: Phase | None = None,
        completes: InTransaction | None = None,
        despite_cancel: bool = False,
    ) -> Output:
        """Do a step once: a finished one returns its output again, another one is begun and ended.

        `phase` is shown from its beginning; `completes` writes what belongs to its success into the same
        transaction as its end. Past the deadline (seconds) it fails as StepFailed. After a cancel only
        steps that clean up begin (`despite_cancel`); others raise CancelRequested.
        """
        if (finished := self.output(service_id, name)) is not None:
            return finished
        with bound_contextvars(step=str(name), **({"service": service_id} if service_id else {})):
            return await self._do(service_id, name, effect, deadline, phase, completes, despite_cancel)

    async def _do(
        self,
        service_id: str,
        name: StepName,
        effect: Effect,
        deadline: float,
        phase: Phase | None,
        completes: InTransaction | None,
        despite_cancel: bool,
    ) -> Output:
        self._crash.hit(name, Moment.BEFORE)
        await self._begin(service_id, name, phase, despite_cancel)
        self._crash.arm(name)
        self._since[service_id, name] = self._clock.monotonic()
        try:
            output = await self._bounded(name, effect, deadline)
        except asyncio.CancelledError:
            await asyncio.shield(self._end(service_id, name, Outcome.CANCELED, {}))
            raise
        except (Fenced, *STORAGE):  # nothing can be written down, or not by us
            raise
        except Exception as error:
            log.warning("a step failed", error=type(error).__name__)  # its words may hold secrets
            await self._end(service_id, name, Outcome.FAILED, {"error": str(error)})
            raise
        self._crash.hit(name, Moment.DURING)
        await self._end(service_id, name, Outcome.DONE, output, completes)
        self._crash.hit(name, Moment.AFTER)
        return output

    async def _bounded(self, name: StepName, effect: Effect, deadline: float) -> Output:
        """Run the effect against the deadline of the deployment's own clock."""
        try:
            return await within(self._clock, effect(), deadline)
        except Overdue:
            raise StepFailed(f"step {name} did not end within {deadline:.0f} s") from None

    async def _begin(
        self, service_id: str, name: StepName, phase: Phase | None, despite_cancel: bool
    ) -> None:
        earlier = self._steps.get((service_id, name))
        if earlier is None:
            self._ordinal += 1
        step = Step(
            deployment_id=self.deployment.id,
            service_id=service_id,
            name=name,
            ordinal=earlier.ordinal if earlier else self._ordinal,
            attempt=earlier.attempt + 1 if earlier else 1,
            fence=self.deployment.fence,
            started_at=self._clock.now(),
        )
        async with self._database.transaction() as tx:
            if await self.own(tx) and not despite_cancel:
                raise CancelRequested
            await store.begin_step(tx, step)
            if phase and service_id:
                await self._advance(tx, service_id, phase)
        self._steps[service_id, name] = step

    async def _end(
        self,
        service_id: str,
        name: StepName,
        outcome: Outcome,
        output: Output,
        completes: InTransaction | None = None,
    ) -> None:
        text = msgspec.json.encode(output).decode()
        now = self._clock.now()
        async with self._database.transaction() as tx:
            await self.own(tx)
            await store.end_step(tx, self.deployment.id, service_id, name, outcome, text, now)
            if completes:
                await completes(tx, output)
        begun = self._steps[service_id, name]
        self.telemetry.step_ended(name, outcome, self._clock.monotonic() - self._since[service_id, name])
        self._steps[service_id, name] = msgspec.structs.replace(
            begun, outcome=outcome, output=text, finished_at=now
        )

    async def note(self, service_id: str, name: StepName, attempt: Attempt) -> None:
        """Tell readers how often a step that is under way has tried."""
        text = msgspec.json.encode(attempt).decode()
        async with self._database.transaction() as tx:
            await self.own(tx)
            await store.note_step(tx, self.deployment.id, service_id, name, text)

    async def own(self, tx: Transaction) -> bool:
        """Raises Fenced unless we own it; tells whether a cancel is asked for."""
        return await self._ours(tx)

    async def reserve_builds(self, builds: int) -> None:
        """How many may be under way from now on; the others are free for other deployments."""
        async with self._database.transaction() as tx:
            await self.own(tx)
            await store.set_builds(tx, self.deployment.id, builds)

    async def assert_ours(self) -> None:
        """Raises Fenced unless we own it at this moment: before an effect that others must not undo."""
        await self._ours(self._database.read)

    async def _ours(self, read: Reader) -> bool:
        try:
            return await store.assert_owned(read, self.deployment.id, self._owner, self.deployment.fence)
        except Fenced:
            self.telemetry.refused()
            raise

    async def advance(
        self,
        service_id: str,
        phase: Phase,
        reason: str = "",
        serving: str = "",
        *,
        despite_cancel: bool = True,
    ) -> None:
        """Move a target along an arrow, and tell it; what begins work raises CancelRequested instead."""
        async with self._database.transaction() as tx:
            if await self.own(tx) and not despite_cancel:
                raise CancelRequested
            await self._advance(tx, service_id, phase, reason, serving)

    async def _advance(
        self, tx: Transaction, service_id: str, phase: Phase, reason: str = "", serving: str = ""
    ) -> None:
        target = await self._stored(tx, service_id)
        if target.phase is phase and not reason:
            return
        self._targets[service_id] = await move_target(
            tx, self.deployment, target, phase, self._clock, reason=reason, serving=serving
        )

    async def refresh(self, service_id: str | None = None) -> None:
        """Read a target again after somebody else (a cancel) moved it; all of them when nothing is under
        way: others may have moved and not been committed yet."""
        for target in await store.targets(self._database.read, self.deployment.id):
            if service_id in (None, target.service_id):
                self._targets[target.service_id] = target

    async def amend(self, tx: Transaction, service_id: str, **facts: Any) -> None:
        """Store facts about a target that are not progress."""
        target = msgspec.structs.replace(await self._stored(tx, service_id), **facts)
        await store.put_target(tx, target)
        self._targets[service_id] = target

    async def _stored(self, tx: Transaction, service_id: str) -> Target:
        """The target as it is now: a cancel may have moved it since we read it."""
        return await store.find_target(tx, self.deployment.id, service_id) or self._targets[service_id]

    async def complete(self, tx: Transaction, service_id: str) -> None:
        """The target is done; part of a transaction of its last step."""
        await self._advance(tx, service_id, Phase.DONE)

    async def tell(self, service_id: str, step: str, lines: Iterable[tuple[Level, str]]) -> None:
        """Append log lines, in one transaction."""
        async with self._database.transaction() as tx:
            await self.own(tx)
            for level, line in lines:
                await tell(tx, self.deployment, service_id, step, level, line, self._clock)


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
