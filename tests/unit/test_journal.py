"""The fold of the journal: whatever died in between, a finished step is never done again."""

import asyncio
import contextlib
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refloat.clock import SystemClock
from refloat.domain.deployment import Deployment, Outcome, Request, Verb
from refloat.domain.errors import Fenced, StepFailed
from refloat.domain.progress import Phase
from refloat.execution.crash import Moment
from refloat.execution.folded import Output
from refloat.execution.journal import CancelRequested, Journal, Next
from refloat.planning.plan import StepName
from refloat.store import deployments as store
from refloat.store.database import Database, Reader, Transaction
from refloat.store.schema import migrate
from refloat.store.sqlite import SqliteDatabase

pytestmark = pytest.mark.property
_STEPS = (StepName.BUILD, StepName.PREPARE, StepName.READY, StepName.SWITCH)
_ENDINGS = st.sampled_from(["done", "failed", *Moment])


class Death(BaseException):
    """The control plane ends here."""


class DiesOnce:
    """Crash points that end the control plane at one moment of one step."""

    def __init__(self, step: str, moment: str) -> None:
        self._place = (step, moment)

    def hit(self, step: str, moment: Moment) -> None:
        if (step, moment) == self._place:
            self._place = ("", "")
            raise Death

    def arm(self, step: str) -> None: ...


class World:
    """One deployment, its successive owners, and what each of their steps really did."""

    def __init__(self, folder: Path) -> None:
        path = folder / f"{uuid.uuid4()}.db"
        shutil.copyfile(folder / "template.db", path)
        self.database = SqliteDatabase(path)
        self.owners = 0
        self.effects: dict[str, int] = dict.fromkeys(_STEPS, 0)

    async def open(self) -> None:
        request = Request(verb=Verb.DEPLOY, principal_id="p", triggered_by="p")
        now = datetime(2026, 1, 1, tzinfo=UTC)
        made = Deployment(
            id="d",
            environment_id="e",
            cluster_id="c",
            request=request,
            phase=Phase.QUEUED,
            created_at=now,
        )
        async with self.database.transaction() as tx:
            await store.insert_deployment(tx, made)
            await store.claim(
                tx,
                "d",
                owner="owner 0",
                number=1,
                builds=0,
                phase=Phase.RUNNING,
                plan="{}",
                plan_hash="h",
                snapshot="",
                now=now,
            )

    async def journal(self, step: str, ending: str, database: Database | None = None) -> Journal:
        """The journal as the next owner finds it, who writes through this database."""
        found = await store.find_deployment(self.database.read, "d")
        assert found is not None
        self.owners += 1
        owner = f"owner {self.owners}"
        async with self.database.transaction() as tx:
            assert await store.take_over(tx, found, owner)
        taken = await store.find_deployment(self.database.read, "d")
        assert taken is not None
        journal = Journal(database or self.database, SystemClock(), taken, owner, DiesOnce(step, ending))
        await journal.load()
        return journal

    async def live(self, step: str, ending: str) -> bool:
        """One owner's life: through the steps in order, with this step ending so. Whether it came through."""
        journal = await self.journal(step, ending)
        for name in _STEPS:
            try:
                await journal.step("s", name, lambda name=name: self._effect(name, step, ending), 5)
            except (Death, StepFailed):
                return False
        return True

    async def _effect(self, name: str, step: str, ending: str) -> Output:
        self.effects[name] += 1
        if name == step and ending == "failed":
            raise StepFailed("told to")
        return {"by": self.owners}


