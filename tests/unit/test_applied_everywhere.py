"""What is applied in the whole installation, for loops that ask every few seconds."""

from typing import Any

from tests.databases import Store
from tests.simulation.control_plane import ControlPlane

from refloat.execution.applied import Everywhere, everywhere
from refloat.store.database import Query, Reader, Row


class Counted:
    """A reader that counts what it is asked."""

    def __init__(self, reader: Reader) -> None:
        self.asked = 0
        self._reader = reader

    async def all(self, query: Query, **values: Any) -> list[Row]:
        self.asked += 1
        return await self._reader.all(query, **values)

    async def one(self, query: Query, **values: Any) -> Row | None:
        self.asked += 1
        return await self._reader.one(query, **values)


async def test_what_was_deployed_stopped_and_removed_since_is_seen_at_the_next_look(
    store: Store, tmp_path: Any
) -> None:
    plane = ControlPlane(tmp_path, store=store)
    await plane.start()
    kept = Everywhere()
    made = [await plane.environment(f"e{number}") for number in range(3)]
    services = [await plane.application(environment, "api") for environment in made]
    for environment in made:
        await plane.roll(environment)
        assert await kept.read(plane.database.read) == await everywhere(plane.database.read)
    await plane.roll(made[0], "stop")
    assert await kept.read(plane.database.read) == await everywhere(plane.database.read)
    await plane.call("DELETE", f"/application/{services[1]}", expect=204)
    await plane.ended(made[1])
    found = await kept.read(plane.database.read)
    assert found == await everywhere(plane.database.read)
    assert made[1] not in found and not found[made[0]][0].should_run
    await plane.close()


async def test_a_look_costs_one_question_where_nothing_happened(store: Store, tmp_path: Any) -> None:
    plane = ControlPlane(tmp_path, store=store)
    await plane.start()
    for number in range(3):
        environment = await plane.environment(f"e{number}")
        await plane.application(environment, "api")
        await plane.roll(environment)
    kept = Everywhere()
    before = await kept.read(plane.database.read)
    read = Counted(plane.database.read)
    assert await kept.read(read) == before and read.asked == 1
    await plane.roll(environment)  # one of three: the newest event, whom it is of, and what is applied there
    read = Counted(plane.database.read)
    await kept.read(read)
    assert read.asked == 3
    await plane.close()
