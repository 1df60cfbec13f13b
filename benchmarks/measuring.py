"""What the benchmarks of the control plane share: the stores, the floor of the disk, CPU, and tables."""

import contextlib
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.databases import PostgresServer, Store, binaries, sqlite_store

STORES = ("SQLite", "PostgreSQL")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1024 / 1024


@dataclass(frozen=True)
class Place:
    """A store to measure on. `server` is PostgreSQL's, whose CPU is not ours."""

    name: str
    folder: Path
    store: Store
    server: PostgresServer | None = None

    def another(self, folder: Path) -> Store:
        """A further database of the same kind."""
        return Store(self.server.database()) if self.server else sqlite_store(folder)

    def server_cpu(self) -> float:
        """Seconds of CPU that PostgreSQL's processes used so far."""
        process = self.server and self.server._process
        return _tree_cpu(process.pid) if process else 0.0


@contextlib.contextmanager
def place(name: str, folder: Path) -> Iterator[Place]:
    """A fresh store of this name in a folder of its own."""
    folder.mkdir(parents=True)
    if name == "SQLite":
        yield Place(name, folder, sqlite_store(folder))
        return
    programs = binaries()
    if programs is None:
        raise SystemExit("PostgreSQL is missing: apt-get install postgresql, or --stores SQLite")
    server = PostgresServer(programs)
    try:
        server.start()
        yield Place(name, folder, Store(server.database()), server)
    finally:
        server.remove()


def quiet() -> None:
    """The product's log costs, and would be in the way of the figures."""

    def drop(*_: object) -> dict[str, object]:
        raise structlog.DropEvent

    structlog.configure(processors=[drop])


def fdatasync_ms(folder: Path, rounds: int = 200) -> float:
    """The floor of every durable write: one page and its way to the disk."""
    seconds = []
    with (folder / "floor").open("wb") as file:
        for _ in range(rounds):
            file.write(b"x" * 4096)
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds) * 1000


def memory_mb() -> float:
    """What this process has in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_MB


def load() -> str:
    """How busy the machine is: without it no time means anything."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """As the README shows it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    return sum(int(it) for it in _stat(pid)[11:13]) / _TICKS


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _tree_cpu(root: int) -> float:
    """Of a process, of those it waited for, and of its children that live."""
    total = sum(int(it) for it in _stat(root)[11:15]) / _TICKS
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(_stat(pid := int(folder.name))[1]) == root:
                total += cpu_seconds(pid)
    return total
