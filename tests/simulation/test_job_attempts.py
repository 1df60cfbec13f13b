"""A job of a deployment that is tried again: each attempt once, one at a time, whoever dies in between."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from refloat.clock import SystemClock
from refloat.execution.crash import Moment
from tests.simulation.control_plane import ControlPlane
from tests.simulation.test_crash_everywhere import Death, DiesAt, _run_until_death

_FASTER = 20


class Hasty(SystemClock):
    """Time limits come sooner."""

    def alarm(self, seconds: float, ring: Callable[[], None]) -> asyncio.TimerHandle:
        return super().alarm(seconds / _FASTER, ring)


class Executing(set[str]):
    """The commands that run, and how many did so at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0

    def add(self, key: str) -> None:
        super().add(key)
        self.most = max(self.most, len(self))


class Trial:
    """A job whose attempts do not end, and which may be tried again once."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.executing = plane.world.executing = Executing()
        self.environment = self.job = ""
        self.crash = DiesAt("nowhere", Moment.BEFORE, 1)

    async def asked_for(self, script: str = "release=hang") -> None:
        """Its deployment waits for a server."""
        await self.plane.start()
        await self.plane.stop()
        self.environment = await self.plane.environment()
        self.job = await self.plane.job(
            self.environment, "migrate", script, max_duration_seconds=1, max_nb_restart=1
        )
        await self.plane.call("POST", f"/environment/{self.environment}/redeploy", expect=202)

    async def in_the_repeat(self) -> bool:
        return any(key.endswith(".2") for key in self.executing)

    async def killed_in_the_repeat(self) -> None:
        """The first server."""

        async def kill() -> None:
            await self.plane.eventually(self.in_the_repeat)
            self.crash.died.set()

        killing = asyncio.create_task(kill())
        assert await _run_until_death(self.plane, self.crash, self.environment)
        await killing

    async def goes_on(self) -> str:
        """Under the next server, to its end: why it failed."""
        await self.plane.start()
        found = await self.plane.ended(self.environment)
        path = f"/environment/{self.environment}/deploymentHistoryV2"
        reason = (await self.plane.call("GET", path))["results"][0]["reason"]
        assert not self.executing
        return f"{found['jobs'][0]['state']} {reason or ''}".strip()

    @property
    def begun(self) -> int:
        return self.plane.world.turns[self.job, "release"]


@pytest.fixture
async def trial(tmp_path: Path) -> AsyncIterator[Trial]:
    plane = ControlPlane(tmp_path, clock=Hasty())
    yield Trial(plane)
    await plane.close()


FAILED = "DEPLOYMENT_ERROR migrate: the job failed: it did not end within 1 s (run 2 times)"


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "told to end"])
async def test_a_server_that_ends_in_a_repeat_is_followed_by_one_that_joins_it(
    trial: Trial, killed: bool
) -> None:
    await trial.asked_for()
    if killed:
        await trial.killed_in_the_repeat()
    else:
        await trial.plane.start()
        await trial.plane.eventually(trial.in_the_repeat)
        await trial.plane.stop()
    assert await trial.goes_on() == FAILED
    assert (trial.begun, trial.executing.most) == (2, 1)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("ended", [True, False], ids=["ended", "going on"])
async def test_a_server_that_dies_while_it_ends_an_attempt_is_followed_by_no_other_one_of_that(
    trial: Trial, number: int, ended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await trial.asked_for()
    with monkeypatch.context() as patch:
        for platform in trial.plane.platforms.values():
            patch.setattr(platform.engine, "forget_run", _deadly(trial, platform.engine, number, ended))
        assert await _run_until_death(trial.plane, trial.crash, trial.environment)
    assert len(trial.executing) == (0 if ended else 1)
    assert await trial.goes_on() == FAILED
    assert (trial.begun, trial.executing.most) == (2, 1)


def _deadly(trial: Trial, engine: Any, number: int, ended: bool) -> Any:
    """The server dies as it ends the attempt of that number, before or after that is done."""
    forget = engine.forget_run

    async def forget_run(key: str) -> None:
        mortal = key.endswith(f".{number}")
        if ended or not mortal:
            await forget(key)
        if mortal:
            trial.crash.died.set()
            raise Death

    return forget_run


async def test_a_repeat_that_ends_well_is_joined_and_its_job_is_done(trial: Trial) -> None:
    await trial.asked_for("release=fail,ok&release_seconds=0.02")
    await trial.killed_in_the_repeat()
    assert await trial.goes_on() == "DEPLOYED"
    assert (trial.begun, trial.executing.most) == (2, 1)
