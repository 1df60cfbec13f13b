"""Running a build command under the supervisor: its output live, its end certain.

The supervisor outlives us, so a command is ended explicitly: at its deadline, when the call is
cancelled, and, for one that an earlier control plane left running, before the next build begins.
"""

import asyncio
import contextlib
from collections import deque
from pathlib import Path

from refloat.builders.remotes import redact
from refloat.domain.errors import BuildFailed
from refloat.domain.revision import Level, LogLine, LogSink
from refloat.supervisor.base import Restart, Spec, Supervisor
from refloat.supervisor.cancellation import to_the_end

PIDS = 1024
MEMORY = 4 * 1024**3
"""Bytes a build may use."""
LINES, WIDTH = 5000, 2000
"""Lines of output passed on per command, characters per line; the rest is counted."""
LAST = 30
"""Lines a failed build carries."""
_EVERY = 0.05
_WINDOW = 1000


async def run_build_command(
    supervisor: Supervisor,
    id: str,
    argv: tuple[str, ...],
    *,
    cwd: Path,
    environment: dict[str, str],
    uid: int | None,
    log: LogSink,
) -> None:
    """Run to the end, as this user; raises BuildFailed with the last lines when it fails.

    However the call ends, nothing of the command is left when it does.
    """
    spec = Spec(
        id=id,
        argv=argv,
        cwd=str(cwd),
        environment=environment,
        restart=Restart.NEVER,
        uid=uid,
        gid=uid,
        memory_bytes=MEMORY,
        pids=PIDS,
        grace_seconds=1,
    )
    output = _Output(supervisor, id, log)
    try:
        await supervisor.start(spec)
        state = await output.follow()
    finally:
        await to_the_end(supervisor.forget(id))
    if state != 0:
        reason = "could not be started" if state is None else f"ended with exit code {state}"
        raise BuildFailed(
            f"the build {reason}", hint="the last lines of its output say why", log=output.last()
        )


async def end_leftovers(supervisor: Supervisor, service_id: str, log: LogSink) -> None:
    """End the builds of this service that an earlier control plane left behind."""
    for state in await supervisor.states(f"build.{service_id}."):
        log(Level.WARNING, "Ending a build that was interrupted")
        await to_the_end(supervisor.forget(state.id))


async def end_every_build(supervisor: Supervisor) -> None:
    """End whatever former control planes were building on this node; nobody waits for it any more."""
    for state in await supervisor.states("build."):
        await to_the_end(supervisor.forget(state.id))


class _Output:
    """Passes on what the supervisor logged, each line once, within bounds."""

    def __init__(self, supervisor: Supervisor, id: str, log: LogSink) -> None:
        self._supervisor = supervisor
        self._id = id
        self._log = log
        self._seen: LogLine | None = None
        self._stamp = (0, 0)
        self._passed = 0
        self._tail: deque[str] = deque(maxlen=LAST)

    async def follow(self) -> int | None:
        """Until the command ended; its exit code."""
        waiting = asyncio.ensure_future(self._supervisor.wait(self._id))
        try:
            while not waiting.done():
                self._pass_on()
                await asyncio.wait({waiting}, timeout=_EVERY)
            self._pass_on()
            return waiting.result().exit_code
        finally:
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting

    def last(self) -> tuple[str, ...]:
        return tuple(self._tail)

    def _pass_on(self) -> None:
        if not self._has_grown():
            return
        lines = self._supervisor.log(self._id, _WINDOW)
        start = 0
        if self._seen in lines:
            start = len(lines) - lines[::-1].index(self._seen)
        for line in lines[start:]:
            self._seen = line
            if line.stream != "shim":
                self._emit(redact(line.text.rstrip()[:WIDTH]))

    def _has_grown(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            found = self._supervisor.log_path(self._id).stat()
            before, self._stamp = self._stamp, (found.st_ino, found.st_size)
            return before != self._stamp
        return False

    def _emit(self, text: str) -> None:
        self._tail.append(text)
        self._passed += 1
        if self._passed <= LINES:
            self._log(Level.INFO, text)
        elif self._passed == LINES + 1:
            self._log(Level.WARNING, f"Output continues; only the first {LINES} lines are shown")
