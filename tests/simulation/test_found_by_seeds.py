"""Defects that seeds found, each as the smallest story that shows it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from refloat.domain.deployment import Deployment, Target
from refloat.domain.errors import StorageFull, StorageLost
from refloat.domain.ids import after, uuid7
from refloat.domain.progress import Phase
from refloat.execution.journal import Journal
from refloat.execution.limits import DEADLINES
from refloat.execution.reconciler import Reconciler
from refloat.execution.runner import Runner
from refloat.execution.worker import Worker
from refloat.planning.plan import StepName
from refloat.simulated.router import SimulatedRouter
from refloat.simulated.script import Script
from refloat.store.database import Query, Transaction
from refloat.store.sqlite import SqliteDatabase
from refloat.store.tables import deployment, event
from tests.simulation.control_plane import ControlPlane, shown_states

_PHASES = Query(select(event.c.phase).where(event.c.phase.is_not(None)).order_by(event.c.sequence))
_OUTCOMES = Query(select(deployment.c.phase).order_by(deployment.c.id))
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class GoesBack:
    """A wall clock that somebody sets back by an hour at every look."""

    def __init__(self) -> None:
        self._hours = 0

    def now(self) -> datetime:
        self._hours += 1
        return NOON - timedelta(hours=self._hours)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def alarm(self, seconds: float, ring: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, ring)


async def test_requests_keep_their_order_when_the_wall_clock_goes_back(tmp_path: Path) -> None:
    plane = ControlPlane(tmp_path, clock=GoesBack())
    await plane.start()
    environment = await plane.environment()
    await plane.application(environment, "api", "build_seconds=0.05")
    asked = []
    for verb in ("redeploy", "stop", "redeploy"):  # equal ones in a row would be one request
        body = await plane.call("POST", f"/environment/{environment}/{verb}", expect=202)
        asked.append(body["deployment_request_id"])
        shown = await plane.call("GET", f"/environment/{environment}/status")
        assert shown["deployment_request_id"] == asked[-1]
    assert asked == sorted(set(asked))
    await plane.ended(environment)
    history = (await plane.call("GET", f"/environment/{environment}/deploymentHistoryV2"))["results"]
    numbers = [it["identifier"]["execution_id"].rpartition("-")[2] for it in history]
    assert numbers == ["3", "2", "1"]
    await plane.close()


def test_an_id_that_would_sort_before_an_earlier_one_is_moved_behind_it() -> None:
    first, second = uuid7(NOON, b"\xff" * 10), uuid7(NOON, b"\x00" * 10)
    assert second < first < after(first, second) < uuid7(NOON + timedelta(seconds=1), b"\x00" * 10)
    assert after(second, first) == first


class Unreliable:
    """The database, some of whose commits fail: before they are stored, or after and untold."""

    def __init__(self, database: Any, error: Exception, *, stored: bool) -> None:
        self._database = database
        self._error = error
        self._stored = stored
        self.commits = 0
        self.fail_at = 0
        self.read = database.read
        self.snapshot = database.snapshot

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        self.commits += 1
        fails = self.commits == self.fail_at
        async with self._database.transaction() as tx:
            yield tx
            if fails and not self._stored:
                raise self._error
        if fails:
            raise self._error

    async def close(self) -> None:
        await self._database.close()


async def _rolled(
    plane: ControlPlane, fail_at: int, error: Exception, *, stored: bool
) -> tuple[set[str], int]:
    """States after a first deployment whose worker meets one failing commit, and how many it made."""
    environment = await plane.environment()
    await plane.application(environment, "api", "release=ok")
    database = Unreliable(plane.database, error, stored=stored)
    database.fail_at = fail_at
    whole, plane.database = plane.database, database  # type: ignore[assignment]
    await plane.start()
    found = await plane.roll(environment)
    await plane.stop()
    plane.database = whole
    return shown_states(found), database.commits


@pytest.mark.parametrize(
    ("error", "stored"), [(StorageFull("no space"), False), (StorageLost("broken off"), True)]
)
async def test_one_commit_that_fails_anywhere_does_not_change_the_outcome(
    error: Exception, stored: bool, tmp_path: Path
) -> None:
    plane = ControlPlane(tmp_path)
    await plane.start()
    await plane.stop()
    states, commits = await _rolled(plane, 0, error, stored=stored)
    assert states == {"DEPLOYED"} and commits > 8
    await plane.call("DELETE", f"/environment/{await _only(plane)}")
    for number in range(1, commits + 1, commits // 4):
        folder = tmp_path / str(number)
        folder.mkdir()
        other = ControlPlane(folder)
        await other.start()
        await other.stop()
        assert (await _rolled(other, number, error, stored=stored))[0] == {"DEPLOYED"}
        await other.close()
    await plane.close()


async def _only(plane: ControlPlane) -> str:
    path = f"/project/{await plane.project()}/environment"
    return str((await plane.call("GET", path))["results"][0]["id"])


async def test_stopping_a_service_also_ends_what_an_earlier_deployment_could_not_end(
    plane: ControlPlane,
) -> None:
    environment = await plane.environment()
    service = await plane.application(environment, "api", "stop=fail,ok")
    await plane.roll(environment)
    await plane.call("PUT", f"/application/{service}", {"healthchecks": {}, "cpu": 20})
    await plane.roll(environment)
    assert not plane.world.running[f"{service}.1"].stopped
    assert shown_states(await plane.roll(environment, "stop")) == {"STOPPED"}
    assert all(running.stopped for running in plane.world.running.values())


async def test_what_no_deployment_could_end_is_ended_when_the_environment_is_at_rest(
    plane: ControlPlane,
) -> None:
    environment = await plane.environment()
    service = await plane.application(environment, "api", "stop=fail,ok")
    await plane.roll(environment)
    await plane.call("PUT", f"/application/{service}", {"healthchecks": {}, "cpu": 20})
    await plane.roll(environment)
    keeper = asyncio.create_task(Reconciler(plane.database, plane.sealer, plane.clock, plane.platforms).run())

    async def ended() -> bool:
        return plane.world.running[f"{service}.1"].stopped

    await plane.eventually(ended)
    assert not plane.world.running[f"{service}.2"].stopped
    keeper.cancel()
    await asyncio.gather(keeper, return_exceptions=True)


async def test_builds_that_a_failure_interrupts_together_are_all_canceled(plane: ControlPlane) -> None:
    environment = await plane.environment()
    await plane.application(environment, "bad", "build=fail&build_seconds=0.05")
    for number in range(5):
        await plane.application(environment, f"good{number}", "build_seconds=30")
    found = await plane.roll(environment)
    assert shown_states(found) == {"BUILD_ERROR", "CANCELED"}
    assert "internal error" not in str(
        await plane.call("GET", f"/environment/{environment}/deploymentHistoryV2")
    )


async def test_a_cancel_after_the_outcome_does_not_keep_the_old_revision_alive(plane: ControlPlane) -> None:
    environment = await plane.environment()
    service = await plane.application(environment, "api", "stop=hang")
    await plane.roll(environment)
    await plane.call("PUT", f"/application/{service}", {"healthchecks": {}, "cpu": 20})
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)

    async def retiring() -> bool:
        journal = (await plane.call("GET", f"/refloat/environment/{environment}/journal"))["results"]
        return bool(journal) and journal[-1]["step"] == "stop"

    await plane.eventually(retiring)
    await plane.stop()
    await plane.call("POST", f"/environment/{environment}/cancelDeployment", expect=202)
    await plane.call("PUT", f"/refloat/service/{service}/simulation", {"script": "stop=ok"})
    await plane.start()
    found = await plane.ended(environment)
    assert found["environment"]["last_deployment_state"] == "DEPLOYED"
    assert plane.world.running[f"{service}.1"].stopped
    assert not plane.world.running[f"{service}.2"].stopped


@pytest.mark.parametrize("script", ["build_seconds=0.3", "resolve=fail"])
async def test_a_cancel_while_versions_are_looked_up_is_not_overwritten(
    script: str, plane: ControlPlane
) -> None:
    environment = await plane.environment()
    await plane.application(environment, "api", script)
    resolve = plane.platforms[next(iter(plane.platforms))].builder.resolve

    async def canceled_meanwhile(*arguments: Any) -> Any:
        try:
            return await resolve(*arguments)
        finally:
            await plane.call("POST", f"/environment/{environment}/cancelDeployment", expect=202)

    for platform in plane.platforms.values():
        platform.builder.resolve = canceled_meanwhile  # type: ignore[method-assign]
    assert shown_states(await plane.roll(environment)) == {"CANCELED"}
    events = await plane.database.read.all(_PHASES)
    assert [row["phase"] for row in events] == ["canceled"]
    assert [row["phase"] for row in await plane.database.read.all(_OUTCOMES)] == ["canceled"]


async def test_a_cancel_just_after_the_claim_does_not_end_as_done(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = await plane.environment()
    await plane.application(environment, "api")
    await plane.roll(environment)
    run = Worker._run

    async def canceled_first(self: Worker, deployment: Deployment, runner: Runner) -> None:
        await plane.call("POST", f"/environment/{environment}/cancelDeployment", expect=202)
        await run(self, deployment, runner)

    monkeypatch.setattr(Worker, "_run", canceled_first)
    found = await plane.roll(environment)
    assert found["environment"]["last_deployment_state"] == "CANCELED"
    rows = await plane.database.read.all(_OUTCOMES)
    assert [row["phase"] for row in rows] == ["done", "canceled"]


async def test_a_build_that_fails_before_it_is_told_of_a_cancel_is_a_failed_build(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker may be held up by another cluster meanwhile."""
    environment = await plane.environment()
    await plane.application(environment, "api", "build=fail")
    monkeypatch.setattr(Runner, "cancel", lambda self: None)
    build = plane.platforms[next(iter(plane.platforms))].builder.build

    async def canceled_first(*arguments: Any) -> Any:
        await plane.call("POST", f"/environment/{environment}/cancelDeployment", expect=202)
        return await build(*arguments)

    for platform in plane.platforms.values():
        platform.builder.build = canceled_first  # type: ignore[method-assign]
    assert shown_states(await plane.roll(environment)) == {"BUILD_ERROR"}
    assert [row["phase"] for row in await plane.database.read.all(_OUTCOMES)] == ["build_failed"]
    history = await plane.call("GET", f"/environment/{environment}/deploymentHistoryV2")
    assert "internal error" not in str(history)


