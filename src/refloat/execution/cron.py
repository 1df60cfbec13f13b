"""Jobs by the clock: each instant of a schedule begins one run of what is applied.

A run is written down under its instant before it begins, and its command runs under a key of that instant:
a server that dies is followed by one that goes on with it. Runs of one job never overlap. They are not
deployments, and go on beside them.

While nobody was there, instants pass. The newest one is caught up with if it is at most `LATE_SECONDS` ago;
an older one is recorded as missed, and those before it are not made up for.
"""

import asyncio
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import msgspec
import structlog

from refloat.clock import Clock
from refloat.domain.deployment import Attempt
from refloat.domain.errors import STORAGE, CommandStopped, Fenced, RefloatError
from refloat.domain.ids import built_in_id
from refloat.domain.replicas import Term
from refloat.domain.resources import Environment
from refloat.domain.revision import Level, Ran
from refloat.domain.timetable import CronRun, RunOutcome, Timetable, name_of
from refloat.execution.applied import Applied, Everywhere
from refloat.execution.executing import Attempts, repeated
from refloat.execution.logs import redact
from refloat.execution.looks import looked
from refloat.execution.places import Elsewhere, Platforms, platform_of
from refloat.execution.platform import Platform
from refloat.execution.revisions import in_hands_of
from refloat.store import deployments as store
from refloat.store import facts, resources
from refloat.store.database import Database, Reader
from refloat.store.sealing import Sealer

LATE_SECONDS = 600.0
LOOK_SECONDS = 5.0
KEPT_RUNS = 20
"""Of each job; older ones are forgotten."""
_KEPT_LINES = 50
_STOPPED = "it was stopped"

log = structlog.get_logger()


@dataclass
class _Going:
    """A run, where its command runs, and who waits for it here."""

    platform: Platform
    run: CronRun
    repeats: int
    task: asyncio.Task[None] = field(init=False)

    async def forget(self) -> None:
        """End its commands, and leave nothing of them."""
        for attempt in range(1, max(self.run.attempts, self.repeats + 1) + 1):
            await self.platform.engine.forget_run(_key(self.run, attempt))


