"""PostgreSQL behind one unit of work; with `connections` the only place that knows its errors.

One connection writes, a few read. Units of work that wait while a commit is on its way share the next
one, each behind a savepoint of its own. A batch begins by taking one lock of the database, so that units
of all replicas follow one another: what is read in a unit stays true until its commit, and events become
visible in the order of their sequence.

A statement that was sent is waited for, also by a caller that was cancelled: it takes milliseconds, and
asking PostgreSQL to break it off costs a connection.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect
from sqlalchemy.engine import Dialect

from refloat.domain.errors import StorageLost
from refloat.store.connections import Connection, Connections, translated
from refloat.store.database import Query, Reader, Row, Transaction
from refloat.store.literals import written_out
from refloat.supervisor.cancellation import in_one_go, to_the_end

_DIALECT: Dialect = asyncpg_dialect.dialect()  # type: ignore[no-untyped-call]
CHANNEL = "refloat"
WRITERS = (0x5265, 1)
"""The advisory lock that a batch holds."""
_BEGIN = f"BEGIN; SELECT pg_advisory_xact_lock({WRITERS[0]}, {WRITERS[1]})"
_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class PostgresDatabase:
    """A PostgreSQL database by its URL. Connects at the first use; `name` is shown in pg_stat_activity."""

    def __init__(self, url: str, name: str = "refloat") -> None:
        self._connections = Connections(url, name)
        self._turn = asyncio.Lock()
        self._writer: Connection | None = None
        self._batch: _Batch | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.read: Reader = _Anywhere(self._connections)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        refused: Exception | None = None
        async with self._turn:
            batch = await in_one_go(self._enter())
            try:
                yield batch.inside
            except BaseException as error:
                await to_the_end(self._undo(batch))
                if batch.units == 0 or not isinstance(error, Exception):
                    raise
                refused = error  # perhaps for what the units before it wrote
            else:
                refused = await in_one_go(self._leave(batch))
        await asyncio.shield(batch.stored)
        if refused:
            raise refused

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Reader]:
        async with self._connections.borrowed(_SNAPSHOT) as connection:
            try:
                yield _Cursor(connection)
            finally:
                with contextlib.suppress(Exception):
                    await in_one_go(connection.execute("COMMIT"))

    async def _enter(self) -> "_Batch":
        """The batch that will carry the next unit, with a savepoint if it carries one already."""
        if self._batch is None:
            self._batch = await self._begin()
            task = asyncio.create_task(self._commit(self._batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return self._batch
        batch, is_first_pending = self._batch, self._batch.inside.is_pending
        try:
            await batch.inside.mark()
        except Exception as error:
            self._give_up(batch, error)
            if is_first_pending:  # its first unit is alone in it
                return await self._enter()
            raise
        return batch

    async def _leave(self, batch: "_Batch") -> Exception | None:
        """A unit is complete. Whose fault it is must show before it concerns others: the writes of all but
        the first are done now, in one message with the savepoint of whoever comes next. What they are
        refused for, if they are."""
        if batch.units and batch.inside.is_pending:
            try:
                await batch.inside.mark()
            except Exception as error:
                await self._undo(batch)
                return error
        batch.units += 1
        return None

    async def _begin(self) -> "_Batch":
        """A new batch; a connection that broke while nothing was begun is replaced."""
        while True:
            known = self._writer is not None and not self._writer.is_closed()
            if not known:
                self._writer = await to_the_end(self._connections.patiently())
            assert self._writer is not None
            try:
                with translated():
                    await self._writer.execute(_BEGIN)
            except StorageLost:
                self._drop_writer()
                if not known:
                    raise
            else:
                return _Batch(self._writer)

    async def _undo(self, batch: "_Batch") -> None:
        """Take one unit back; those before it in the batch stay."""
        batch.inside.forget()
        if self._batch is not batch:
            return
        try:
            with translated():
                await batch.connection.execute("ROLLBACK TO SAVEPOINT unit" if batch.units else "ROLLBACK")
        except Exception as error:
            self._give_up(batch, error)
            return
        if batch.units:
            batch.inside.is_marked = True
            return
        self._batch = None
        batch.stored.cancel()

    def _give_up(self, batch: "_Batch", error: Exception) -> None:
        """Nothing of the batch is known to be stored; the connection is of no use any more."""
        self._batch = None
        self._drop_writer()
        if not batch.stored.done():
            batch.stored.set_exception(error)
            batch.stored.exception()  # retrieved here: a batch of rolled-back units has no other waiter

    def _drop_writer(self) -> None:
        if self._writer is not None:
            self._writer.terminate()
        self._writer = None

    async def _commit(self, batch: "_Batch") -> None:
        async with self._turn:
            if self._batch is not batch:
                return
            self._batch = None
            try:
                with translated():
                    ended = await batch.connection.execute(batch.inside.with_pending("COMMIT"))
                if ended != "COMMIT":
                    raise StorageLost("the database took a unit of work back", hint="try again")
            except Exception as error:
                self._give_up(batch, error)
                return
            batch.stored.set_result(None)

    def call_others(self) -> None:
        """Wake the other servers that share this database. A call that is lost costs them a tick."""
        task = asyncio.create_task(self._call())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _call(self) -> None:
        with contextlib.suppress(StorageLost):
            await self._connections.retried(lambda c: c.execute(f"NOTIFY {CHANNEL}"))

    async def close(self) -> None:
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        async with self._turn:
            if self._writer is not None:
                await self._connections.end(self._writer)
            self._writer = None
            await self._connections.close()


class _Batch:
    """Units that share a commit. The first needs no savepoint: if it fails, nothing is lost with it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.inside = _Unit(connection)
        self.stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.units = 0


