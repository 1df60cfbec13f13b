"""The write-ahead journal of one running deployment.

A step is written down before it is done and again when it ended; `folded` reads that back. Every write
carries owner and fence, so a replaced owner writes nothing more.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import msgspec
import structlog
from structlog.contextvars import bound_contextvars

from refloat.clock import Clock
from refloat.domain.deployment import Attempt, Deployment, Outcome, Step, Target
from refloat.domain.errors import STORAGE, Fenced, StepFailed
from refloat.domain.progress import Phase
from refloat.domain.revision import Level
from refloat.execution.crash import CrashPoints, Moment
from refloat.execution.deadline import Overdue, within
from refloat.execution.folded import Folded, Output, come_to
from refloat.execution.targets import move_target, tell
from refloat.execution.telemetry import Silent, Telemetry
from refloat.planning.plan import StepName
from refloat.store import deployments as store
from refloat.store import ownership
from refloat.store.database import Database, Transaction

Lines = Sequence[tuple[Level, str]]
Effect = Callable[[], Coroutine[Any, Any, Output]]
InTransaction = Callable[[Transaction, Output], Coroutine[Any, Any, None]]

log = structlog.get_logger()


class Next(msgspec.Struct, frozen=True):
    """A step that begins, what is shown from its beginning, and how many builds the deployment needs from
    then on: what it needs no more is free for other deployments."""

    name: StepName
    phase: Phase | None = None
    builds: int | None = None


class CancelRequested(Exception):
    """A cancel was recorded before this step began; it has not begun."""


class Journal(Folded):
    """Writes what is begun, what ends and how, for one claimed deployment."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        deployment: Deployment,
        owner: str,
        crash: CrashPoints,
        telemetry: Telemetry | None = None,
        *,
        fresh: Sequence[Target] | None = None,
    ) -> None:
        """`fresh` are the targets of a deployment of which nothing else is written down yet."""
        super().__init__(database, deployment, fresh)
        self.telemetry = telemetry or Silent()
        self._clock = clock
        self._owner = owner
        self._crash = crash
        self._builds = deployment.builds
        self._since: dict[tuple[str, str], float] = {}
        self._ahead: set[tuple[str, str]] = set()
        """Written down together with the claim, or with the end of the step before."""
        self._first: tuple[str, str] | None = None
        self._current: Target | None = None
        """A target as the unit of work under way has read or put it."""
        self._last_lines: dict[tuple[str, str], Lines] = {}

    async def step(
        self,
        service_id: str,
        name: StepName,
        effect: Effect,
        deadline: float,
        *,
        phase: Phase | None = None,
        builds: int | None = None,
        completes: InTransaction | None = None,
        despite_cancel: bool = False,
        then: Callable[[], Next] | None = None,
    ) -> Output:
        """Do a step once: a finished one returns its output again, another one is begun and ended.

        `phase` is shown from its beginning; `completes` writes what belongs to its success into the same
        transaction as its end. Past the deadline (seconds) it fails as StepFailed. After a cancel only
        steps that clean up begin (`despite_cancel`); others raise CancelRequested. The step that comes
        `then` is written down in the same transaction, and its caller begins it next; what it is can be told
        once this one has ended.
        """
        if (finished := self.output(service_id, name)) is not None:
            return finished
        with bound_contextvars(step=str(name), **({"service": service_id} if service_id else {})):
            await self._open(service_id, Next(name, phase, builds), despite_cancel)
            return await self._do(service_id, name, effect, deadline, completes, then)

    async def _open(self, service_id: str, it: Next, despite_cancel: bool) -> None:
        """Write a step down, unless that was done with the claim or the end of the one before."""
        self._crash.hit(it.name, Moment.BEFORE)
        if (key := (service_id, str(it.name))) in self._ahead:
            if key == self._first and await self.assert_ours() and not despite_cancel:
                raise CancelRequested  # since the claim
            self._ahead.remove(key)
            return
        async with self._database.transaction() as tx:
            canceled, target = await self._own_target(tx, service_id)
            if canceled and not despite_cancel:
                raise CancelRequested
            step = await self._begin(tx, service_id, it, target)
        self._steps[service_id, it.name] = step

    async def begin(self, tx: Transaction, service_id: str, it: Next) -> None:
        """Write down the first step of all, in the unit of the claim; its caller begins it next."""
        target = self._targets.get(service_id)
        self._steps[service_id, it.name] = await self._begin(tx, service_id, it, target)
        self._first = service_id, str(it.name)
        self._ahead.add(self._first)

    async def _do(
        self,
        service_id: str,
        name: StepName,
        effect: Effect,
        deadline: float,
        completes: InTransaction | None,
        then: Callable[[], Next] | None,
    ) -> Output:
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
        await self._end(service_id, name, Outcome.DONE, output, completes, then)
        self._crash.hit(name, Moment.AFTER)
        return output

    async def _bounded(self, name: StepName, effect: Effect, deadline: float) -> Output:
        """Run the effect against the deadline of the deployment's own clock."""
        try:
            return await within(self._clock, effect(), deadline)
        except Overdue:
            raise StepFailed(f"step {name} did not end within {deadline:.0f} s") from None

    async def _begin(self, tx: Transaction, service_id: str, it: Next, target: Target | None) -> Step:
        """Write a step down as begun; a service that waited for its stage has a place to work now."""
        earlier = self._steps.get((service_id, it.name))
        if earlier is None:
            self._ordinal += 1
        step = Step(
            deployment_id=self.deployment.id,
            service_id=service_id,
            name=it.name,
            ordinal=earlier.ordinal if earlier else self._ordinal,
            attempt=earlier.attempt + 1 if earlier else 1,
            fence=self.deployment.fence,
            started_at=self._clock.now(),
            output=come_to(earlier),
        )
        await store.begin_step(tx, step)
        if it.builds is not None and it.builds < self._builds:
            self._builds = it.builds
            await store.set_builds(tx, self.deployment.id, it.builds)
        if target:
            waiting = (Phase.WAITING,) if target.phase is Phase.QUEUED else ()
            for phase in (*waiting, *([it.phase] if it.phase else [])):
                target = await self._move(tx, target, phase)
        return step

    async def _end(
        self,
        service_id: str,
        name: str,
        outcome: Outcome,
        output: Output,
        completes: InTransaction | None = None,
        then: Callable[[], Next] | None = None,
    ) -> None:
        now, key = self._clock.now(), (service_id, name)
        noted = self._steps[key].output if outcome is Outcome.CANCELED else None
        text = noted or msgspec.json.encode(output).decode()
        async with self._database.transaction() as tx:
            canceled, target = await self._own_target(tx, service_id)
            await self._tell(tx, service_id, name, self._last_lines.pop(key, ()))
            if completes:
                await completes(tx, output)
            await store.end_step(tx, self.deployment.id, service_id, name, outcome, text, now)
            if then and not canceled and self.output(service_id, (following := then()).name) is None:
                # Known before the commit, so that whoever is interrupted in that ends it.
                self._steps[service_id, following.name] = await self._begin(tx, service_id, following, target)
                self._ahead.add((service_id, following.name))
        begun = self._steps[service_id, name]
        seconds = self._clock.monotonic() - self._since.get(key, self._clock.monotonic())
        self.telemetry.step_ended(StepName(name), outcome, seconds)
        self._steps[service_id, name] = msgspec.structs.replace(
            begun, outcome=outcome, output=text, finished_at=now
        )

    async def note(self, service_id: str, name: StepName, attempt: Attempt) -> None:
        """Tell readers, and whoever goes on, how often a step that is under way has tried."""
        text, key = msgspec.json.encode(attempt).decode(), (service_id, name)
        async with self._database.transaction() as tx:
            await self.own(tx)
            await store.note_step(tx, self.deployment.id, service_id, name, text)
        self._steps[key] = msgspec.structs.replace(self._steps[key], output=text)

    async def own(self, tx: Transaction) -> bool:
        """Raises Fenced unless we own it; tells whether a cancel is asked for."""
        return (await self._own_target(tx, ""))[0]

    async def assert_ours(self) -> bool:
        """Raises Fenced unless we own it at this moment: before an effect that others must not undo. Tells
        whether a cancel is asked for."""
        it = self.deployment
        with self._told_of_refusals():
            return await ownership.assert_owned(self._database.read, it.id, self._owner, it.fence)

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
            canceled, target = await self._own_target(tx, service_id)
            if canceled and not despite_cancel:
                raise CancelRequested
            await self._move(tx, target or self._targets[service_id], phase, reason, serving)

    async def _move(
        self, tx: Transaction, target: Target, phase: Phase, reason: str = "", serving: str = ""
    ) -> Target:
        if target.phase is not phase or reason:
            target = await move_target(
                tx, self.deployment, target, phase, self._clock, reason=reason, serving=serving
            )
            self._keep(target)
        return target

    async def _own_target(self, tx: Transaction, service_id: str) -> tuple[bool, Target | None]:
        """As `own`, with the target as it is now: a cancel may have moved it since we read it."""
        it = self.deployment
        with self._told_of_refusals():
            canceled, target = await ownership.owned_target(tx, it.id, service_id, self._owner, it.fence)
        self._current = target
        return canceled, target

    @contextlib.contextmanager
    def _told_of_refusals(self) -> Iterator[None]:
        try:
            yield
        except Fenced:
            self.telemetry.refused()
            raise

    async def refresh(self, service_id: str) -> None:
        """Read a target again after somebody else (a cancel) moved it: behind what is on its way to the
        disk, because an end whose writer was interrupted is stored all the same."""
        async with self._database.transaction() as tx:
            if target := await store.find_target(tx, self.deployment.id, service_id):
                self._targets[service_id] = target

    async def own_all(self, tx: Transaction) -> bool:
        """As `own`; reads all targets again."""
        it = self.deployment
        with self._told_of_refusals():
            canceled, targets = await ownership.owned_targets(tx, it.id, self._owner, it.fence)
        self._targets |= {target.service_id: target for target in targets}
        return canceled

    async def amend(self, tx: Transaction, service_id: str, **facts: Any) -> None:
        """Store facts about a target that are not progress."""
        target = msgspec.structs.replace(await self._stored(tx, service_id), **facts)
        await store.put_target(tx, target)
        self._keep(target)

    async def _stored(self, tx: Transaction, service_id: str) -> Target:
        """The target as it is now: a cancel may have moved it since an earlier unit of work."""
        if self._current and self._current.service_id == service_id:
            return self._current
        return await store.find_target(tx, self.deployment.id, service_id) or self._targets[service_id]

    def _keep(self, target: Target) -> None:
        self._targets[target.service_id] = self._current = target

    async def complete(self, tx: Transaction, service_id: str) -> None:
        """The target is done; part of a transaction of its last step."""
        await self._move(tx, await self._stored(tx, service_id), Phase.DONE)

    async def tell(self, service_id: str, step: str, lines: Lines) -> None:
        """Append log lines, in one transaction."""
        async with self._database.transaction() as tx:
            await self.own(tx)
            await self._tell(tx, service_id, step, lines)

    async def pass_by(self, service_id: str) -> None:
        """A target with nothing to do is done, unless a cancel was asked for."""
        async with self._database.transaction() as tx:
            canceled, target = await self._own_target(tx, service_id)
            if canceled:
                raise CancelRequested
            target = target or self._targets[service_id]
            waiting = (Phase.WAITING,) if target.phase is Phase.QUEUED else ()
            for phase in (*waiting, Phase.RUNNING, Phase.DONE):
                target = await self._move(tx, target, phase)

    async def drop_ahead(self, service_id: str) -> None:
        """End what was written down and will not be done."""
        for key in [key for key in self._ahead if key[0] == service_id]:
            self._ahead.remove(key)
            await self._end(service_id, key[1], Outcome.CANCELED, {})

    def tell_at_the_end(self, service_id: str, step: str, lines: Lines) -> None:
        """Append log lines of a step that ends at once, in the transaction of its end."""
        self._last_lines[service_id, step] = lines

    async def _tell(self, tx: Transaction, service_id: str, step: str, lines: Lines) -> None:
        for level, line in lines:
            await tell(tx, self.deployment, service_id, step, level, line, self._clock)
