"""Everything that one server does for a node: moves queues, keeps running what is applied, runs cron jobs."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from refloat.clock import Clock
from refloat.domain.errors import StorageFull
from refloat.domain.replicas import Term
from refloat.execution.capacity import Capacity
from refloat.execution.crash import CrashPoints
from refloat.execution.cron import CronRuns
from refloat.execution.places import Platforms
from refloat.execution.reconciler import Reconciler
from refloat.execution.telemetry import Telemetry
from refloat.execution.worker import Worker
from refloat.store.database import Database
from refloat.store.sealing import Sealer

_AGAIN_SECONDS = 1.0
_SILENT_SECONDS = 120.0
"""A worker that is well looks every second; one cluster that does not answer holds it for ten."""

log = structlog.get_logger()


class NodeWork:
    """Done by a new worker in each term, so that a former self is a stranger.

    `prepare` brings up what the node needs first, and may be repeated. `room` says how full the disk of the
    database is, where that is known.
    """

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        clock: Clock,
        platforms: Platforms,
        *,
        domain: str,
        drain_seconds: float,
        capacity: Capacity,
        crash: CrashPoints,
        prepare: Callable[[], Awaitable[None]],
        telemetry: Telemetry | None = None,
        room: Callable[[], str] = lambda: "",
    ) -> None:
        self.prepare = prepare
        self._database = database
        self._sealer = sealer
        self._clock = clock
        self._platforms = platforms
        self._domain = domain
        self._drain_seconds = drain_seconds
        self._capacity = capacity
        self._crash = crash
        self._telemetry = telemetry
        self._room = room
        self._worker: Worker | None = None
        self._is_ours = False

    def wake(self) -> None:
        """There may be something to do, if it is ours to do."""
        if self._worker:
            self._worker.wake()

    def complaint(self) -> str:
        """Why work that is ours to do does not go on; "" when it does, or is another server's."""
        if not self._is_ours:
            return ""
        if self._worker is None:
            return "the work on the queues is not under way; it is being begun"
        if (silent := self._worker.silent_seconds) > _SILENT_SECONDS:
            return f"the queues were not looked at for {silent:.0f} s"
        return self._worker.refusal.message if self._worker.refusal else ""

    def halt(self) -> str:
        """The same for those who may know where the data is, and what mends it."""
        error = self._worker.refusal if self._worker else None
        room = self._room() if isinstance(error, StorageFull) else ""
        return "; ".join(filter(None, (self.complaint(), room, error.hint if error else "")))

    async def alone(self) -> None:
        """Until cancelled, on a database that nobody shares; what `prepare` does was done.

        Work that a defect stopped is begun again, by a new owner, which takes over what was left.
        """
        self._is_ours = True
        while True:
            try:
                await self._work(None)
            except Exception:
                log.exception("the work stopped unexpectedly and is begun again")
            await asyncio.sleep(_AGAIN_SECONDS)

    async def during(self, term: Term) -> None:
        """Until cancelled, which it is when the term is over."""
        self._is_ours = True
        try:
            await self.prepare()
            await self._work(term)
        except asyncio.CancelledError:
            self._is_ours = False
            raise

    async def _work(self, term: Term | None) -> None:
        worker = Worker(
            self._database,
            self._sealer,
            self._clock,
            self._platforms,
            domain=self._domain,
            drain_seconds=self._drain_seconds,
            capacity=self._capacity,
            crash=self._crash,
            term=term,
            telemetry=self._telemetry,
        )
        reconciler = Reconciler(self._database, self._sealer, self._clock, self._platforms)
        cron = CronRuns(self._database, self._sealer, self._clock, self._platforms, term)
        self._worker = worker
        try:
            async with asyncio.TaskGroup() as together:  # none goes on without the others
                together.create_task(worker.run())
                together.create_task(reconciler.run())
                together.create_task(cron.run())
        finally:
            self._worker = None
