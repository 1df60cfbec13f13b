"""Nodes to supervise on, processes that resist, and looking for what they leave behind."""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from refloat.supervisor import cgroups
from refloat.supervisor.base import Restart, Spec
from refloat.supervisor.processes import LocalSupervisor

PATH = "/usr/local/bin:/usr/bin:/bin"
ROOT = os.geteuid() == 0
NOBODY = 65534

HOSTILE = """
trap '' TERM
( setsid sh -c 'trap "" TERM; while :; do sleep 1; done' "$0-grandchild" & )
echo ready
while :; do sleep 1; done
"""
"""Ignores TERM and leaves a daemon in a session of its own that ignores it too."""

V1, V2, NONE = cgroups.ROOT, cgroups.ROOT / "unified", Path("/nonexistent")


def layouts() -> list[object]:
    """Where the kernel's control groups may be; what this machine does not have is skipped."""
    v2 = cgroups.ROOT if (cgroups.ROOT / "cgroup.controllers").exists() else V2
    v1 = not ROOT or not (V1 / "freezer/cgroup.procs").exists()
    return [
        pytest.param(V1, id="cgroup-v1", marks=pytest.mark.skipif(v1, reason="no cgroup v1, or not root")),
        pytest.param(
            v2,
            id="cgroup-v2",
            marks=pytest.mark.skipif(
                not ROOT or not (v2 / "cgroup.procs").exists(), reason="no cgroup v2, or not root"
            ),
        ),
        pytest.param(NONE, id="no-cgroup"),
    ]


@asynccontextmanager
async def node(path: Path | None = None, **options: Any) -> AsyncIterator[tuple[Path, LocalSupervisor]]:
    """A node directory that other users can pass through; everything on it ends with the test."""
    base = Path(tempfile.mkdtemp(prefix="refloat-test-"))
    base.chmod(0o711)
    directory = base / (path or "node")
    supervisor = LocalSupervisor(directory, **options)
    try:
        yield directory, supervisor
    finally:
        for state in await supervisor.states():
            await supervisor.stop(state.id, 0)
            await supervisor.forget(state.id)
        shutil.rmtree(base)


def shell(id: str, script: str, *, restart: Restart = Restart.NEVER, **changes: Any) -> Spec:
    """A process that runs a shell script; its id stands in the command line, so that it can be found."""
    values: dict[str, Any] = {
        "id": id,
        "argv": ("sh", "-c", script, id),
        "cwd": "/",
        "environment": {"PATH": PATH},
        "restart": restart,
    }
    return Spec(**(values | changes))


def living(token: str) -> set[int]:
    """Processes with an argument that begins so, apart from zombies."""
    return {pid for pid in _pids() if _has_argument(pid, token) and "Z (zombie)" not in _text(pid, "status")}


def _has_argument(pid: int, token: str) -> bool:
    return any(argument.startswith(token) for argument in _text(pid, "cmdline").split("\0"))


async def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait for something to become true; fails at the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


async def said(supervisor: LocalSupervisor, id: str, text: str) -> None:
    """Wait until the process has written this line."""
    await until(lambda: any(line.text == text for line in supervisor.log(id, 100)))


def shim_of(directory: Path, id: str) -> int:
    """The pid of the shim of a process."""
    folder = str(directory / "run" / id)
    found = {pid for pid in _pids() if _text(pid, "cmdline").split("\0")[-2:-1] == [folder]}
    (pid,) = found
    return pid


def _pids() -> list[int]:
    return [int(name.name) for name in Path("/proc").iterdir() if name.name.isdigit()]


def _text(pid: int, file: str) -> str:
    try:
        return Path(f"/proc/{pid}/{file}").read_bytes().decode(errors="replace")
    except OSError:
        return ""
