"""Control groups: the kernel's own list of who belongs to a process tree, and its limits.

Usable as root where cgroup v1 or v2 is mounted; elsewhere trees are found by descent and by marks in
the environment, and limits are not enforced. The supervisor makes and removes the groups, the shim's
child joins them.
"""

import contextlib
import os
import time
from pathlib import Path

import msgspec

from refloat.supervisor.base import Spec

ROOT = Path("/sys/fs/cgroup")
_V1 = ("freezer", "memory", "pids", "cpu")
_PERIOD = 100_000
"""Microseconds; the shortest quota the kernel takes is a hundredth of it."""


class Groups(msgspec.Struct, frozen=True, kw_only=True):
    """What the shim must know: folders to join, and how to freeze the first of them."""

    groups: tuple[str, ...]
    freezer: dict[str, str]


_NONE = Groups(groups=(), freezer={"file": os.devnull, "on": "", "off": ""})


class Cgroups:
    """The groups of one node below `<root>/refloat/`, named `<node>.<process id>`."""

    def __init__(self, root: Path, node: str) -> None:
        self._root = root
        self._node = node
        self._v2 = (root / "cgroup.controllers").exists()

    @property
    def usable(self) -> bool:
        """Whether trees are tracked by the kernel."""
        first = self._root if self._v2 else self._root / _V1[0]
        return os.geteuid() == 0 and (first / "cgroup.procs").exists()

    @property
    def limiting(self) -> bool:
        """Whether memory, cpu and the number of processes can be limited."""
        if self._v2:
            there = set((self._root / "cgroup.controllers").read_text().split())
            return self.usable and {"memory", "pids", "cpu"} <= there
        return self.usable and all((self._root / kind / "cgroup.procs").exists() for kind in _V1)

    def create(self, spec: Spec) -> tuple[Groups, tuple[str, ...]]:
        """The groups of a process with its limits set, and the limits that could not be."""
        if not self.usable:
            return _NONE, ()
        folders = self._make(spec)
        missing = tuple(path.name for path, value in self._limits(folders, spec) if not _write(path, value))
        first = next(iter(folders.values()))
        file, on, off = ("cgroup.freeze", "1", "0") if self._v2 else ("freezer.state", "FROZEN", "THAWED")
        groups = tuple(str(folder) for folder in dict.fromkeys(folders.values()))
        return Groups(groups=groups, freezer={"file": str(first / file), "on": on, "off": off}), missing

    def _make(self, spec: Spec) -> dict[str, Path]:
        """The folder of each kind that is needed. v2 has one for all; its ancestors hand controllers down."""
        name = f"{self._node}.{spec.id}"
        needed = (True, spec.memory_bytes, spec.pids, spec.cpu_milli)
        kinds = [kind for kind, asked in zip(_V1, needed, strict=True) if asked]
        parents = {kind: (self._root if self._v2 else self._root / kind) / "refloat" for kind in kinds}
        made = {}
        for kind, parent in parents.items():
            if self._v2 or (parent.parent / "cgroup.procs").exists():
                parent.mkdir(exist_ok=True)
                self._delegate(parent)
                (parent / name).mkdir(parents=True, exist_ok=True)  # another node may just have left
                made[kind] = parent / name
        return made

    def leave(self) -> None:
        """Remove what is left of this node's groups, and the folder of all nodes when this was the last."""
        for parent in dict.fromkeys(self._root if self._v2 else self._root / kind for kind in _V1):
            for group in (*(parent / "refloat").glob(f"{self._node}.*"), parent / "refloat"):
                with contextlib.suppress(OSError):
                    group.rmdir()

    def _delegate(self, parent: Path) -> None:
        if self._v2:
            for folder in (parent.parent, parent):
                for controller in ("memory", "pids", "cpu"):
                    _write(folder / "cgroup.subtree_control", f"+{controller}")

    def _limits(self, folders: dict[str, Path], spec: Spec) -> list[tuple[Path, str]]:
        quota = max(_PERIOD // 100, (spec.cpu_milli or 0) * _PERIOD // 1000)
        memory = "memory.max" if self._v2 else "memory.limit_in_bytes"
        cpu, share = ("cpu.max", f"{quota} {_PERIOD}") if self._v2 else ("cpu.cfs_quota_us", str(quota))
        wanted = (
            ("memory", memory, str(spec.memory_bytes), spec.memory_bytes),
            ("pids", "pids.max", str(spec.pids), spec.pids),
            ("cpu", cpu, share, spec.cpu_milli),
        )
        return [(folders.get(kind, Path()) / file, text) for kind, file, text, asked in wanted if asked]


def remove(groups: tuple[str, ...]) -> None:
    """Remove empty groups; the kernel may take a moment to bury the last member."""
    for group in map(Path, groups):
        for _ in range(50):
            with contextlib.suppress(OSError):
                group.rmdir()
            if not group.exists():
                break
            time.sleep(0.002)


def _write(path: Path, text: str) -> bool:
    try:
        path.write_text(text)
    except OSError:
        return False
    return True
