"""One life of a server: it can die or freeze at every touch of the database, the world and the clock."""

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from refloat.clock import Alarm, Clock
from refloat.domain.errors import StorageLost
from refloat.domain.timetable import CronRun
from refloat.execution.crash import Moment
from refloat.execution.cron import CronRuns
from refloat.execution.platform import Platform, Turns
from refloat.execution.worker import Worker
from refloat.store import statements
from refloat.store.database import Database, Query, Reader, Row, Transaction
from tests.simulation.seeded.trace import Trace

_NO_ANSWER_SECONDS = 0.2
"""After which a database that cannot be reached is taken for lost."""


class Death(BaseException):
    """The end of a server: nothing catches it."""


_asked: ContextVar[list[bool]] = ContextVar("_asked")
"""Filled by the question whether a deployment is still its owner's, or a run by the clock goes on; emptied by
whatever comes next."""


def _just_asked() -> bool:
    answers = _asked.get([])
    found = bool(answers)
    answers.clear()
    return found


class Host:
    """Whether this server lives, and whether it moves.

    `stale`: it was taken for dead once. Such a server finishes what it was doing and no more. One that is
    cut off goes on and cannot reach the database.
    """

    def __init__(self, name: str, trace: Trace) -> None:
        self.name = name
        self.dead = False
        self.stale = False
        self._cut = False
        self.died = asyncio.Event()
        self._moves = asyncio.Event()
        self._moves.set()
        self._trace = trace
        self.turns = Turns()

    @property
    def frozen(self) -> bool:
        return not self._moves.is_set()

    @property
    def is_cut_off(self) -> bool:
        return self._cut

    def die(self) -> None:
        if not self.dead:
            self._trace.note(self.name, "dies")
        self.dead = True
        self.died.set()
        self._moves.set()

    def freeze(self) -> None:
        self._trace.note(self.name, "freezes")
        self.stale = True
        self._moves.clear()

    def thaw(self) -> None:
        self._trace.note(self.name, "thaws")
        self._moves.set()

    def check(self) -> None:
        if self.dead:
            raise Death

    async def gate(self) -> None:
        """Every touch of something outside passes here."""
        _just_asked()
        while not self.dead and self.frozen:
            await self._moves.wait()
        self.check()

    def cut_off(self) -> None:
        self._trace.note(self.name, "cannot reach the database")
        self._cut = True

    def reconnect(self) -> None:
        self._trace.note(self.name, "reaches the database again")
        self._cut = False

    async def store(self) -> None:
        """Every touch of the database passes here, too."""
        await self.gate()
        if self._cut:
            await asyncio.sleep(_NO_ANSWER_SECONDS)
            self.check()
            raise StorageLost("the database cannot be reached")


class HostClock:
    """The clock as a server that may freeze sees it."""

    def __init__(self, clock: Clock, host: Host) -> None:
        self._clock = clock
        self._host = host

    def now(self) -> datetime:
        return self._clock.now()

    def monotonic(self) -> float:
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        await self._host.gate()

    def alarm(self, seconds: float, ring: Callable[[], None]) -> Alarm:
        return asyncio.ensure_future(self._ring(seconds, ring))

    async def _ring(self, seconds: float, ring: Callable[[], None]) -> None:
        await self.sleep(seconds)
        ring()


class _HostReader:
    def __init__(self, reader: Reader, host: Host) -> None:
        self._reader = reader
        self._host = host

    async def all(self, query: Query, **values: object) -> list[Row]:
        await self._host.store()
        return await self._reader.all(query, **values)

    async def one(self, query: Query, **values: object) -> Row | None:
        await self._host.store()
        found = await self._reader.one(query, **values)
        if found and (query is statements.OWNED or values.get("kind") == CronRun.kind):
            _asked.set([True])
        return found


class HostDatabase:
    """The real database, for as long as its server lives: the dead write nothing."""

    def __init__(self, database: Database, host: Host) -> None:
        self._database = database
        self._host = host
        self.read: Reader = _HostReader(database.read, host)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        await self._host.store()
        async with self._database.transaction() as tx:
            yield tx
            self._host.check()
            if self._host.is_cut_off:
                raise StorageLost("the connection to the database broke")
        await self._host.store()

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Reader]:
        await self._host.store()
        yield self.read

    async def close(self) -> None: ...


Interference = Callable[[str, str, tuple[Any, ...]], Awaitable[Any]]
"""Called before an effect with (host, operation, arguments); may raise, wait, or return a false answer."""
NOTHING = object()


class _Port:
    """An adapter of the simulated cluster as one server reaches it."""

    def __init__(self, adapter: Any, host: Host, interfere: Interference, seen: Callable[..., None]) -> None:
        self._adapter = adapter
        self._host = host
        self._interfere = interfere
        self._seen = seen

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._adapter, name)
        if not inspect.iscoroutinefunction(method):
            return method

        async def reach(*arguments: Any) -> Any:
            asked = _just_asked()
            await self._host.gate()
            lie = await self._interfere(self._host.name, name, arguments)
            if lie is not NOTHING:
                return lie
            await self._host.gate()
            self._seen(self._host.name, name, arguments, done=False, asked=asked)
            result = await method(*arguments)
            self._seen(self._host.name, name, arguments, done=True, asked=asked)
            await self._host.gate()
            return result

        return reach


def reached_by(
    platform: Platform, host: Host, interfere: Interference, seen: Callable[..., None]
) -> Platform:
    """The same platform through a server's hands."""
    ports = (_Port(p, host, interfere, seen) for p in (platform.engine, platform.router, platform.builder))
    engine, router, builder = ports
    return Platform(
        engine=engine,  # type: ignore[arg-type]
        router=router,  # type: ignore[arg-type]
        builder=builder,  # type: ignore[arg-type]
        rewrite=platform.rewrite,
        turns=host.turns,
    )


class HostCrash:
    """Crash points: the server dies at a drawn moment of a step."""

    def __init__(self, host: Host, draw: Callable[[str, Moment], bool], into_the_effect: float) -> None:
        self._host = host
        self._draw = draw
        self._into_the_effect = into_the_effect

    def hit(self, step: str, moment: Moment) -> None:
        self._host.check()
        if self._draw(step, moment):
            self._host.die()
            raise Death

    def arm(self, step: str) -> None:
        if self._draw(step, Moment.DURING):
            asyncio.get_running_loop().call_later(self._into_the_effect, self._host.die)


class Clockwork(CronRuns):
    """Jobs by the clock, looked at while nobody took the server for dead."""

    host: Host

    async def look(self) -> None:
        if not self.host.stale:
            await super().look()


class Server(Worker):
    """A worker that moves queues only while nobody took it for dead."""

    host: Host

    async def _look(self) -> None:
        if not self.host.stale:
            await super()._look()
