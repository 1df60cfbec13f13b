"""An event loop whose time is virtual: when nothing is ready, it jumps to the next timer.

Whatever would make two runs of a seed differ (a thread, a socket, a child process) is an error here.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

_BEGINNING = datetime(2030, 1, 1, tzinfo=UTC)
_RESOLUTION = 1e-6


class Nondeterministic(RuntimeError):
    """Something asked for the real world."""


class Stuck(RuntimeError):
    """Nothing is ready and no timer is set: everybody waits for something that nobody will do."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """The selector loop with its clock in our hands."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _stopping: bool

    def __init__(self) -> None:
        self._virtual = 0.0
        super().__init__()
        self.set_exception_handler(lambda *_: None)  # tasks of servers that died are nobody's

    def time(self) -> float:
        return self._virtual

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Any = None) -> asyncio.Handle:
        """As the original, without its checks: this is half of what a run does."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def _run_once(self) -> None:
        """One round of the original, in which nothing is waited for: the time of the next timer comes."""
        ready, timers = self._ready, self._scheduled
        while timers and timers[0].cancelled():
            heapq.heappop(timers)._scheduled = False
        if not ready and not self._stopping:
            if not timers:
                raise Stuck("everybody waits and no timer is set")
            self._virtual = max(self._virtual, timers[0].when())
        while timers and timers[0].when() < self._virtual + _RESOLUTION:
            timer = heapq.heappop(timers)
            timer._scheduled = False
            ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()

    def run_in_executor(self, *_: Any) -> Any:
        raise Nondeterministic("a thread was asked for")

    def call_soon_threadsafe(self, *_: Any, **__: Any) -> Any:
        raise Nondeterministic("another thread spoke to the loop")

    async def create_connection(self, *_: Any, **__: Any) -> Any:
        raise Nondeterministic("a connection was asked for")

    async def create_server(self, *_: Any, **__: Any) -> Any:
        raise Nondeterministic("a listening socket was asked for")

    async def create_datagram_endpoint(self, *_: Any, **__: Any) -> Any:
        raise Nondeterministic("a datagram socket was asked for")

    async def subprocess_exec(self, *_: Any, **__: Any) -> Any:
        raise Nondeterministic("a child process was asked for")

    async def subprocess_shell(self, *_: Any, **__: Any) -> Any:
        raise Nondeterministic("a child process was asked for")


class VirtualClock:
    """Implements the clock on the loop's time; the wall clock can be set, as an operator or NTP does."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._ahead = timedelta(0)

    def now(self) -> datetime:
        return _BEGINNING + timedelta(seconds=self._loop.time()) + self._ahead

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def alarm(self, seconds: float, ring: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_later(seconds, ring)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back; durations are not touched."""
        self._ahead += timedelta(seconds=seconds)
