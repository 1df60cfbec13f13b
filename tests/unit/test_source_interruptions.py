"""Guarantees about git that is cancelled, too slow, killed, or left behind."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from source_support import Repository

from refloat.builders.groups import end_group, start
from refloat.builders.source import Sources
from refloat.domain.errors import BuildFailed


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources(tmp_path / "node", local_sources=True)


async def test_a_cache_that_a_killed_git_left_locked_or_broken_is_mended(
    repository: Repository, sources: Sources, tmp_path: Path
) -> None:
    repository.commit({"a": "1"})
    await sources.resolve("svc", repository.source())
    cache = tmp_path / "node/services/svc/git/cache"
    (cache / "shallow.lock").touch()
    (cache / "refs/refloat/x.lock").touch()
    second = repository.commit({"a": "2"})
    assert (await sources.resolve("svc", repository.source())).id == second
    (cache / "shallow").write_text("nonsense\n")
    third = repository.commit({"a": "3"})
    assert (await sources.resolve("svc", repository.source())).id == third


@pytest.fixture
def slow_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A git whose ls-remote hangs with a child, ignoring TERM; the file names both processes."""
    folder, pids = tmp_path / "bin", tmp_path / "pids"
    folder.mkdir()
    real = subprocess.run(("sh", "-c", "command -v git"), check=True, capture_output=True, text=True)
    script = f"""#!/bin/sh
case "$1" in ls-remote) trap '' TERM; sleep 1000 & echo $$ $! > {pids}; wait;; esac
exec {real.stdout.strip()} "$@"
"""
    (folder / "git").write_text(script)
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    yield pids
    for pid in pids.read_text().split() if pids.exists() else ():
        if alive(int(pid)):
            os.kill(int(pid), signal.SIGKILL)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


async def started(pids: Path) -> list[int]:
    await until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    return [int(pid) for pid in pids.read_text().split()]


async def gone(pids: list[int]) -> None:
    await until(lambda: not any(alive(pid) for pid in pids))


async def test_a_cancelled_call_leaves_no_git_behind(
    repository: Repository, sources: Sources, slow_git: Path
) -> None:
    repository.commit({"a": "1"})
    call = asyncio.ensure_future(sources.resolve("svc", repository.source()))
    pids = await started(slow_git)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await gone(pids)


async def test_a_call_that_is_cancelled_while_its_git_starts_leaves_none_behind(
    repository: Repository, sources: Sources, slow_git: Path
) -> None:
    """On a busy machine git may run, and have children, before asyncio has told us of it."""
    repository.commit({"a": "1"})
    argv = ("/bin/sh", "-c", "exec git ls-remote")
    call = asyncio.ensure_future(start(*argv, stdout=asyncio.subprocess.PIPE))
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    before = children.read_text()
    while children.read_text() == before:  # noqa: ASYNC110 - turn by turn, until the fork
        await asyncio.sleep(0)
    deadline = time.monotonic() + 30
    while not slow_git.exists() or len(slow_git.read_text().split()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)  # noqa: ASYNC251 - nothing else of this loop goes on
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(10):
            await call
    await gone([int(pid) for pid in slow_git.read_text().split()])


async def test_a_command_whose_output_nobody_reads_any_more_is_ended() -> None:
    process = await start("/bin/sh", "-c", "yes", stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    await process.stdout.readexactly(65536)
    await asyncio.sleep(0.2)  # its pipe and our buffer are full again
    async with asyncio.timeout(10):
        await end_group(process)
    await gone([process.pid])


async def test_a_git_that_takes_too_long_is_ended(
    repository: Repository, sources: Sources, slow_git: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refloat.builders.source.ASK", 1.0)
    repository.commit({"a": "1"})
    with pytest.raises(BuildFailed, match="did not finish within 1 s"):
        await sources.resolve("svc", repository.source())
    await gone(await started(slow_git))


@pytest.mark.parametrize("told", [True, False], ids=["at any time", "before it was told that git runs"])
async def test_a_git_left_by_a_killed_control_plane_is_ended_first(
    repository: Repository,
    sources: Sources,
    slow_git: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    told: bool,
) -> None:
    head = repository.commit({"a": "1"})
    program = f"""
import asyncio
from pathlib import Path
from refloat.builders import git
from refloat.builders.source import Sources
from refloat.domain.services import GitSource

start = git.start

async def busy(*argv, **given):
    process = await start(*argv, **given)
    if "ls-remote" in argv and not {told}:
        await asyncio.sleep(1000)
    return process

git.start = busy
sources = Sources(Path({str(tmp_path / "node")!r}), local_sources=True)
asyncio.run(sources.resolve("svc", GitSource(url={str(repository.path)!r})))
"""
    former = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    pids = await started(slow_git)
    former.kill()
    await former.wait()
    assert all(alive(pid) for pid in pids)
    monkeypatch.setenv("PATH", os.environ["PATH"].split(":", 1)[1])
    async with asyncio.timeout(30):
        assert (await sources.resolve("svc", repository.source())).id == head
    await gone(pids)