@pytest.mark.parametrize("verb", ["stop", "uninstall"])
async def test_a_canceled_stop_leads_the_route_to_nothing_that_is_about_to_end(
    verb: str, plane: ControlPlane
) -> None:
    """A process that was told to end does so, though nobody waits for it any more."""
    environment = await plane.environment()
    service = await plane.application(environment, "api", "stop_seconds=0.3")
    await plane.roll(environment)
    await plane.call("POST", f"/environment/{environment}/{verb}", expect=202)

    async def ending() -> bool:
        return bool(plane.world.running[f"{service}.1"].endings)

    await plane.eventually(ending)
    await plane.call("POST", f"/environment/{environment}/cancelDeployment", expect=202)
    assert shown_states(await plane.ended(environment)) == {"CANCELED"}
    serving = plane.world.running[plane.world.routes[service][0]]
    assert not serving.stopped and not serving.endings


async def test_a_failure_that_could_not_be_written_down_at_once_is_no_success(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its neighbours were interrupted by it, and that was stored."""
    environment = await plane.environment()
    await plane.application(environment, "bad", "build=fail&build_seconds=0.05")
    await plane.application(environment, "good", "build_seconds=30")
    move, refused = Journal._move, []

    async def once_refused(
        self: Journal, tx: Transaction, target: Target, phase: Phase, *rest: Any
    ) -> Target:
        moved = await move(self, tx, target, phase, *rest)
        if phase is Phase.BUILD_FAILED and not refused:
            refused.append(target.service_id)
            raise StorageFull("no space")
        return moved

    monkeypatch.setattr(Journal, "_move", once_refused)
    assert shown_states(await plane.roll(environment)) == {"BUILD_ERROR", "CANCELED"}
    assert refused
    assert [row["phase"] for row in await plane.database.read.all(_OUTCOMES)] == ["build_failed"]


async def test_a_route_that_cannot_be_switched_does_not_keep_others_from_being_started_again(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DEADLINES, StepName.SWITCH, 0.05)
    services = []
    for name in ("one", "two"):
        environment = await plane.environment(name)
        services.append(await plane.application(environment, "api"))
        await plane.roll(environment)
    switch = SimulatedRouter.switch

    async def hangs(self: SimulatedRouter, service: str, *rest: Any) -> None:
        if service == services[0]:
            await asyncio.Event().wait()
        await switch(self, service, *rest)

    monkeypatch.setattr(SimulatedRouter, "switch", hangs)
    plane.world.running.clear()
    keeper = asyncio.create_task(Reconciler(plane.database, plane.sealer, plane.clock, plane.platforms).run())

    async def again() -> bool:
        return f"{services[1]}.1" in plane.world.running

    await plane.eventually(again)
    keeper.cancel()
    await asyncio.gather(keeper, return_exceptions=True)


@pytest.mark.parametrize(("boot", "state"), [("ok", "DEPLOYED"), ("exit", "DEPLOYMENT_ERROR")])
async def test_what_is_being_started_again_is_deployed_when_it_is_ready(
    boot: str, state: str, plane: ControlPlane
) -> None:
    environment = await plane.environment()
    database = await plane.database_service(environment, "db")
    await plane.roll(environment)
    running = plane.world.running[f"{database}.1"]
    running.script, running.boot, running.started = Script("boot_seconds=0.5"), boot, plane.clock.monotonic()
    assert shown_states(await plane.roll(environment)) == {state}
    assert plane.clock.monotonic() - running.started >= 0.5


async def test_what_has_ended_by_itself_is_started_again(plane: ControlPlane) -> None:
    environment = await plane.environment()
    service = await plane.application(environment, "api")
    await plane.roll(environment)
    plane.world.running[f"{service}.1"].boot = "exit"
    await Reconciler(plane.database, plane.sealer, plane.clock, plane.platforms).look()
    assert plane.world.running[f"{service}.1"].boot == "ok"


async def test_what_vanishes_while_it_is_started_again_does_not_hold_up_everything(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a service without a probe nothing says that it failed."""
    monkeypatch.setattr("refloat.execution.reconciler.ready_deadline", lambda probe: 0.3)
    environment = await plane.environment()
    database = await plane.database_service(environment, "db")
    await plane.roll(environment)
    plane.world.running.clear()
    plane.world.rewrite(database, "boot_seconds=60")
    reconciler = Reconciler(plane.database, plane.sealer, plane.clock, plane.platforms)
    looking = asyncio.create_task(reconciler.look())
    await plane.eventually(lambda: asyncio.sleep(0, bool(plane.world.running)))
    plane.world.running.clear()
    plane.world.rewrite(database, "boot=ok")
    await asyncio.wait_for(looking, 30)
    await reconciler.look()
    assert set(plane.world.running) == {f"{database}.1"}


async def test_a_cancel_that_meets_the_commit_of_the_last_step_changes_nothing(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on its way to the disk is not seen by those who read, and is stored all the same."""
    environment = await plane.environment()
    await plane.application(environment, "api")
    database, cancel, runners = plane.database, Runner.cancel, list[Runner]()
    assert isinstance(database, SqliteDatabase)
    monkeypatch.setattr(Runner, "cancel", lambda self: runners.append(self))
    ask, aside = SimulatedRouter.ask, database._aside

    async def interrupted(execute: Callable[[str], object], statement: str) -> object:
        monkeypatch.setattr(database, "_aside", aside)
        cancel(runners[0])
        await asyncio.sleep(0.05)
        return await aside(execute, statement)

    async def canceled_meanwhile(self: SimulatedRouter, *arguments: Any) -> Any:
        await plane.call("POST", f"/environment/{environment}/cancelDeployment", expect=202)
        await plane.eventually(lambda: asyncio.sleep(0, bool(runners)))
        monkeypatch.setattr(database, "_aside", interrupted)
        return await ask(self, *arguments)

    monkeypatch.setattr(SimulatedRouter, "ask", canceled_meanwhile)
    assert shown_states(await plane.roll(environment)) == {"DEPLOYED"}
    assert "internal error" not in str(
        await plane.call("GET", f"/environment/{environment}/deploymentHistoryV2")
    )
