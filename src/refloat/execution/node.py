"""Everything that one server does for a node: moves queues, keeps running what is applied, runs cron jobs."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from refloat.clock import Clock
from refloat.domain.replicas import Term
from refloat.execution.crash import CrashPoints
from refloat.execution.cron import CronRuns
from refloat.execution.places import Platforms
from refloat.execution.reconciler import Reconciler
from refloat.execution.worker import Worker
from refloat.store.database import Database
from refloat.store.sealing import Sealer

_AGAIN_SECONDS = 1.0

log = structlog.get_logger()


class NodeWork:
    """Done by a new worker in each term, so that a former self is a stranger.

    `prepare` brings up what the node needs first, and may be repeated.
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
        crash: CrashPoints,
        prepare: Callable[[], Awaitable[None]],
    ) -> None:
        self.prepare = prepare
        self._database = database
        self._sealer = sealer
        self._clock = clock
        self._platforms = platforms
        self._domain = domain
        self._drain_seconds = drain_seconds
        self._crash = crash
        self._worker: Worker | None = None

    def wake(self) -> None:
        """There may be something to do, if it is ours to do."""
        if self._worker:
            self._worker.wake()

    async def alone(self) -> None:
        """Until cancelled, on a database that nobody shares; what `prepare` does was done.

        Work that a defect stopped is begun again, by a new owner, which takes over what was left.
        """
        while True:
            try:
                await self._work(None)
            except Exception:
                log.exception("the work stopped unexpectedly and is begun again")
            await asyncio.sleep(_AGAIN_SECONDS)

    async def during(self, term: Term) -> None:
        """Until cancelled, which it is when the term is over."""
        await self.prepare()
        await self._work(term)

    async def _work(self, term: Term | None) -> None:
        worker = Worker(
            self._database,
            self._sealer,
            self._clock,
            self._platforms,
            domain=self._domain,
            drain_seconds=self._drain_seconds,
            crash=self._crash,
            term=term,
        )
        reconciler = Reconciler(self._database, self._sealer, self._clock, self._platforms)
        cron = CronRuns(self._database, self._sealer, self._clock, self._platforms, term)
        self._worker = worker
        self._in_charge(True)
        try:
            async with asyncio.TaskGroup() as together:  # none goes on without the others
                together.create_task(worker.run())
                together.create_task(reconciler.run())
                together.create_task(cron.run())
                try:
                    await asyncio.Event().wait()
                finally:  # before they are cancelled
                    self._in_charge(False)
        finally:
            self._worker = None

    def _in_charge(self, here: bool) -> None:
        for platform in self._platforms.values():
            platform.in_charge(here)