class _Cursor:
    """Statements on one connection, prepared at their first use there."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def all(self, query: Query, **values: Any) -> list[Row]:
        compiled = query.compiled(_DIALECT)
        with translated():
            rows = self._connection.fetch(compiled.text, *compiled.ordered(values))
            return list(await in_one_go(rows))

    async def one(self, query: Query, **values: Any) -> Row | None:
        compiled = query.compiled(_DIALECT)
        with translated():
            found = self._connection.fetchrow(compiled.text, *compiled.ordered(values))
            row: Row | None = await in_one_go(found)
            return row


class _Unit(_Cursor):
    """The same in a unit of work. Writes that nobody waits for go together with what comes next: a round
    trip costs more than the statement."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._pending: list[str] = []
        self._is_saved = False
        self.is_marked = False
        """Nothing was written since the savepoint."""

    async def all(self, query: Query, **values: Any) -> list[Row]:
        await self.flush()
        return await super().all(query, **values)

    async def one(self, query: Query, **values: Any) -> Row | None:
        await self.flush()
        return await super().one(query, **values)

    async def run(self, query: Query, **values: Any) -> int:
        await self.flush()
        self.is_marked = False
        compiled = query.compiled(_DIALECT)
        with translated():
            done = self._connection.execute(compiled.text, *compiled.ordered(values))
            status = await in_one_go(done)
            return int(status.rpartition(" ")[2])

    async def put(self, query: Query, **values: Any) -> None:
        self._pending.append(written_out(query.compiled(_DIALECT), values))

    @property
    def is_pending(self) -> bool:
        return bool(self._pending)

    async def flush(self) -> None:
        """Execute what is pending."""
        if self._pending:
            self.is_marked = False
            with translated():
                await in_one_go(self._connection.execute(self.with_pending()))

    async def mark(self) -> None:
        """Execute what is pending, and set the savepoint that the next unit may have to go back to. Only
        where a cancellation waits: to wait for it twice costs a turn of the loop."""
        if self.is_marked and not self._pending:
            return
        release = ("RELEASE SAVEPOINT unit",) if self._is_saved else ()
        self._is_saved = True
        with translated():
            await self._connection.execute(self.with_pending(*release, "SAVEPOINT unit"))
        self.is_marked = True

    def with_pending(self, *last: str) -> str:
        """The text that does what is pending, and this after it."""
        text = "; ".join((*self._pending, *last))
        self.forget()
        return text

    def forget(self) -> None:
        """Whatever is pending is not to be done."""
        self._pending.clear()


class _Anywhere:
    """Reads of what is committed; one whose connection broke is made again on another."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def all(self, query: Query, **values: Any) -> list[Row]:
        compiled = query.compiled(_DIALECT)
        text, arguments = compiled.text, compiled.ordered(values)
        found: list[Row] = await self._connections.retried(lambda c: c.fetch(text, *arguments))
        return found

    async def one(self, query: Query, **values: Any) -> Row | None:
        compiled = query.compiled(_DIALECT)
        text, arguments = compiled.text, compiled.ordered(values)
        found: Row | None = await self._connections.retried(lambda c: c.fetchrow(text, *arguments))
        return found
