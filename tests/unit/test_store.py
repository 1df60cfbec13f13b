"""What the store promises: sealed values, durable units of work, one schema."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.databases import Store, sqlite_store

from refloat.domain.deployment import Event
from refloat.domain.errors import Conflict, StorageFull, Unavailable
from refloat.domain.resources import Organization
from refloat.domain.revision import Level
from refloat.store import deployments as deployment_store
from refloat.store import postgres, resources, statements
from refloat.store.database import Database
from refloat.store.facts import check_key
from refloat.store.literals import written_out
from refloat.store.schema import HEAD
from refloat.store.sealing import Sealer, load_sealer
from refloat.store.sqlite import SqliteDatabase

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def organization(number: int, name: str = "") -> Organization:
    return Organization(id=str(number), parent="", name=name or f"o{number}", created_at=NOW, updated_at=NOW)


@pytest.fixture
async def database(store: Store) -> AsyncIterator[Database]:
    opened = store.open()
    yield opened
    await opened.close()


async def test_names_are_taken_whatever_their_case(database: Database) -> None:
    async with database.transaction() as tx:
        await resources.insert_resource(tx, organization(1, "Shop"))
    with pytest.raises(Conflict, match="sHOP"):
        async with database.transaction() as tx:
            await resources.insert_resource(tx, organization(2, "sHOP"))
    assert len(await resources.everything(database.read, Organization)) == 1


async def test_a_unit_that_fails_leaves_its_neighbours_in_the_same_commit(database: Database) -> None:
    async def one(number: int) -> None:
        async with database.transaction() as tx:
            await resources.insert_resource(tx, organization(number))
            if number % 3 == 0:
                raise ValueError(number)

    results = await asyncio.gather(*(one(n) for n in range(30)), return_exceptions=True)
    failed = [r for r in results if isinstance(r, ValueError)]
    assert len(failed) == 10
    stored = {int(o.id) for o in await resources.everything(database.read, Organization)}
    assert stored == {n for n in range(30) if n % 3}


async def test_what_a_unit_is_refused_for_is_stored_before_it_is_told(database: Database) -> None:
    async def second() -> int:
        with pytest.raises(Conflict):
            async with database.transaction() as tx:
                await resources.insert_resource(tx, organization(2, "shop"))
        return len(await resources.everything(database.read, Organization))

    async def first() -> None:
        async with database.transaction() as tx:
            await resources.insert_resource(tx, organization(1, "shop"))

    assert (await asyncio.gather(first(), second()))[1] == 1


async def test_a_unit_that_was_refused_for_what_is_not_stored_is_told_why_it_is_not(tmp_path: Path) -> None:
    async def refuse(execute: Callable[[str], object], statement: str) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    async def insert(number: int) -> None:
        async with database.transaction() as tx:
            await resources.insert_resource(tx, organization(number, "shop"))

    database = SqliteDatabase(sqlite_store(tmp_path).path, refuse)
    told = await asyncio.gather(insert(1), insert(2), return_exceptions=True)
    assert [type(error) for error in told] == [StorageFull, StorageFull]
    await database.close()


@pytest.mark.parametrize(
    "refused", [(sqlite3.SQLITE_SAVEPOINT,), (sqlite3.SQLITE_SAVEPOINT, sqlite3.SQLITE_TRANSACTION)]
)
async def test_of_a_unit_that_cannot_be_taken_back_nothing_is_stored(
    tmp_path: Path, refused: tuple[int, ...]
) -> None:
    """Nor of those before it in the same commit, which are told so."""

    def no_going_back(action: int, what: str | None, *_: object) -> int:
        back = action in refused and what == "ROLLBACK"
        return sqlite3.SQLITE_DENY if back else sqlite3.SQLITE_OK

    async def insert(number: int) -> None:
        async with database.transaction() as tx:
            await resources.insert_resource(tx, organization(number))
            if number == 2:
                raise ValueError(number)

    database = SqliteDatabase(sqlite_store(tmp_path).path)
    database._writer.set_authorizer(no_going_back)
    told = await asyncio.gather(insert(1), insert(2), return_exceptions=True)
    assert [type(error) for error in told] == [StorageFull, StorageFull]
    database._writer.set_authorizer(None)
    await insert(3)
    assert [it.name for it in await resources.everything(database.read, Organization)] == [
        organization(3).name
    ]
    await database.close()


async def test_a_unit_that_fails_leaves_its_neighbours_whichever_way_they_wrote(database: Database) -> None:
    async def one(number: int) -> None:
        async with database.transaction() as tx:
            way = number % 6
            if way in (2, 5):
                raise ValueError(number)
            await (tx.run if way == 1 else tx.put)(statements.PUT_EVENT, **line(str(number)))
            if way == 4:
                await deployment_store.events_after(tx, "e", 0, 1)

    results = await asyncio.gather(*(one(n) for n in range(42)), return_exceptions=True)
    assert [n for n, result in enumerate(results) if result is not None] == list(range(2, 42, 3))
    stored = await deployment_store.events_after(database.read, "e", 0, 50)
    assert [e.message for e in stored] == [str(n) for n in range(42) if n % 3 != 2]


async def test_whoever_a_commit_wakes_shares_the_next_one(tmp_path: Path) -> None:
    commits = []

    async def aside(execute: Callable[[str], object], statement: str) -> None:
        commits.append(statement)
        execute(statement)

    database = SqliteDatabase(sqlite_store(tmp_path).path, aside)

    async def write_twice(number: int) -> None:
        async with database.transaction() as tx:
            await resources.insert_resource(tx, organization(number))
        for _ in range(number):  # not all are equally quick
            await asyncio.sleep(0)
        async with database.transaction() as tx:
            await resources.insert_resource(tx, organization(10 + number))

    await asyncio.gather(*(write_twice(number) for number in range(3)))
    assert commits == ["COMMIT"] * 2
    await database.close()


async def test_the_reads_of_a_snapshot_see_one_instant(store: Store) -> None:
    """Also when a commit arrives from elsewhere between two of them: SQLite's are made in a thread."""
    reading, writing = store.open(), store.open()
    async with reading.snapshot() as read:
        assert await resources.everything(read, Organization) == ()
        async with writing.transaction() as tx:
            await resources.insert_resource(tx, organization(1))
        assert await resources.everything(read, Organization) == ()
    assert len(await resources.everything(reading.read, Organization)) == 1
    await reading.close()
    await writing.close()