class CronRuns:
    """One loop over every applied job that has a timetable; a task for each run that goes on."""

    def __init__(
        self, database: Database, sealer: Sealer, clock: Clock, platforms: Platforms, term: Term | None = None
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._clock = clock
        self._platforms = platforms
        self._term = term
        self._going: dict[str, _Going] = {}
        self._everywhere = Everywhere()

    async def run(self) -> None:
        """Until cancelled; runs that go on are left for the next owner."""
        try:
            while True:
                await looked(self.look(), "jobs by the clock could not be looked at")
                await self._clock.sleep(min(LOOK_SECONDS, _to_the_next_minute(self._clock.now())))
        finally:
            await _left([it.task for it in self._going.values()])

    def going(self) -> tuple[asyncio.Task[None], ...]:
        """The runs that go on here."""
        return tuple(it.task for it in self._going.values())

    async def look(self) -> None:
        """Begin what is due, go on with what a dead server left, end what is not wanted any more."""
        everything = await self._everywhere.read(self._database.read)
        timed = {m.service_id: m for members in everything.values() for m in members if m.timetable}
        self._going = {key: it for key, it in self._going.items() if not it.task.done()}
        for service_id in self._going.keys() - timed.keys():
            going = self._going.pop(service_id)
            await _left([going.task])
            await self._cancel(going)
        for service_id, member in timed.items():
            if service_id not in self._going:
                await self._consider(member)

    async def _consider(self, member: Applied) -> None:
        """One job; what is wrong with it does not hold up the others."""
        try:
            await self._begin(member)
        except STORAGE:
            raise
        except RefloatError as error:
            log.error("a job by the clock could not be run", job=member.service_id, reason=str(error))

    async def _begin(self, member: Applied) -> None:
        read, timetable = self._database.read, member.timetable
        assert timetable is not None
        environment = await resources.find(read, Environment, member.environment_id)
        if environment is None:
            return
        try:
            platform = await platform_of(read, self._platforms, environment)
        except Elsewhere:  # a server of its node runs it
            return
        runs = sorted(await resources.children(read, CronRun, member.service_id), key=_instant)
        run = next((it for it in runs if it.outcome is None), None)
        if run and run.scheduled_at < timetable.since:
            await self._cancel(_Going(platform, run, timetable.repeats))
            return
        run = run or await self._due(member.service_id, timetable, runs)
        await self._forget(platform, timetable, runs[:-KEPT_RUNS])
        if run:
            going = _Going(platform, run, timetable.repeats)
            going.task = asyncio.create_task(self._execute(platform, member, timetable, run))
            self._going[member.service_id] = going

    async def _due(self, job_id: str, timetable: Timetable, runs: list[CronRun]) -> CronRun | None:
        """A new run, written down, if an instant passed since the last one."""
        now = self._clock.now()
        instant = timetable.latest(now)
        last = max([timetable.since, *(run.scheduled_at for run in runs)])
        if instant is None or instant <= last:
            return None
        missed = (now - instant).total_seconds() > LATE_SECONDS
        run = CronRun(
            id=built_in_id(job_id, name_of(instant)),
            parent=job_id,
            name=name_of(instant),
            created_at=now,
            updated_at=now,
            scheduled_at=instant,
            outcome=RunOutcome.MISSED if missed else None,
            finished_at=now if missed else None,
            reason="no server was there to begin it in time" if missed else "",
        )
        async with self._database.transaction() as tx:
            await self._assert_in_office(tx)
            await resources.insert_resource(tx, run)
        if missed:
            log.warning("a run was missed", job=job_id, scheduled_at=run.name)
        return None if missed else run

    async def _forget(self, platform: Platform, timetable: Timetable, old: list[CronRun]) -> None:
        """Runs that nobody looks at any more, and what the engine keeps of them."""
        for run in old:
            await _Going(platform, run, timetable.repeats).forget()
            async with self._database.transaction() as tx:
                await self._assert_in_office(tx)
                await resources.delete_resource(tx, run.id)

    async def _execute(self, platform: Platform, member: Applied, timetable: Timetable, run: CronRun) -> None:
        """To its end, whatever it is; cancelled, it stays open and its command goes on."""
        last = await store.latest_claimed(self._database.read, member.environment_id)
        revision = in_hands_of(last, member.revision(self._sealer))
        secrets = msgspec.json.decode(self._sealer.open(timetable.sealed_secrets), type=tuple[str, ...])
        lines: deque[str] = deque(maxlen=_KEPT_LINES)
        most = timetable.repeats + 1
        attempts = min(run.attempts, most)
        reached = Attempt(number=run.attempts, most=most, complaint=run.reason) if run.attempts else None

        def hear(_: Level, line: str) -> None:
            lines.append(redact(line, secrets))

        async def once(attempt: int) -> Ran:
            nonlocal attempts
            attempts = attempt
            lines.clear()
            await self._still_open(self._database.read, run)
            return await platform.engine.run(revision, timetable.argv, _key(run, attempt), hear)

        async def end(attempt: int) -> None:
            await platform.engine.forget_run(_key(run, attempt))

        outcome, reason = RunOutcome.DONE, ""
        try:
            come_to = partial(self._come_to, run)
            await repeated(self._clock, Attempts(once, end, come_to, timetable.seconds, most), reached)
        except (Fenced, *STORAGE):  # it is another's, or cannot be written down: it stays open
            return
        except CommandStopped:
            outcome, reason = RunOutcome.CANCELED, _STOPPED
        except RefloatError as error:
            outcome, reason = RunOutcome.FAILED, redact(str(error), secrets)
        run = msgspec.structs.replace(run, attempts=attempts, log=tuple(lines))
        try:
            await self._end(run, outcome, reason)
        except RefloatError as error:  # it stays open, and is known by its key when it is looked at again
            log.error("a run could not be recorded", job=run.parent, reason=str(error))

    async def _still_open(self, read: Reader, run: CronRun) -> CronRun:
        """The run as it is stored at this moment. Raises Fenced when it has ended or its job is gone: we may
        have stood still since it was written down."""
        await self._assert_in_office(read)
        current = await resources.find(read, CronRun, run.id)
        if current is None or current.outcome:
            raise Fenced(f"the run {run.name} has ended, or its job is gone")
        return current

    async def _come_to(self, run: CronRun, attempt: Attempt) -> None:
        """Written down first: the next server joins this attempt, and begins no earlier one beside it."""
        come = {"attempts": attempt.number, "reason": attempt.complaint}
        async with self._database.transaction() as tx:
            current = await self._still_open(tx, run)
            await resources.replace_resource(tx, msgspec.structs.replace(current, **come))

    async def _cancel(self, going: _Going) -> None:
        run = await resources.find(self._database.read, CronRun, going.run.id)
        if run is None or run.outcome is None:
            await going.forget()
            await self._end(going.run, RunOutcome.CANCELED, _STOPPED)

    async def _end(self, run: CronRun, outcome: RunOutcome, reason: str) -> None:
        """Write down how it ended, once: another server may have been first. Of a job that is gone nothing
        is kept."""
        now = self._clock.now()
        ended = msgspec.structs.replace(run, outcome=outcome, reason=reason, finished_at=now, updated_at=now)
        async with self._database.transaction() as tx:
            await self._assert_in_office(tx)
            current = await resources.find(tx, CronRun, run.id)
            if current and current.outcome is None:
                await resources.replace_resource(tx, ended)

    async def _assert_in_office(self, read: Reader) -> None:
        if self._term:
            await facts.assert_leads(read, self._term)


async def _left(tasks: Collection[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _key(run: CronRun, attempt: int) -> str:
    return f"{run.parent}.cron.{run.name}.{attempt}"


def _instant(run: CronRun) -> datetime:
    return run.scheduled_at


def _to_the_next_minute(now: datetime) -> float:
    return 60 - now.second - now.microsecond / 1e6
