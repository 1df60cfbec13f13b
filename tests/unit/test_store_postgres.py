"""What only PostgreSQL can do to us: be away, refuse, break off, be shared."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from test_store import NOW, organization
from tests.databases import PASSWORD, PostgresServer

from refloat.domain.deployment import Event
from refloat.domain.errors import Conflict, StorageFull, StorageLost, Unavailable
from refloat.domain.resources import Organization
from refloat.domain.revision import Level
from refloat.store import connections, resources
from refloat.store import deployments as deployment_store
from refloat.store.database import Database
from refloat.store.postgres import PostgresDatabase
from refloat.store.schema import migrate_postgres


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.database()


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = PostgresDatabase(url, "refloat under test")
    yield opened
    await opened.close()


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


def end_connections(postgres: PostgresServer, url: str) -> None:
    """As an administrator or a failover does."""
    postgres.sql(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name_of(url)}'"
        " AND application_name = 'refloat under test'"
    )


async def stored(database: Database) -> list[str]:
    return [o.id for o in await resources.everything(database.read, Organization)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"password": "wrong"}, "refuses this user"),
        ({"user": "stranger"}, "refuses this user"),
        ({"port": 1}, "cannot be reached"),
        ({"name": "nowhere"}, "createdb"),
    ],
)
async def test_a_database_that_cannot_be_used_is_named_with_the_remedy_and_without_the_password(
    change: dict[str, str | int], words: str, postgres: PostgresServer, url: str
) -> None:
    given = {"user": "refloat", "password": PASSWORD, "port": postgres.port, "name": name_of(url), **change}
    place = "postgresql://{user}:{password}@127.0.0.1:{port}/{name}".format(**given)
    with pytest.raises(Unavailable, match=words) as caught:
        await migrate_postgres(place)
    assert "127.0.0.1" in str(caught.value)
    assert str(given["password"]) not in str(caught.value)


async def test_a_version_that_is_too_old_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "OLDEST", 99)
    with pytest.raises(Unavailable, match="upgrade it to 99"):
        await migrate_postgres(url)


async def test_servers_that_migrate_at_once_do_it_once(postgres: PostgresServer) -> None:
    empty = postgres.database(migrated=False)
    await asyncio.gather(*(migrate_postgres(empty) for _ in range(3)))
    database = PostgresDatabase(empty)
    async with database.transaction() as tx:
        await resources.insert_resource(tx, organization(1))
    assert await stored(database) == ["1"]
    await database.close()


async def test_a_database_of_a_newer_refloat_is_refused(postgres: PostgresServer, url: str) -> None:
    postgres.sql("UPDATE alembic_version SET version_num = '9999'", name_of(url))
    with pytest.raises(Unavailable, match="newer Refloat"):
        await migrate_postgres(url)


async def test_a_connection_that_breaks_in_a_unit_is_told_and_the_next_unit_works(
    database: Database, postgres: PostgresServer, url: str
) -> None:
    with pytest.raises(StorageLost):
        async with database.transaction() as tx:
            await resources.insert_resource(tx, organization(1))
            end_connections(postgres, url)
            await resources.insert_resource(tx, organization(2))
    async with database.transaction() as tx:
        await resources.insert_resource(tx, organization(3))
    assert await stored(database) == ["3"]


async def test_a_unit_that_was_refused_for_what_is_not_stored_is_told_why_it_is_not(
    database: Database, postgres: PostgresServer, url: str
) -> None:
    async def insert(number: int) -> None:
        async with database.transaction() as tx:
            try:
                await resources.insert_resource(tx, organization(number, "shop"))
            except Conflict:
                await asyncio.to_thread(end_connections, postgres, url)
                raise

    told = await asyncio.gather(insert(1), insert(2), return_exceptions=True)
    assert [type(error) for error in told] == [StorageLost, StorageLost]
    assert await stored(database) == []


async def test_idle_connections_that_were_ended_are_replaced_unseen(
    database: Database, postgres: PostgresServer, url: str
) -> None:
    async with database.transaction() as tx:
        await resources.insert_resource(tx, organization(1))
    assert await stored(database) == ["1"]
    end_connections(postgres, url)
    assert await stored(database) == ["1"]
    end_connections(postgres, url)
    async with database.transaction() as tx:
        await resources.insert_resource(tx, organization(2))
    assert await stored(database) == ["1", "2"]
    end_connections(postgres, url)
    async with database.snapshot() as read:
        assert len(await resources.everything(read, Organization)) == 2


@pytest.mark.parametrize("rounds", range(5))
async def test_a_connection_is_replaced_at_whichever_moment_its_end_is_heard_of(
    rounds: int, postgres: PostgresServer, database: Database, url: str
) -> None:
    """The reason comes before the end itself, and between them the driver takes it for busy."""
    async with database.transaction() as tx:
        await resources.insert_resource(tx, organization(1))
    assert await stored(database) == ["1"]
    end_connections(postgres, url)
    for _ in range(rounds):
        await asyncio.sleep(0)
    async with database.transaction() as tx:
        await resources.insert_resource(tx, organization(2))
    end_connections(postgres, url)
    for _ in range(rounds):
        await asyncio.sleep(0)
    assert await stored(database) == ["1", "2"]


async def test_a_disk_that_is_full_is_told_as_such(
    database: Database, postgres: PostgresServer, url: str
) -> None:
    postgres.sql(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'; END $$;"
        "CREATE TRIGGER full_disk BEFORE INSERT ON resource EXECUTE FUNCTION full_disk()",
        name_of(url),
    )
    with pytest.raises(StorageFull, match="no space left"):
        async with database.transaction() as tx:
            await resources.insert_resource(tx, organization(1))
    postgres.sql("DROP TRIGGER full_disk ON resource", name_of(url))
    async with database.transaction() as tx:
        await resources.insert_resource(tx, organization(2))
    assert await stored(database) == ["2"]


async def test_units_of_several_servers_follow_one_another(database: Database, url: str) -> None:
    """A counter that is read and then written loses nothing."""
    second = PostgresDatabase(url)

    async def append(where: Database) -> None:
        async with where.transaction() as tx:
            known = await resources.everything(tx, Organization)
            await asyncio.sleep(0)
            await resources.insert_resource(tx, organization(len(known) + 1))

    await asyncio.gather(*(append(where) for where in (database, second) for _ in range(15)))
    assert sorted(int(i) for i in await stored(database)) == list(range(1, 31))
    await second.close()


async def test_a_server_that_stands_still_in_a_unit_does_not_hold_up_the_others(
    database: Database, url: str
) -> None:
    """As one that is frozen: PostgreSQL ends its connection, and nothing of the unit is stored."""
    entered, never = asyncio.Event(), asyncio.Event()

    async def stand_still() -> None:
        async with database.transaction() as tx:
            await resources.insert_resource(tx, organization(1))
            entered.set()
            await never.wait()
            await resources.insert_resource(tx, organization(2))

    still = asyncio.create_task(stand_still())
    await entered.wait()
    second = PostgresDatabase(url)
    async with asyncio.timeout(30):
        async with second.transaction() as tx:
            await resources.insert_resource(tx, organization(3))
    never.set()
    with pytest.raises(StorageLost):
        await still
    assert await stored(database) == ["3"]
    await second.close()


async def test_a_reader_of_events_misses_none_whoever_writes_them(database: Database, url: str) -> None:
    second = PostgresDatabase(url)

    async def write(where: Database, number: int) -> None:
        event = Event(
            sequence=0,
            deployment_id="d",
            environment_id="e",
            service_id="",
            at=NOW,
            level=Level.INFO,
            step="",
            message=str(number),
        )
        async with where.transaction() as tx:
            await deployment_store.put_event(tx, event)
            await asyncio.sleep(0.001 * (number % 3))

    async def follow() -> list[str]:
        cursor, seen = 0, []
        while len(seen) < 60:
            for event in await deployment_store.events_after(database.read, "e", cursor, 7):
                cursor = event.sequence
                seen.append(event.message)
        return seen

    async with asyncio.timeout(30):
        seen, *_ = await asyncio.gather(follow(), *(write((database, second)[n % 2], n) for n in range(60)))
    assert sorted(seen, key=int) == [str(n) for n in range(60)]
    await second.close()


async def test_a_caller_that_is_cancelled_leaves_nothing_behind(database: Database) -> None:
    """Neither half a unit nor a connection of no use, wherever it was interrupted."""

    async def work(number: int) -> None:
        async with database.transaction() as tx:
            await resources.insert_resource(tx, organization(2 * number))
            await resources.insert_resource(tx, organization(2 * number + 1))

    for pauses in range(40):
        task = asyncio.create_task(work(pauses))
        for _ in range(pauses):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    known = {int(i) for i in await stored(database)}
    assert known == {n ^ 1 for n in known}, "half a unit was stored"
    await work(1000)
    assert {2000, 2001} <= {int(i) for i in await stored(database)}