async def test_what_a_transaction_left_committed_is_there_after_reopening(store: Store) -> None:
    first = store.open()
    async with first.transaction() as tx:
        await resources.insert_resource(tx, organization(1))
    second = store.open()  # the first is not closed: as after a kill
    assert len(await resources.everything(second.read, Organization)) == 1
    await second.close()
    await first.close()


def line(message: str, at: int = 0) -> dict[str, object]:
    """The values of an event."""
    known: dict[str, object] = {"deployment_id": "d", "environment_id": "e", "service_id": "", "at": at}
    return {**known, "level": "info", "step": "", "message": message, "action": None, "phase": None}


HOSTILE = (
    "'",
    "''",
    "\\'; DROP TABLE event; --",
    "\\",
    "$1",
    ":at",
    "%s",
    "\n; COMMIT; ",
    "\N{COLLISION SYMBOL}",
    "\x7f",
)


async def test_text_is_stored_as_it_is_whatever_it_looks_like(database: Database) -> None:
    async with database.transaction() as tx:
        for text in HOSTILE:
            await tx.put(statements.PUT_EVENT, **line(text))
    stored = await deployment_store.events_after(database.read, "e", 0, 50)
    assert tuple(event.message for event in stored) == HOSTILE


async def test_a_unit_sees_what_it_has_put(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.put(statements.PUT_EVENT, **line("mine"))
        assert [e.message for e in await deployment_store.events_after(tx, "e", 0, 5)] == ["mine"]
        assert await deployment_store.events_after(database.read, "e", 0, 5) == ()


async def test_a_write_that_fails_takes_only_its_own_unit_back(database: Database) -> None:
    async def one(number: int) -> None:
        async with database.transaction() as tx:
            await tx.put(statements.PUT_EVENT, **line(str(number)))
            await tx.put(statements.PUT_EVENT, **line("x", at=2**70 if number % 3 == 0 else 0))

    results = await asyncio.gather(*(one(n) for n in range(12)), return_exceptions=True)
    assert [n for n, result in enumerate(results) if result is not None] == [0, 3, 6, 9]
    stored = await deployment_store.events_after(database.read, "e", 0, 50)
    assert {e.message for e in stored} - {"x"} == {str(n) for n in range(12) if n % 3}
    assert len(stored) == 16


async def test_a_line_with_a_nul_is_stored(database: Database) -> None:
    """Programs write such lines; PostgreSQL's text cannot hold them."""
    line = Event(
        sequence=0,
        deployment_id="d",
        environment_id="e",
        service_id="",
        at=NOW,
        level=Level.INFO,
        step="build",
        message="a\0b",
    )
    async with database.transaction() as tx:
        await deployment_store.put_event(tx, line)
    stored = await deployment_store.events_after(database.read, "e", 0, 5)
    assert [event.message for event in stored] == ["a\N{REPLACEMENT CHARACTER}b"]


async def test_a_full_disk_refuses_writes_and_reads_go_on(tmp_path: Path) -> None:
    database = SqliteDatabase(sqlite_store(tmp_path).path)
    async with database.transaction() as tx:
        await resources.insert_resource(tx, organization(1))
    pages = database._writer.execute("PRAGMA page_count").fetchone()[0]
    database._writer.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StorageFull):
        async with database.transaction() as tx:
            for number in range(2, 2000):
                await resources.insert_resource(tx, organization(number, "x" * 100 + str(number)))
    assert len(await resources.everything(database.read, Organization)) == 1
    database._writer.execute("PRAGMA max_page_count=1000000")
    async with database.transaction() as tx:
        await resources.insert_resource(tx, organization(2))
    assert len(await resources.everything(database.read, Organization)) == 2
    await database.close()


