"""The database of a run: real SQLite on a fresh copy, whose commits are slow, fail or go unanswered."""

import asyncio
import atexit
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from refloat.domain.errors import StorageLost
from refloat.store.schema import migrate
from tests.simulation.seeded.remembered import Remembering, Tables
from tests.simulation.seeded.trace import Trace

_MEMORY = Path("/dev/shm")


@cache
def _folder() -> Path:
    path = Path(tempfile.mkdtemp(prefix="refloat-sim-", dir=_MEMORY if _MEMORY.is_dir() else None))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@cache
def _migrated() -> Path:
    path = _folder() / "empty.db"
    migrate(path)
    return path


class Faults:
    """How commits go. `rate` 0: always well and at once."""

    def __init__(self, random: random.Random, rate: float, trace: Trace) -> None:
        self.rate = rate
        self.last = 0.0
        self._random = random
        self._trace = trace

    async def commit(
        self, execute: Callable[[str], object], statement: str, told: Callable[[], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        fault = self._random.random() if self.rate else 1.0
        if fault < self.rate:
            self.last = loop.time()
            await asyncio.sleep(self._random.choice((0.05, 0.5, 3.0)))
        if fault < self.rate * 0.3:
            self._trace.note("store", "refuses a commit")
            raise sqlite3.OperationalError("database or disk is full")
        execute(statement)
        told()
        if fault < self.rate * 0.5:
            self._trace.note("store", "commits and does not say so")
            raise StorageLost("the connection to the database broke")


class RunStore:
    """One run's database file and the connection that the checks look through."""

    def __init__(self, faults: Faults) -> None:
        self._path = _folder() / "run.db"
        self.forget()
        shutil.copyfile(_migrated(), self._path)
        self.told: Callable[[Tables], None] = lambda written: None
        """Called after every commit with the tables that it wrote to."""
        self._faults = faults
        place = f"file:{self._path}?vfs=unix-excl"  # locks in memory: all connections are of this process
        self.database = Remembering(place, self._commit)
        self.look = sqlite3.connect(place, uri=True, isolation_level=None)
        self.look.row_factory = sqlite3.Row

    async def _commit(self, execute: Callable[[str], object], statement: str) -> None:
        await self._faults.commit(execute, statement, self._committed)

    def _committed(self) -> None:
        self.told(self.database.memory.committed())

    def forget(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    async def close(self) -> None:
        await self.database.close()
        self.look.close()
        self.forget()
