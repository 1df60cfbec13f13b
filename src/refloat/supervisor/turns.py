"""Turns that the servers of one node directory take, by file locks in it.

A killed holder holds no more. One that is frozen (SIGSTOP, Ctrl-Z, a debugger) would hold up every other
server of the node, and neither its lease nor its fence in the database can take a lock of the kernel away
from it. Whoever waits for a turn therefore ends a holder that it saw stopped for `FROZEN_SECONDS`. What such
a server was doing is gone on with as after any kill; and it cannot wake inside its turn and write what was
true when it froze, which a lock that is merely broken, or a second file, could not promise.

The holder is found by its open files, as the kernel tells them, not by what it may have written down: that
may be of the one before. It is killed through a handle of the process, so that a pid that was given anew is
spared, and only if it is stopped and of our own user. One that works, however slowly, is waited for; so is
one that is frozen together with its control group, which the kernel does not call stopped.
"""

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from refloat.domain.errors import Unavailable

FROZEN_SECONDS = 2.0
"""Long beside what a turn takes, short beside the lease of a server that waits for one in its loop."""
_TRY_SECONDS = 0.01
_LOOK_SECONDS = 0.25
_PROC = Path("/proc")
_STOPPED = frozenset("Tt")

log = structlog.get_logger()


@contextmanager
def turn(lock: Path) -> Iterator[None]:
    """Alone among all servers of the node. Raises Unavailable when a frozen holder cannot be ended."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        wait = Wait(descriptor)
        while not wait.over():
            time.sleep(_TRY_SECONDS)
        yield
    finally:
        os.close(descriptor)


class Wait:
    """For one open lock file: tried again and again, and meanwhile whoever holds it frozen is ended."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._next_look = time.monotonic() + _LOOK_SECONDS
        self._stopped: dict[int, float] = {}
        """Holders, and since when every look found them stopped."""

    def over(self) -> bool:
        """Whether the lock is ours now. Raises Unavailable when a frozen holder cannot be ended."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= self._next_look:
                self._look()
            return False

    def _look(self) -> None:
        now = time.monotonic()
        self._next_look = now + min(_LOOK_SECONDS, FROZEN_SECONDS / 4)
        self._stopped = {pid: self._stopped.get(pid, now) for pid in _stopped_holders(self._descriptor)}
        for pid, since in self._stopped.items():
            if now - since >= FROZEN_SECONDS:
                _end(pid, self._descriptor)


def _end(pid: int, descriptor: int) -> None:
    """Kill it, if it still is what it was when it was looked at."""
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            if pid not in _stopped_holders(descriptor, (str(pid),)):
                return
            if (_PROC / str(pid)).stat().st_uid != os.geteuid():
                raise Unavailable(
                    f"process {pid} of another user is stopped and holds {_name(descriptor)}",
                    hint=f"let it go on by kill -CONT {pid}, or end it by kill -KILL {pid}",
                )
            log.warning("a frozen server is ended that held up this one", pid=pid, lock=_name(descriptor))
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)


def _stopped_holders(descriptor: int, among: tuple[str, ...] | None = None) -> list[int]:
    """Stopped processes that hold the lock of this file; those of others only as far as we may look."""
    mine = os.fstat(descriptor)
    file = mine.st_dev, mine.st_ino
    pids = among or [it.name for it in _PROC.iterdir() if it.name.isdecimal()]
    return [int(pid) for pid in pids if _is_stopped(pid) and _holds(pid, file)]


def _is_stopped(pid: str) -> bool:
    with contextlib.suppress(OSError):
        return (_PROC / pid / "stat").read_text().rpartition(") ")[2][:1] in _STOPPED
    return False


def _holds(pid: str, file: tuple[int, int]) -> bool:
    with contextlib.suppress(OSError):
        for opened in (_PROC / pid / "fd").iterdir():
            with contextlib.suppress(OSError):
                status = opened.stat()
                if (status.st_dev, status.st_ino) == file and "FLOCK" in _locks(pid, opened.name):
                    return True
    return False


def _locks(pid: str, number: str) -> str:
    """Those of one open file. The file of somebody who waits has none."""
    return (_PROC / pid / "fdinfo" / number).read_text()


def _name(descriptor: int) -> str:
    return str((_PROC / "self/fd" / str(descriptor)).readlink())