@pytest.fixture(scope="module")
def migrated() -> Iterator[Path]:
    """A folder in memory with an empty database to copy."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").exists() else None) as folder:
        migrate(Path(folder) / "template.db")
        yield Path(folder)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(lives=st.lists(st.tuples(st.sampled_from(_STEPS), _ENDINGS), max_size=8))
def test_a_finished_step_is_never_done_again_and_every_begin_is_counted(
    lives: list[tuple[StepName, str]], migrated: Path
) -> None:
    async def run() -> None:
        world = World(migrated)
        await world.open()
        finished: dict[str, str] = {}
        for step, ending in [*lives, (_STEPS[0], "done")]:
            before = dict(world.effects)
            await world.live(step, ending)
            steps = {s.name: s for s in await store.steps(world.database.read, "d")}
            for name, output in finished.items():
                assert world.effects[name] == before[name], "a finished step was done again"
                assert steps[name].output == output, "the output of a finished step changed"
            finished = {n: s.output for n, s in steps.items() if s.outcome is Outcome.DONE}
            for name, found in steps.items():
                assert found.attempt == world.effects[name], "an attempt is a begin, and its effect"
            order = [steps[name].ordinal for name in _STEPS if name in steps]
            assert order == sorted(set(order))
        assert set(finished) == set(_STEPS)
        await world.database.close()

    asyncio.run(run())


def test_an_owner_that_was_replaced_begins_nothing_and_ends_nothing(migrated: Path) -> None:
    async def run() -> None:
        world = World(migrated)
        await world.open()
        old = await world.journal("", "")
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slow() -> Output:
            begun.set()
            await go_on.wait()
            return {"by": "the old one"}

        late = asyncio.create_task(old.step("s", StepName.BUILD, slow, 5))
        await begun.wait()
        new = await world.journal("", "")
        await new.step("s", StepName.BUILD, lambda: world._effect(StepName.BUILD, "", ""), 5)
        go_on.set()
        with pytest.raises(Fenced):
            await late
        with pytest.raises(Fenced):
            await old.step("s", StepName.PREPARE, slow, 5)
        (step,) = await store.steps(world.database.read, "d")
        assert (step.outcome, step.attempt, step.output) == (Outcome.DONE, 2, '{"by":2}')
        await world.database.close()

    asyncio.run(run())


# -- services side by side

_SERVICES = ("a", "b", "c")
Key = tuple[str, StepName]
_KEYS: list[Key] = [(service, name) for service in _SERVICES for name in _STEPS]
_LIFE = st.tuples(st.lists(st.integers(0, 2), max_size=20), st.frozensets(st.sampled_from(_KEYS), max_size=3))


class OneWriteAtATime:
    """A database whose writes wait for their turn, until the process dies: then none is made any more."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.read: Reader = database.read
        self.waiting: dict[str, asyncio.Event] = {}
        self.dead = False

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        task = asyncio.current_task()
        assert task is not None
        turn = self.waiting.setdefault(task.get_name(), asyncio.Event())
        await turn.wait()
        if self.dead:
            raise Death
        async with self._database.transaction() as tx:
            yield tx

    def let(self, service: str) -> None:
        self.waiting.pop(service).set()

    def die(self) -> None:
        self.dead = True
        for service in list(self.waiting):
            self.let(service)

    def snapshot(self) -> contextlib.AbstractAsyncContextManager[Reader]:
        return self._database.snapshot()

    async def close(self) -> None:
        """Its owner closes the real one."""


class Services:
    """Services that go through their steps side by side, in one life after another."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.begun: dict[Key, int] = {}
        self.done: dict[Key, Output] = {}

    async def live(self, picks: list[int], failing: frozenset[Key]) -> None:
        """Each pick lets one service's next write be made; when none is left, the process dies."""
        database = OneWriteAtATime(self.world.database)
        journal = await self.world.journal("", "", database)
        tasks = [
            asyncio.create_task(self._service(journal, service, failing), name=service)
            for service in _SERVICES
        ]
        for pick in picks:
            await self._all_wait(database, tasks)
            if not database.waiting:
                break
            ready = sorted(database.waiting)
            database.let(ready[pick % len(ready)])
        await self._all_wait(database, tasks)
        database.die()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(end is None or isinstance(end, Death | StepFailed) for end in ends), ends

    @staticmethod
    async def _all_wait(database: OneWriteAtATime, tasks: list[asyncio.Task[None]]) -> None:
        """Until every service waits for its turn or is through."""
        while {t.get_name() for t in tasks if not t.done()} - database.waiting.keys():  # noqa: ASYNC110
            await asyncio.sleep(0)

    async def _service(self, journal: Journal, service: str, failing: frozenset[Key]) -> None:
        for name in _STEPS:
            key = (service, name)
            self.done[key] = await journal.step(
                service, name, lambda key=key: self._effect(key, key in failing), 60
            )

    async def _effect(self, key: Key, fails: bool) -> Output:
        assert key not in self.done, "a finished step was done again"
        self.begun[key] = self.begun.get(key, 0) + 1
        if fails:
            raise StepFailed("told to")
        return {"attempt": self.begun[key]}

    async def check(self) -> None:
        """The journal that the next owner folds says what really happened, no more and no less."""
        steps = {(s.service_id, s.name): s for s in await store.steps(self.world.database.read, "d")}
        assert {key: s.attempt for key, s in steps.items()} == self.begun
        assert {key for key, s in steps.items() if s.outcome is Outcome.DONE} == self.done.keys()
        journal = await self.world.journal("", "")
        for service, name in _KEYS:
            assert journal.output(service, name) == self.done.get((service, name))
            assert journal.begun(service, name) is ((service, name) in self.begun)
        assert len({s.ordinal for s in steps.values()}) == len(steps)
        for service in _SERVICES:
            order = [steps[service, name].ordinal for name in _STEPS if (service, name) in steps]
            assert order == sorted(order)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(lives=st.lists(_LIFE, max_size=5))
