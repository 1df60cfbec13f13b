"""Connections to PostgreSQL: opened with errors that say what to do, lent to readers, ended.

What PostgreSQL and its driver raise becomes one of the product's errors here.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

from refloat.domain.errors import StorageFull, StorageLost, Unavailable
from refloat.store.database import NameTaken, Row
from refloat.supervisor.cancellation import in_one_go, to_the_end

T = TypeVar("T")

OLDEST = 13
"""The oldest major version of PostgreSQL that is still right for the statements here."""
READERS = 4
"""How many reads go on at once; more wait."""
PATIENCE_SECONDS = 5.0
"""How long a read, or the beginning of a unit of work, waits for a database that is away."""
_CONNECT_SECONDS = 5.0
_PAUSE_SECONDS = 0.1
_HINT = "check that PostgreSQL runs there, and REFLOAT_DATABASE_URL"
_SESSION = {
    # A unit of work takes milliseconds: one that a frozen server left open must not hold up the others.
    "idle_in_transaction_session_timeout": "5000",
    "lock_timeout": "15000",
    "standard_conforming_strings": "on",  # `literals` relies on it
}
_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # between the reason why PostgreSQL ended it and the end itself
    OSError,
    TimeoutError,
)
_FULL = (asyncpg.DiskFullError, asyncpg.OutOfMemoryError)


def shown(url: str) -> str:
    """User, host and database of a URL, never its password."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    host = (query.get("host") or [parts.hostname or "localhost"])[0]
    port = f":{parts.port}" if parts.port else ""
    user = f"{unquote(parts.username)}@" if parts.username else ""
    return f"{user}{host}{port}{parts.path}"


class Connection(Protocol):
    """What is used of the driver's connections; it brings no types of its own."""

    async def execute(self, query: str, *arguments: object, timeout: float | None = None) -> str: ...

    async def fetch(self, query: str, *arguments: object) -> list[Row]: ...

    async def fetchrow(self, query: str, *arguments: object, timeout: float | None = None) -> Row | None: ...

    async def add_listener(self, channel: str, callback: Callable[..., None]) -> None: ...

    def add_termination_listener(self, callback: Callable[..., None]) -> None: ...

    def is_closed(self) -> bool: ...

    def is_in_transaction(self) -> bool: ...

    def terminate(self) -> None: ...

    async def close(self, *, timeout: float | None = None) -> None: ...


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """PostgreSQL's errors in the product's words; a defect of ours passes through as it is."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        raise NameTaken(str(error)) from None
    except _FULL as error:
        raise StorageFull(
            f"nothing can be stored: {error}", hint="free disk space where PostgreSQL has its data"
        ) from None
    except asyncpg.ReadOnlySQLTransactionError as error:
        raise StorageLost(f"the database cannot be written: {error}", hint="connect to the primary") from None
    except _LOST as error:
        raise StorageLost(f"the connection to the database broke: {_words(error)}", hint=_HINT) from None


async def connect(url: str, name: str) -> Connection:
    """One open connection. Raises StorageLost when nobody answers, Unavailable for what waiting does not
    mend: a wrong password, no such database, a version that is too old."""
    place = shown(url)
    try:
        connection = await asyncpg.connect(
            url,
            timeout=_CONNECT_SECONDS,
            statement_cache_size=512,
            max_cached_statement_lifetime=0,
            server_settings={"application_name": name, **_SESSION},
        )
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise Unavailable(
            f"PostgreSQL at {place} refuses this user: {error}",
            hint="check user and password in REFLOAT_DATABASE_URL",
        ) from None
    except asyncpg.InvalidCatalogNameError as error:
        raise Unavailable(f"PostgreSQL at {place}: {error}", hint="create it: createdb <name>") from None
    except _LOST as error:
        raise StorageLost(f"PostgreSQL at {place} cannot be reached: {_words(error)}", hint=_HINT) from None
    opened: Connection = connection
    version = connection.get_server_version()
    if version.major < OLDEST:
        await opened.close()
        raise Unavailable(
            f"PostgreSQL at {place} is version {version.major}.{version.minor}",
            hint=f"upgrade it to {OLDEST} or newer",
        )
    return opened


class Connections:
    """Opens connections to one database, and keeps a few for reading."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name
        self._idle: list[Connection] = []
        self._free = asyncio.Semaphore(READERS)
        self._closed = False

    async def patiently(self) -> Connection:
        """A new connection; a database that is away is waited for a while. Only where a cancellation waits:
        the connection would be lost."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_SECONDS
        while True:
            if self._closed:
                raise StorageLost("the database was closed: the server ends")
            try:
                return await connect(self._url, self._name)
            except StorageLost:
                if loop.time() > deadline:
                    raise
            await asyncio.sleep(_PAUSE_SECONDS)

    @contextlib.asynccontextmanager
    async def borrowed(self, first: str = "") -> AsyncIterator[Connection]:
        """One connection, alone; afterwards it is kept for the next borrower unless it broke.

        `first` is executed on it, and a connection that breaks at that is replaced.
        """
        connection: Connection | None = None
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        async with self._free:
            try:
                while True:
                    connection = await self._taken()
                    if not first or await self._begins(connection, first, deadline):
                        break
                yield connection
            finally:
                self._give_back(connection)

    def _give_back(self, connection: Connection | None) -> None:
        if connection is None or connection.is_closed():
            return
        if connection.is_in_transaction():
            connection.terminate()
        else:
            self._idle.append(connection)

    async def _begins(self, connection: Connection, first: str, deadline: float) -> bool:
        """Whether it could be executed; past the deadline it is an error that it could not."""
        try:
            with translated():
                await in_one_go(connection.execute(first))
        except StorageLost:
            connection.terminate()
            if asyncio.get_running_loop().time() > deadline:
                raise
            return False
        return True

    async def _taken(self) -> Connection:
        while (connection := self._kept()) is None:
            await to_the_end(self._add())
        return connection

    async def _add(self) -> None:
        """In the list before anybody can lose it."""
        self._idle.append(await self.patiently())

    def _kept(self) -> Connection | None:
        while self._idle:
            if not (connection := self._idle.pop()).is_closed():
                return connection
        return None

    async def retried(self, read: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
        """The answer of a read. It has no effect, so one that broke off is made again until it would
        take too long."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while True:
            try:
                async with self.borrowed() as connection:
                    try:
                        with translated():
                            return await in_one_go(read(connection))
                    except StorageLost:
                        connection.terminate()  # it may not know yet that it has ended
                        raise
            except StorageLost:
                if asyncio.get_running_loop().time() > deadline:
                    raise

    async def end(self, connection: Connection) -> None:
        """Close it, whether or not the other side still answers."""
        with contextlib.suppress(Exception):
            await to_the_end(connection.close(timeout=1))

    async def close(self) -> None:
        self._closed = True
        for _ in range(READERS):  # whoever reads still, finishes
            await self._free.acquire()
        while self._idle:
            await self.end(self._idle.pop())
        for _ in range(READERS):
            self._free.release()
        await asyncio.sleep(0)  # the loop lets go of what was cut off


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