def test_text_with_a_nul_is_refused_before_it_is_part_of_a_statement() -> None:
    """A message to PostgreSQL ends at one."""
    with pytest.raises(ValueError, match="NUL"):
        written_out(statements.PUT_EVENT.compiled(postgres._DIALECT), line("a\0b"))


def test_the_known_head_is_the_newest_migration() -> None:
    import refloat.store

    folder = Path(refloat.store.__file__).parent / "migrations" / "versions"
    assert max(p.name for p in folder.glob("*.py")).startswith(HEAD)


def test_the_migrations_make_the_tables_that_the_statements_are_written_for(tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlalchemy import create_engine

    from refloat.store.tables import metadata

    engine = create_engine(sqlite_store(tmp_path).url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


async def test_a_database_remembers_the_key_it_was_sealed_with(database: Database) -> None:
    await check_key(database, Sealer(b"1" * 32), "a")
    await check_key(database, Sealer(b"1" * 32), "b")
    with pytest.raises(Unavailable, match="key in c is not the one"):
        await check_key(database, Sealer(b"2" * 32), "c")


def test_servers_that_start_together_get_the_same_key(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    with ThreadPoolExecutor(8) as servers:
        made = list(servers.map(lambda _: load_sealer(path).digest("x"), range(8)))
    assert len(set(made)) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["secret.key"]


def test_a_key_file_that_is_cut_off_is_named(tmp_path: Path) -> None:
    (tmp_path / "secret.key").write_bytes(b"short")
    with pytest.raises(Unavailable, match=r"secret\.key does not hold 32 bytes"):
        load_sealer(tmp_path / "secret.key")


def test_sealed_text_opens_only_with_its_key(tmp_path: Path) -> None:
    sealer = load_sealer(tmp_path / "secret.key")
    assert (tmp_path / "secret.key").stat().st_mode & 0o777 == 0o600
    sealed = sealer.seal("väluē")
    assert load_sealer(tmp_path / "secret.key").open(sealed) == "väluē"
    assert sealer.seal("väluē") != sealed
    with pytest.raises(Unavailable):
        Sealer(b"x" * 32).open(sealed)


def test_digests_depend_on_the_key() -> None:
    one, two = Sealer(b"1" * 32), Sealer(b"2" * 32)
    assert one.digest("a") == one.digest("a") != one.digest("b")
    assert one.digest("a") != two.digest("a")