def test_the_fold_is_exact_for_any_interleaving_of_services_and_any_death(
    lives: list[tuple[list[int], frozenset[Key]]], migrated: Path
) -> None:
    async def run() -> None:
        world = World(migrated)
        await world.open()
        services = Services(world)
        for picks, failing in lives:
            await services.live(picks, failing)
            await services.check()
        await services.live([0] * 2 * len(_KEYS), frozenset())
        await services.check()
        assert services.done.keys() == set(_KEYS)
        await world.database.close()

    asyncio.run(run())


@contextlib.asynccontextmanager
async def _one_step_ahead(migrated: Path) -> AsyncIterator[tuple[World, Journal]]:
    """A journal whose first step ended, and wrote the second one down with its end."""
    world = World(migrated)
    await world.open()
    journal = await world.journal("", "")
    await journal.step(
        "s", _STEPS[0], lambda: world._effect(_STEPS[0], "", ""), 5, then=lambda: Next(_STEPS[1])
    )
    yield world, journal
    await world.database.close()


async def _written(world: World) -> dict[str, tuple[Outcome | None, int]]:
    return {s.name: (s.outcome, s.attempt) for s in await store.steps(world.database.read, "d")}


async def test_a_step_that_follows_at_once_is_written_down_with_the_end_of_the_one_before(
    migrated: Path,
) -> None:
    async with _one_step_ahead(migrated) as (world, journal):
        assert await _written(world) == {_STEPS[0]: (Outcome.DONE, 1), _STEPS[1]: (None, 1)}
        assert world.effects[_STEPS[1]] == 0
        await journal.step("s", _STEPS[1], lambda: world._effect(_STEPS[1], "", ""), 5)
        assert (await _written(world))[_STEPS[1]] == (Outcome.DONE, 1)


async def test_what_was_written_down_and_not_done_is_begun_again_by_the_next_owner(migrated: Path) -> None:
    async with _one_step_ahead(migrated) as (world, _):
        assert await world.live("", "")
        assert (await _written(world))[_STEPS[1]] == (Outcome.DONE, 2)
        assert world.effects == dict.fromkeys(_STEPS, 1)


async def test_what_was_written_down_and_will_not_be_done_is_ended(migrated: Path) -> None:
    async with _one_step_ahead(migrated) as (world, journal):
        await journal.drop_ahead("s")
        assert (await _written(world))[_STEPS[1]] == (Outcome.CANCELED, 1)


async def test_a_cancel_that_comes_during_a_step_keeps_the_next_one_from_being_written_down(
    migrated: Path,
) -> None:
    world = World(migrated)
    await world.open()
    journal = await world.journal("", "")

    async def canceled_meanwhile() -> Output:
        async with world.database.transaction() as tx:
            await store.request_cancel(tx, "d")
        return {}

    await journal.step("s", _STEPS[0], canceled_meanwhile, 5, then=lambda: Next(_STEPS[1]))
    assert await _written(world) == {_STEPS[0]: (Outcome.DONE, 1)}
    with pytest.raises(CancelRequested):
        await journal.step("s", _STEPS[1], canceled_meanwhile, 5)
    await world.database.close()
