"""The fold of the journal: whatever died in between, a finished step is never done again."""

import asyncio
import shutil
import tempfile
import uuid
from collections.abc import Iterator
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
from refloat.execution.journal import Journal, Output
from refloat.planning.plan import StepName
from refloat.store import deployments as store
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
        self.begins: dict[str, int] = dict.fromkeys(_STEPS, 0)

    async def open(self) -> None:
        request = Request(verb=Verb.DEPLOY, principal_id="p", triggered_by="p")
        now = datetime(2026, 1, 1, tzinfo=UTC)
        made = Deployment(id="d", environment_id="e", request=request, phase=Phase.QUEUED, created_at=now)
        async with self.database.transaction() as tx:
            await store.insert_deployment(tx, made)
            await store.claim(
                tx,
                "d",
                owner="owner 0",
                number=1,
                phase=Phase.RUNNING,
                plan="{}",
                plan_hash="h",
                snapshot="",
                now=now,
            )

    async def journal(self, step: str, ending: str) -> Journal:
        """The journal as the next owner finds it."""
        found = await store.find_deployment(self.database.read, "d")
        assert found is not None
        self.owners += 1
        owner = f"owner {self.owners}"
        async with self.database.transaction() as tx:
            assert await store.take_over(tx, found, owner)
        taken = await store.find_deployment(self.database.read, "d")
        assert taken is not None
        journal = Journal(self.database, SystemClock(), taken, owner, DiesOnce(step, ending))
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
