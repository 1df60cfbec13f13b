"""Who works on a node: one server at a time, and another as soon as that one is gone."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from tests.databases import PostgresServer

from refloat.domain.errors import Fenced
from refloat.domain.replicas import Term
from refloat.execution.leadership import lead
from refloat.store import facts
from refloat.store.postgres import PostgresDatabase
from refloat.store.replicas import ReplicaSession, session_name

PATIENCE = 20.0


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.database()


@asynccontextmanager
async def session(
    url: str, replica: str, node: str, wake: Callable[[], None] = lambda: None
) -> AsyncIterator[ReplicaSession]:
    made = ReplicaSession(url, replica, node, wake)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_one_server_of_a_node_is_elected_and_the_next_when_it_ends(url: str) -> None:
    async with asyncio.timeout(PATIENCE), session(url, "b", "n") as second, session(url, "a", "m"):
        first_term = await second.elected()
        async with session(url, "c", "n") as third:
            assert not await third.leads_at_first()
            assert first_term == Term(node="n", replica="b", number=1)
    async with asyncio.timeout(PATIENCE), session(url, "c", "n") as third:
        assert await third.elected() == Term(node="n", replica="c", number=2)


async def test_servers_of_two_nodes_are_both_elected(url: str) -> None:
    async with asyncio.timeout(PATIENCE), session(url, "a", "n") as one, session(url, "b", "m") as two:
        assert (await one.elected()).node == "n"
        assert (await two.elected()).node == "m"
        database = PostgresDatabase(url)
        found = await facts.replicas(database.read)
        await database.close()
        assert [(r.id, r.node, r.leads, r.alive) for r in found] == [
            ("b", "m", True, True),
            ("a", "n", True, True),
        ]


async def test_work_stops_when_the_session_breaks_and_its_term_is_refused(
    url: str, postgres: PostgresServer
) -> None:
    begun: asyncio.Queue[Term] = asyncio.Queue()
    stopped: list[Term] = []

    async def work(term: Term) -> None:
        begun.put_nowait(term)
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(term)

    database = PostgresDatabase(url)
    async with asyncio.timeout(PATIENCE), session(url, "a", "n") as one:
        leading = asyncio.create_task(lead(one, work))
        first = await one.elected()
        async with database.transaction() as tx:
            await facts.assert_leads(tx, first)
        postgres.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE application_name = '{session_name('a')}'"
        )
        await one.over(first)
        second = await one.elected()
        assert second.number == first.number + 1 and second.owner != first.owner
        with pytest.raises(Fenced):
            async with database.transaction() as tx:
                await facts.assert_leads(tx, first)
        assert [await begun.get(), await begun.get()] == [first, second]
        assert stopped == [first]
        leading.cancel()
        await asyncio.gather(leading, return_exceptions=True)
    await database.close()


async def test_a_call_of_one_server_wakes_the_others(url: str) -> None:
    woken = asyncio.Event()
    database = PostgresDatabase(url)
    async with asyncio.timeout(PATIENCE), session(url, "a", "n", woken.set) as one:
        await one.elected()
        woken.clear()
        database.call_others()
        await woken.wait()
    await database.close()


async def test_work_that_fails_is_begun_again(url: str) -> None:
    begun: list[Term] = []
    again = asyncio.Event()

    async def work(term: Term) -> None:
        begun.append(term)
        if len(begun) == 1:
            raise OSError("the edge cannot start")
        again.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(PATIENCE), session(url, "a", "n") as one:
        leading = asyncio.create_task(lead(one, work))
        await again.wait()
        assert begun[0] == begun[1]
        leading.cancel()
        await asyncio.gather(leading, return_exceptions=True)
