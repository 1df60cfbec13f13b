"""Process groups of our own short commands, and the lock file that names the one at work.

A command writes itself and its owner into the file, and inherits the lock, so that it is held, and found,
as long as anything of the command lives, whatever became of the control plane that started it.
"""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Any

from refloat.domain.errors import Unavailable
from refloat.supervisor.cancellation import to_the_end
from refloat.supervisor.turns import Wait


async def take(fd: int, deadline: float) -> None:
    """Lock the file; a git that an earlier control plane left running is ended for it, and a frozen control
    plane."""
    loop = asyncio.get_running_loop()
    until = loop.time() + deadline
    wait = Wait(fd)
    while not wait.over():
        if loop.time() > until:
            raise Unavailable("the git cache is in use by another process")
        _kill_group(_holder(fd))
        await asyncio.sleep(0.02)


def _holder(fd: int) -> int:
    """The process group named in the lock file, when its leader holds the lock and lost its parent."""
    numbers = os.pread(fd, 40, 0).split()
    if len(numbers) != 2 or not all(number.isdigit() for number in numbers):
        return 0
    pid, owner = map(int, numbers)
    with contextlib.suppress(OSError, ValueError, IndexError):
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        mine = os.fstat(fd)
        held = (path.stat() for path in Path(f"/proc/{pid}/fd").iterdir())
        if parent != owner and any((o.st_dev, o.st_ino) == (mine.st_dev, mine.st_ino) for o in held):
            return pid
    return 0


async def start(*argv: str, **given: Any) -> asyncio.subprocess.Process:
    """Start a command in a group of its own, as `asyncio.create_subprocess_exec` does.

    Cancelled meanwhile, it ends the whole group first: left alone, asyncio ends only the leader, and then
    waits for whatever that has started to close its output.
    """
    starting = asyncio.ensure_future(asyncio.create_subprocess_exec(*argv, start_new_session=True, **given))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        await to_the_end(_abandon(starting))
        raise


async def _abandon(starting: asyncio.Future[asyncio.subprocess.Process]) -> None:
    with contextlib.suppress(OSError):
        await end_group(await starting)


async def end_group(process: asyncio.subprocess.Process) -> None:
    """Kill the whole group; the leader is reaped before this returns, even when cancelled again.

    What it still had to say is dropped: asyncio counts a process as ended only when its output is, and
    waits for ever where that is more than fits and nobody reads.
    """
    _kill_group(process.pid)
    for output in (1, 2):
        if pipe := process._transport.get_pipe_transport(output):  # type: ignore[attr-defined]
            pipe.close()
    if process.returncode is None:
        reaped = asyncio.ensure_future(process.wait())
        try:
            await asyncio.shield(reaped)
        except asyncio.CancelledError:
            await reaped
            raise


def _kill_group(pid: int) -> None:
    if pid > 1:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
