"""The port of supervision: processes that outlive the control plane.

Local engine, local builder and edge all start their processes through it, so there is one answer to
"what of ours runs on this machine" and one way to end a process tree completely.
"""

from collections.abc import Collection
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import msgspec

from refloat.domain.revision import LogLine


class Restart(StrEnum):
    ALWAYS = "always"
    """Started again after it ended, with growing pauses (0.5 s up to 30 s)."""
    NEVER = "never"


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """One supervised process tree. Stored 0600: `environment` may hold secrets.

    The child gets exactly this environment, nothing is inherited, plus `REFLOAT_PROCESS_ID=<id>` and
    `REFLOAT_NODE`, by which strays are found where there are no cgroups. `uid` None: the caller's own user.
    `cpu_milli`, `memory_bytes` and `pids` are enforced where cgroups allow it (root), else ignored.
    """

    id: str
    argv: tuple[str, ...]
    cwd: str
    environment: dict[str, str]
    restart: Restart = Restart.ALWAYS
    uid: int | None = None
    gid: int | None = None
    cpu_milli: int | None = None
    memory_bytes: int | None = None
    pids: int | None = None
    grace_seconds: float = 10
    umask: int = 0o027
    labels: dict[str, str] = {}


class Status(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    EXITED = "exited"
    """Ended by itself and will not be restarted."""
    STOPPED = "stopped"
    """Ended because it was asked to, or had ended before and was then asked to."""
    LOST = "lost"
    """Its shim is gone (power cut, kill -9) though nobody asked it to stop."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one process now. `labels` are the spec's."""

    id: str
    status: Status
    pid: int = 0
    restarts: int = 0
    exit_code: int | None = None
    started_at: datetime | None = None
    labels: dict[str, str] = {}


LIVE = frozenset({Status.STARTING, Status.RUNNING, Status.BACKOFF, Status.STOPPING})


class Supervisor(Protocol):
    """All supervised processes of one node directory."""

    async def start(self, spec: Spec, keeping: Collection[int] = ()) -> State:
        """Start it unless a live one with this id is there (then that one's state). Returns once the
        child was started or could not be: a command that is not there ends as EXITED with 127.

        `keeping` are descriptors that stay open as long as it is kept running, outside of it."""
        ...

    async def state(self, id: str) -> State | None:
        """None when this id is unknown here."""
        ...

    async def states(self, prefix: str = "") -> tuple[State, ...]:
        """Every known process whose id begins so, live or not."""
        ...

    async def wait(self, id: str) -> State:
        """Until it is no longer live; event driven, not polled."""
        ...

    async def stop(self, id: str, grace_seconds: float | None = None) -> None:
        """TERM, then KILL, to the whole tree; returns when no process of it is left. Gone is fine.
        Also ends the leftovers of a shim that was itself killed."""
        ...

    async def forget(self, id: str) -> None:
        """Stop it and delete its directory with its logs."""
        ...

    async def members(self, id: str) -> frozenset[int]:
        """The pids of its tree as it is now; empty when unknown or ended."""
        ...

    def spec(self, id: str) -> Spec | None:
        """What it was last started with, the marks included; None when unknown."""
        ...

    def log(self, id: str, tail: int) -> tuple[LogLine, ...]:
        """The last lines, across rotated files; empty when unknown."""
        ...

    def log_path(self, id: str) -> Path:
        """The current log file, to follow."""
        ...
