"""Turns of the servers of one node: a holder that is frozen is ended, one that works is waited for."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from refloat.builders import groups
from refloat.domain.errors import Fenced, Unavailable
from refloat.domain.revision import Artifact, Revision
from refloat.engines.local.homes import Homes
from refloat.supervisor import turns
from refloat.supervisor.accounts import Accounts
from refloat.supervisor.turns import turn

_HOLDER = """
import sys, time
from pathlib import Path
from refloat.supervisor.turns import turn

with turn(Path(sys.argv[1])):
    print("holds", flush=True)
    sys.stdin.readline()
"""
_OWNER = """
import os, signal, sys
from pathlib import Path
import msgspec
from refloat.domain.revision import Revision
from refloat.engines.local import homes
from refloat.supervisor.accounts import Accounts

hand_on = homes.handed_on

def frozen(known, revision):
    now = hand_on(known, revision)
    os.kill(os.getpid(), signal.SIGSTOP)
    return now

homes.handed_on = frozen
node = Path(sys.argv[1])
homes.Homes(node, Accounts(node, as_root=False)).guard(msgspec.json.decode(sys.argv[2], type=Revision))
"""
"""Freezes when it knows that it may act, and has not written that down."""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "FROZEN_SECONDS", 0.2)
    monkeypatch.setattr(turns, "_LOOK_SECONDS", 0.02)


@pytest.fixture
def start() -> Iterator[Start]:
    with contextlib.ExitStack() as ending:

        def started(script: str, *arguments: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-c", script, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            ending.enter_context(process)
            ending.callback(process.kill)
            return process

        yield started


@pytest.fixture
def holder(start: Start, tmp_path: Path) -> subprocess.Popen[str]:
    """Another server, whose turn it is."""
    process = start(_HOLDER, str(tmp_path / "lock"))
    assert process.stdout and process.stdout.readline() == "holds\n"
    return process


def _until_stopped(process: subprocess.Popen[str]) -> None:
    status = os.waitpid(process.pid, os.WUNTRACED)[1]
    assert os.WIFSTOPPED(status), status


def _freeze(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGSTOP)
    _until_stopped(process)


def _revision(fence: int) -> Revision:
    return Revision(
        key="s.1",
        service_id="s",
        environment_id="e",
        deployment_id="d",
        fence=fence,
        name="api",
        artifact=Artifact(key="", location="", web=()),
        command=("true",),
    )


def test_an_owner_frozen_at_its_fence_is_ended_by_the_next_and_writes_nothing(
    start: Start, tmp_path: Path
) -> None:
    frozen = start(_OWNER, str(tmp_path), msgspec.json.encode(_revision(1)).decode())
    _until_stopped(frozen)
    homes = Homes(tmp_path, Accounts(tmp_path, as_root=False))
    homes.guard(_revision(2))
    frozen.send_signal(signal.SIGCONT)
    assert frozen.wait() == -signal.SIGKILL
    with pytest.raises(Fenced):
        homes.guard(_revision(1))


def test_a_frozen_holder_of_the_git_cache_is_ended(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    _freeze(holder)
    with (tmp_path / "lock").open("r+") as file:
        asyncio.run(groups.take(file.fileno(), 30))
    assert holder.wait() == -signal.SIGKILL


def test_a_holder_that_works_is_waited_for(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    held = _in_a_thread(tmp_path / "lock")
    assert not held.wait(3 * turns.FROZEN_SECONDS)
    assert holder.stdin
    holder.stdin.close()
    assert held.wait(30)
    assert holder.wait() == 0


def _in_a_thread(lock: Path) -> threading.Event:
    held = threading.Event()

    def wait() -> None:
        with turn(lock):
            held.set()

    threading.Thread(target=wait, daemon=True).start()
    return held


def test_one_that_is_frozen_and_waits_too_is_spared(
    holder: subprocess.Popen[str], start: Start, tmp_path: Path
) -> None:
    waiting = start(_HOLDER, str(tmp_path / "lock"))
    _until_it_waits(waiting, tmp_path / "lock")
    _freeze(waiting)
    _freeze(holder)
    with turn(tmp_path / "lock"):
        assert holder.wait() == -signal.SIGKILL
    waiting.send_signal(signal.SIGCONT)
    assert waiting.stdout and waiting.stdout.readline() == "holds\n"


def _until_it_waits(process: subprocess.Popen[str], lock: Path) -> None:
    """Until it has opened the file that another one holds."""
    limit = time.monotonic() + 30
    while time.monotonic() < limit:
        with contextlib.suppress(OSError):
            if any(it.resolve() == lock for it in Path(f"/proc/{process.pid}/fd").iterdir()):
                return
        time.sleep(0.005)
    raise AssertionError("it does not open the lock")


def test_a_frozen_process_of_another_user_is_named_and_spared(
    holder: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _freeze(holder)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(Unavailable, match=rf"process {holder.pid} of another user"), turn(tmp_path / "lock"):
        raise AssertionError("it is not our turn")
    assert holder.poll() is None
