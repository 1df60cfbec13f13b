"""Answers of the database, remembered until a commit writes to a table that they were read from.

Servers look at their queues each second of virtual time, and mostly nothing was written meanwhile: asking
SQLite each time was half of what a seed costs. `test_what_is_remembered_is_what_the_database_would_say`.
"""

import contextlib
import re
from collections.abc import AsyncIterator
from functools import cache
from typing import Any

from sqlalchemy.dialects import sqlite

from refloat.store.database import Query, Reader, Row, Transaction
from refloat.store.sqlite import Aside, SqliteDatabase
from refloat.store.tables import metadata

_DIALECT = sqlite.dialect(paramstyle="named")
_WORD = re.compile(r"\w+")
_TABLES = frozenset(metadata.tables)

Tables = frozenset[str]


@cache
def _tables(query: Query) -> Tables:
    """Those that a statement names; a column of the same name counts too, which only forgets too much."""
    return _TABLES.intersection(_WORD.findall(query.compiled(_DIALECT).text))


class Memory:
    """What is stored, as it was last read. `written` has the tables that a unit under way wrote to."""

    def __init__(self) -> None:
        self.written: set[str] = set()
        self._known: dict[Tables, dict[Any, Any]] = {}

    def committed(self) -> Tables:
        """Forget what may not be true any more; the tables that were written to."""
        written = frozenset(self.written)
        for tables in [tables for tables in self._known if tables & written]:
            del self._known[tables]
        self.written.clear()
        return written

    def of(self, tables: Tables) -> dict[Any, Any]:
        return self._known.setdefault(tables, {})


class _Reads:
    """Reads of what is committed."""

    def __init__(self, connection: Transaction, memory: Memory) -> None:
        self._connection = connection
        self._memory = memory

    async def all(self, query: Query, **values: Any) -> list[Row]:
        tables = _tables(query)
        if not self._memory.written.isdisjoint(tables) and self._sees_the_unit:
            return await self._connection.all(query, **values)
        known, key = self._memory.of(tables), (query, "all", *values.values())
        if (rows := known.get(key)) is None:
            rows = known[key] = await self._connection.all(query, **values)
        return list(rows)

    async def one(self, query: Query, **values: Any) -> Row | None:
        tables = _tables(query)
        if not self._memory.written.isdisjoint(tables) and self._sees_the_unit:
            return await self._connection.one(query, **values)
        known, key = self._memory.of(tables), (query, "one", *values.values())
        if key not in known:
            known[key] = await self._connection.one(query, **values)
        row: Row | None = known[key]
        return row

    _sees_the_unit = False


class _Unit(_Reads):
    """Reads and writes of a unit: of tables that none of its batch wrote to, it sees what is committed."""

    _sees_the_unit = True

    async def run(self, query: Query, **values: Any) -> int:
        self._memory.written |= _tables(query)
        return await self._connection.run(query, **values)

    async def put(self, query: Query, **values: Any) -> None:
        self._memory.written |= _tables(query)
        await self._connection.put(query, **values)


class Remembering(SqliteDatabase):
    """Real SQLite, which is asked for nothing twice."""

    def __init__(self, place: str, aside: Aside) -> None:
        super().__init__(place, aside)
        self.memory = Memory()
        self.snapshots = 0
        """Open now; their readers see the instant that is remembered, for nothing is committed meanwhile."""
        self.read = _Reads(self.read, self.memory)  # type: ignore[arg-type]
        self._inside = _Unit(self._inside, self.memory)  # type: ignore[assignment]

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Reader]:
        self.snapshots += 1
        try:
            async with super().snapshot() as read:
                yield read
        finally:
            self.snapshots -= 1
