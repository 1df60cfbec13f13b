"""SQLite behind one unit of work; the only place that knows its errors.

One connection writes, in the order transactions are entered; one reads what is committed. Both are
used in the event loop, because a thread costs more than SQLite does; only the commit, which waits for
the disk, runs in a thread. Transactions that wait while a commit is on its way share the next one. Each sees
what those before it wrote, so none is told anything, not even why it was refused, before that is stored.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy.dialects import sqlite as sqlite_dialect

from refloat.domain.errors import StorageFull, Unavailable
from refloat.store.database import NameTaken, Query, Reader, Row, Transaction

_DIALECT = sqlite_dialect.dialect(paramstyle="named")
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000", "foreign_keys=ON")
_ROOM = "free disk space: `refloat doctor` shows how much there is, `refloat clean` frees what builds keep"
_JOINING_TURNS = 3
"""Rounds of the loop in which others may join a commit: whoever the last one woke is about to write again.
They cost microseconds, and each commit two switches between threads and the wait for the disk."""
_UNIQUE = (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)


Aside = Callable[[Callable[[str], object], str], Awaitable[object]]
"""Executes a statement that waits for the disk, without holding up the event loop."""


class SqliteDatabase:
    """An open SQLite database: a path, or a `file:` URI. None lives in memory and dies with the process.

    `aside` carries out commits; a simulation, which has no threads, brings its own.
    """

    def __init__(self, path: Path | str | None, aside: Aside = asyncio.to_thread) -> None:
        self._aside = aside
        self._writer = _connect(path)
        self._reader = _connect(path) if path else self._writer
        self._turn = asyncio.Lock()
        self._batch: asyncio.Future[None] | None = None
        self._units = 0
        self._in_memory = path is None
        self._committers: set[asyncio.Task[None]] = set()
        self.read: Reader = _Cursor(self._reader)
        self._inside = _Cursor(self._writer)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        refused: Exception | None = None
        async with self._turn:
            batch = self._enter_batch()
            with _translated():
                self._writer.execute("SAVEPOINT unit")
            try:
                yield self._inside
            except BaseException as error:
                self._undo()
                if self._units == 0 or not isinstance(error, Exception):
                    raise
                refused = error  # perhaps for what the units before it wrote
            else:
                self._writer.execute("RELEASE unit")
                self._units += 1
        await asyncio.shield(batch)
        if refused:
            raise refused

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Reader]:
        """One transaction of the reader: a commit on its way in a thread shows before it or after it.

        What is done inside only reads, so nothing waits and nobody else reads by that old state.
        """
        if self._in_memory:  # one connection for all, and nothing is committed in a thread
            yield self.read
            return
        self._reader.execute("BEGIN")
        try:
            yield self.read
        finally:
            self._reader.execute("COMMIT")

    def _enter_batch(self) -> asyncio.Future[None]:
        """The future of the commit that will carry this transaction; begins a batch if there is none."""
        if self._batch is None:
            self._give_up()
            with _translated():
                self._writer.execute("BEGIN IMMEDIATE")
            self._batch, self._units = asyncio.get_running_loop().create_future(), 0
            task = asyncio.create_task(self._commit_batch())
            self._committers.add(task)
            task.add_done_callback(self._committers.discard)
        return self._batch

    def _undo(self) -> None:
        """Take one unit back; those before it in the batch stay."""
        try:
            self._writer.execute("ROLLBACK TO unit")
            self._writer.execute("RELEASE unit")
        except sqlite3.Error:  # as after a full disk, when SQLite has given the whole batch up
            self._give_up()
            self._fail_batch(StorageFull("the database could not write", hint=_ROOM))

    def _give_up(self) -> None:
        """Take the whole batch back; what cannot be now is before the next one begins."""
        if self._writer.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._writer.execute("ROLLBACK")

    def _fail_batch(self, error: Exception) -> None:
        batch, self._batch = self._batch, None
        if batch is not None and not batch.done():
            batch.set_exception(error)
            batch.exception()  # retrieved here: a batch of rolled-back units has no other waiter

    async def _commit_batch(self) -> None:
        for _ in range(_JOINING_TURNS):
            await asyncio.sleep(0)
        async with self._turn:
            batch = self._batch
            if batch is None:
                return
            try:
                with _translated():
                    await self._commit()
            except Exception as error:
                self._give_up()
                self._fail_batch(error)
                return
            self._batch = None
            if not batch.done():
                batch.set_result(None)

    async def _commit(self) -> None:
        if self._in_memory:
            self._writer.execute("COMMIT")
        else:
            await self._aside(self._writer.execute, "COMMIT")

    async def close(self) -> None:
        while self._committers:
            await asyncio.gather(*self._committers, return_exceptions=True)
        self._writer.close()
        if self._reader is not self._writer:
            self._reader.close()


class _Cursor:
    """Statements on one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def all(self, query: Query, **values: Any) -> list[Row]:
        return list(self._execute(query, values).fetchall())

    async def one(self, query: Query, **values: Any) -> Row | None:
        row: Row | None = self._execute(query, values).fetchone()
        return row

    async def run(self, query: Query, **values: Any) -> int:
        return self._execute(query, values).rowcount

    async def put(self, query: Query, **values: Any) -> None:
        self._execute(query, values)

    def _execute(self, query: Query, values: dict[str, object]) -> sqlite3.Cursor:
        compiled = query.compiled(_DIALECT)
        try:
            return self._connection.execute(compiled.text, compiled.named(values))
        except (sqlite3.IntegrityError, sqlite3.OperationalError) as error:
            raise _translation(error) from None


def _connect(path: Path | str | None) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(
            path or ":memory:",
            uri=isinstance(path, str),
            isolation_level=None,
            check_same_thread=False,
            cached_statements=512,
        )
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
    except sqlite3.OperationalError as error:
        raise Unavailable(
            f"the database {path} cannot be opened: {error}", hint="check the folder's rights and free space"
        ) from None
    connection.row_factory = sqlite3.Row
    return connection


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.OperationalError) as error:
        raise _translation(error) from None


def _translation(error: sqlite3.Error) -> Exception:
    """SQLite's way of saying "no space" and "taken" in the product's words; any other error as it is."""
    if isinstance(error, sqlite3.IntegrityError) and error.sqlite_errorcode in _UNIQUE:
        return NameTaken(str(error))
    if isinstance(error, sqlite3.OperationalError) and ("full" in str(error) or "disk I/O" in str(error)):
        return StorageFull(f"nothing can be stored: {error}", hint=_ROOM)
    return error
