"""Carries out one claimed deployment: stages in order, builds before anything that runs is touched.

The runner executes the stored plan and decides nothing but order: what was finished before a crash is
skipped by the journal, what failed is undone, what had not begun is canceled.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Sequence
from itertools import pairwise

import msgspec
import structlog

from refloat.domain.deployment import Deployment, Target
from refloat.domain.errors import STORAGE, BuildFailed, Fenced, NotFound, RefloatError, StepFailed
from refloat.domain.progress import TERMINAL, Phase
from refloat.domain.revision import Level
from refloat.domain.services import Commit
from refloat.execution.capacity import widest
from refloat.execution.conclusion import conclude, conclude_with, outcome
from refloat.execution.journal import CancelRequested, Next
from refloat.execution.limits import DEADLINES, PARALLEL
from refloat.execution.logs import redact
from refloat.execution.means import Means
from refloat.execution.snapshot import Snapshot
from refloat.execution.steps import ServiceSteps
from refloat.planning.plan import Plan, ServicePlan, StagePlan, StepName
from refloat.planning.wanted import COMMIT
from refloat.store import resources
from refloat.store.database import Database, Transaction

log = structlog.get_logger()
_BUILD_STEPS = (StepName.BUILD,)


class Runner:
    """One deployment, from its claim or from where a former owner left it."""

    def __init__(self, database: Database, means: Means, plan: Plan, snapshot: Snapshot) -> None:
        self._database = database
        self._means = means
        self._journal = means.journal
        self._plan = plan
        self._snapshot = snapshot
        self._fields = dict(snapshot.fields)
        self._active: list[asyncio.Task[None]] = []
        self._tails: list[asyncio.Task[None]] = []
        self._retiring: set[str] = set()
        self._cleaning: set[asyncio.Task[None]] = set()
        self.ended_with: tuple[Target, ...] | None = None
        """Its services, once it is stored that it ended."""
        self._last: tuple[str, StepName] | None = None
        """The step whose end was the end of all."""
        self._canceled = False
        self._slots = asyncio.Semaphore(PARALLEL)
        self._building = asyncio.Semaphore(max(1, self.deployment.builds))

    @property
    def deployment(self) -> Deployment:
        return self._journal.deployment

    def cancel(self) -> None:
        """Interrupt what is under way; what has not begun will not. Once is enough: a second
        interruption would cut the cleaning up."""
        if self._canceled:
            return
        self._canceled = True
        self._interrupt(self._active)

    def _interrupt(self, tasks: Iterable[asyncio.Task[None]]) -> None:
        """All but this one, and those that clean up: cut off, they would be cleaned up after twice."""
        for task in tasks:
            if task is not asyncio.current_task() and task not in self._cleaning:
                task.cancel()

    async def begin(self, tx: Transaction) -> None:
        """Write down what is done first, in the unit of the claim, where nothing can come before it."""
        if self._unpinned():
            await self._journal.begin(tx, "", Next(StepName.PRECHECK))
            return
        if self._plan.stages and len((stage := self._plan.stages[0]).services) == 1:
            steps = self._steps_of(stage, stage.services[0])
            if steps.main:
                await self._journal.begin(tx, steps.service_id, steps.next(steps.main[0]))

    async def run(self) -> None:
        """To the end. Returns early, writing nothing, when another owner took over.

        Raises one of STORAGE when nothing could be written down; another runner may go on from there.

        Cancelling the task itself (a server that shuts down) abandons the work for the next owner.
        """
        try:
            await self._journal.load()
            try:
                await self._go_through_stages()
            except CancelRequested:
                self.cancel()
            if self._canceled or self._failed():
                await self._sweep()
            await asyncio.gather(*self._tails)
            await self._conclude()
        except Fenced:
            return
        finally:
            await self._abandon()

    async def _go_through_stages(self) -> None:
        if await self._precheck():
            for stage in self._plan.stages:
                if not await self._stage(stage):
                    return

    async def _abandon(self) -> None:
        left = [t for t in (*self._active, *self._tails) if not t.done()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    # -- before anything is touched

    async def _precheck(self) -> bool:
        """Give every service that was never pinned its version; False when one cannot be had."""
        unpinned = self._unpinned()
        if not unpinned or self._canceled:
            return not self._canceled
        output = await self._journal.step(
            "",
            StepName.PRECHECK,
            lambda: self._resolve(unpinned),
            DEADLINES[StepName.PRECHECK],
            completes=self._pin,
        )
        commits = msgspec.convert(output["commits"], dict[str, Commit])
        for service_id, commit in commits.items():
            self._fields[service_id] = {**self._fields[service_id], COMMIT: commit.id}
        errors = msgspec.convert(output["errors"], dict[str, str])
        for service_id, reason in errors.items():
            await self._journal.advance(service_id, Phase.BUILD_FAILED, reason, despite_cancel=False)
        return not errors

    def _unpinned(self) -> list[ServicePlan]:
        return [s for s in self._plan.services if StepName.BUILD in s.steps and not s.commit_id]

    async def _resolve(self, services: Iterable[ServicePlan]) -> dict[str, object]:
        commits: dict[str, object] = {}
        errors: dict[str, str] = {}

        async def one(service: ServicePlan) -> None:
            source = self._snapshot.services[service.service_id].service.git
            assert source is not None
            try:
                commit = await self._means.platform.builder.resolve(service.service_id, source)
            except RefloatError as error:
                errors[service.service_id] = str(error)
            else:
                commits[service.service_id] = msgspec.to_builtins(commit)

        await asyncio.gather(*(one(service) for service in services))
        return {"commits": commits, "errors": errors}

    async def _pin(self, tx: Transaction, output: dict[str, object]) -> None:
        for service_id, commit in msgspec.convert(output["commits"], dict[str, Commit]).items():
            with contextlib.suppress(NotFound):
                service = await resources.get_service(tx, service_id)
                if service.commit is None:
                    await resources.replace_resource(tx, msgspec.structs.replace(service, commit=commit))
            await self._journal.amend(tx, service_id, commit_id=commit.id, commit_message=commit.message)

    # -- stages

    async def _stage(self, stage: StagePlan) -> bool:
        """Run one stage; False when the deployment must not go on."""
        members = [self._steps_of(stage, s) for s in stage.services]
        building = [m for m in members if StepName.BUILD in m.plan.steps and self._open(m)]
        if not await self._together(building, self._build, stop_at_failure=True):
            return False
        return await self._together([m for m in members if self._tailing(m)], self._finish)

    def _steps_of(self, stage: StagePlan, service: ServicePlan) -> ServiceSteps:
        return ServiceSteps(
            self._means,
            service,
            stage.position,
            self._snapshot.services.get(service.service_id),
            self._snapshot.before.get(service.service_id),
            self._fields.get(service.service_id, {}),
            alone=len(stage.services) == 1,
            builds_after=widest(self._plan.stages[self._plan.stages.index(stage) + 1 :]),
        )

    def _open(self, steps: ServiceSteps) -> bool:
        return self._journal.target(steps.service_id).phase not in TERMINAL

    def _tailing(self, steps: ServiceSteps) -> bool:
        """Whether there is anything left to do: its outcome, or the retirement of the old revision."""
        return self._open(steps) or self._journal.target(steps.service_id).phase is Phase.DONE

    async def _together(
        self,
        members: Sequence[ServiceSteps],
        work: Callable[[ServiceSteps], Coroutine[None, None, None]],
        *,
        stop_at_failure: bool = False,
    ) -> bool:
        """Work on all members at once; whether all went well. Running ones finish when another fails,
        unless a failure makes their work useless."""
        if self._canceled:
            return False
        tasks = [asyncio.create_task(work(member)) for member in members]
        self._active += tasks
        pending = tasks
        try:
            while pending:
                await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                done = [task for task in pending if task.done()]
                pending = [task for task in pending if task not in done]
                for task in done:
                    if not (self._canceled and task.cancelled()):  # canceled before its first step
                        task.result()
                if stop_at_failure and self._failed():
                    self._interrupt(pending)
        finally:
            self._active = [task for task in self._active if task not in tasks]
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        return not self._canceled and not self._failed()

    def _failed(self) -> bool:
        bad = (Phase.FAILED, Phase.BUILD_FAILED, Phase.CANCELED)
        planned = {service.service_id for service in self._plan.services}
        return any(t.phase in bad for t in self._journal.targets if t.service_id in planned)

    async def _sweep(self) -> None:
        """Give up what is neither finished nor under way: built and not started, left by a former owner.

        What is done stays done: its old revision is retired, also when a former owner was at it.
        """
        await self._journal.drop_ahead("")
        for stage in self._plan.stages:
            for service in stage.services:
                steps = self._steps_of(stage, service)
                await self._give_up(steps)
                self._retire_later(steps)

    # -- one service

    async def _build(self, steps: ServiceSteps) -> None:
        await self._guarded(steps, _BUILD_STEPS, self._building, steps.following_build)

    async def _finish(self, steps: ServiceSteps) -> None:
        if self._open(steps):
            names = tuple(name for name in steps.main if name not in _BUILD_STEPS)
            await self._guarded(steps, names, self._slots, next(iter(steps.tail), None))
        self._retire_later(steps)

    def _retire_later(self, steps: ServiceSteps) -> None:
        done = self._journal.target(steps.service_id).phase is Phase.DONE
        if done and steps.tail and steps.service_id not in self._retiring:
            self._retiring.add(steps.service_id)
            self._tails.append(asyncio.create_task(self._retire(steps)))

    async def _guarded(
        self,
        steps: ServiceSteps,
        names: Sequence[StepName],
        slots: asyncio.Semaphore,
        following: StepName | None = None,
    ) -> None:
        """Do these steps, to be followed by another one at once; turn whatever goes wrong into the target's
        outcome."""
        try:
            if slots.locked() and self._journal.target(steps.service_id).phase is Phase.QUEUED:
                await self._journal.advance(steps.service_id, Phase.WAITING, despite_cancel=False)
            async with slots:
                if self._failed():
                    raise asyncio.CancelledError
                if failure := self._journal.failure(steps.service_id):
                    raise StepFailed(failure)
                for name, then in pairwise((*names, following)):
                    assert name
                    await steps.do(name, then, self._close)
                if not names or not steps.main:
                    await self._journal.pass_by(steps.service_id)
        except CancelRequested:
            self.cancel()
            await self._clean_up(self._give_up(steps))
        except asyncio.CancelledError:
            if not self._canceled and not self._failed():
                raise  # the server shuts down: the next owner goes on
            await self._clean_up(self._give_up(steps))
        except (Fenced, *STORAGE):
            raise
        except RefloatError as error:
            await self._clean_up(self._fail(steps, error))

    async def _clean_up(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._cleaning.add(task)
        await asyncio.shield(work)

    async def _give_up(self, steps: ServiceSteps) -> None:
        await self._journal.drop_ahead(steps.service_id)
        await self._journal.refresh(steps.service_id)
        target = self._journal.target(steps.service_id)
        if target.phase in TERMINAL:
            return
        if not self._canceled and (failure := self._journal.failure(steps.service_id)):
            await self._fail(steps, StepFailed(failure))  # a former owner could not write that down any more
            return
        reason = "canceled" if self._canceled else "another service of the deployment failed"
        serving = ""
        if target.phase not in (Phase.QUEUED, Phase.WAITING):
            await self._journal.advance(steps.service_id, Phase.CANCELING)
            await self._undo(steps)
            serving = await steps.serving_now() or ""
        await self._journal.advance(steps.service_id, Phase.CANCELED, reason, serving)

    async def _fail(self, steps: ServiceSteps, error: RefloatError) -> None:
        await self._journal.refresh(steps.service_id)
        if self._journal.begun(steps.service_id, StepName.SWITCH):
            self._journal.telemetry.swap_failed()
        log = error.log if isinstance(error, StepFailed) else ()
        secrets = steps.secrets
        lines = [(Level.ERROR, redact(line, secrets)) for line in log]
        if lines:
            await self._journal.tell(steps.service_id, "log", lines)
        await self._undo(steps)
        serving = await steps.serving_now()
        building = self._journal.target(steps.service_id).phase is Phase.BUILDING
        phase = Phase.BUILD_FAILED if building or isinstance(error, BuildFailed) else Phase.FAILED
        reason = redact(str(error), secrets) + _now_serves(serving, steps)
        await self._journal.advance(steps.service_id, phase, reason, serving or "")

    async def _undo(self, steps: ServiceSteps) -> None:
        """Return to what was applied; an undo that fails is told and leaves the error as it is."""
        if not (steps.touched or steps.executing):
            return
        try:
            await steps.undo()
        except (Fenced, *STORAGE):
            raise
        except RefloatError as error:
            line = redact(f"cannot return: {error}", steps.secrets)
            await self._journal.tell(steps.service_id, "undo", [(Level.ERROR, line)])

    async def _retire(self, steps: ServiceSteps) -> None:
        """After a verified switch: cleaning up may warn, it cannot change the outcome."""
        for name, following in pairwise((*steps.tail, None)):
            assert name
            try:
                await steps.do(name, following, self._close, after_outcome=True)
            except StepFailed as error:
                await self._journal.tell(steps.service_id, name, [(Level.WARNING, str(error))])

    # -- the end

    async def _close(self, tx: Transaction, service_id: str, name: StepName) -> None:
        """The deployment ends in the unit of its last step's end, if that was all that was left."""
        if await conclude_with(tx, self._journal, self._plan, service_id, name, self._means.clock):
            self._last = service_id, name

    async def _conclude(self) -> None:
        if self._last and self._journal.done(*self._last):
            self._ended(Phase.DONE)
            return
        async with self._database.transaction() as tx:
            canceled = await self._journal.own_all(tx) or self._canceled  # also before it was told to us
            targets = self._journal.targets
            phase, reason = outcome(targets, canceled)
            await conclude(tx, self.deployment, phase, reason, targets, self._means.clock)
        self._ended(phase, reason)

    def _ended(self, phase: Phase, reason: str = "") -> None:
        self.ended_with = self._journal.targets
        if phase is not Phase.DONE:
            log.warning("a deployment ended", outcome=str(phase), reason=reason)
        self._journal.telemetry.ended(self.deployment, phase, self._means.clock.now())


def _now_serves(serving: str | None, steps: ServiceSteps) -> str:
    """What to tell of what was seen; nothing when nobody could see."""
    if not steps.plan.routed or serving is None:
        return ""
    if serving:
        return f"; deployment {_number(serving)} serves now"
    if steps.plan.replaces:
        return f"; nothing serves yet, deployment {_number(steps.plan.replaces)} is brought back"
    return "; nothing serves now"


def _number(revision_key: str) -> str:
    return revision_key.rpartition(".")[2]
