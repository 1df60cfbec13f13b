"""Exhaustive: the control plane dies at every moment of every step, another one goes on, nothing differs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from refloat.execution.crash import Moment
from refloat.execution.worker import Worker
from refloat.store.database import Database, Reader, Transaction
from tests.databases import Store, make_store, sqlite_store
from tests.simulation.control_plane import KINDS, ControlPlane

STEPS = ("build", "execute", "prepare", "ready", "switch", "verify", "drain", "stop")
UNDO = ("revert", "discard")


class Death(BaseException):
    """The end of a control plane: nothing catches it."""


class DiesAt:
    """Crash points that end the control plane at the n-th time a moment of a step is reached."""

    def __init__(self, step: str, moment: Moment, occurrence: int) -> None:
        self._place = (step, moment)
        self._left = occurrence
        self.died = asyncio.Event()

    def hit(self, step: str, moment: Moment) -> None:
        if self.died.is_set():
            raise Death
        if (step, moment) == self._place:
            self._left -= 1
            if self._left == 0:
                self.died.set()
                raise Death

    def arm(self, step: str) -> None: ...


class MortalDatabase:
    """The real database, for as long as its control plane lives: the dead write nothing."""

    def __init__(self, database: Database, crash: DiesAt) -> None:
        self._database = database
        self._crash = crash
        self.read: Reader = database.read

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        if self._crash.died.is_set():
            raise Death
        async with self._database.transaction() as tx:
            yield tx
            if self._crash.died.is_set():
                raise Death

    def snapshot(self) -> contextlib.AbstractAsyncContextManager[Reader]:
        return self._database.snapshot()

    async def close(self) -> None: ...


async def _over(plane: ControlPlane, environment: str) -> None:
    """Also for the worker, which comes to its last place after the commit that others see."""
    await plane.ended(environment)
    await plane.at_rest()


async def _run_until_death(plane: ControlPlane, crash: DiesAt, environment: str) -> bool:
    """Whether the place was reached before the deployment ended."""
    database = MortalDatabase(plane.database, crash)
    plane.worker = Worker(
        database, plane.sealer, plane.clock, plane.platforms, domain="localhost", crash=crash
    )
    worker = asyncio.create_task(plane.worker.run())
    ended = asyncio.create_task(_over(plane, environment))
    died = asyncio.create_task(crash.died.wait())
    plane.worker.wake()
    await asyncio.wait({ended, died}, return_when=asyncio.FIRST_COMPLETED)
    reached = crash.died.is_set()
    for task in (ended, died, worker):
        task.cancel()
    await asyncio.gather(ended, died, worker, return_exceptions=True)
    plane.worker = None
    return reached


async def _prepared(folder: Path, store: Store) -> tuple[ControlPlane, str]:
    """A database to recreate, a job, one service to replace and one to skip, then one to rebuild with a
    release command."""
    plane = ControlPlane(folder, store=store)
    await plane.start()
    environment = await plane.environment()
    database = await plane.database_service(environment, "recreated")
    await plane.job(environment, "job")
    replaced = await plane.application(environment, "replaced", "boot_seconds=0.01", "first")
    await plane.application(environment, "skipped", "", "first")
    rebuilt = await plane.application(environment, "rebuilt", "release=ok", "second")
    await plane.roll(environment)
    await plane.stop()
    body = {
        "key": "A",
        "value": "1",
        "is_secret": False,
        "variable_scope": "APPLICATION",
        "variable_parent_id": replaced,
    }
    await plane.call("POST", "/variable", body)
    edit = {
        "healthchecks": {},
        "git_repository": {"url": "https://example.org/rebuilt.git#release=ok", "root_path": "/x"},
    }
    await plane.call("PUT", f"/application/{rebuilt}", edit)
    await plane.call("PUT", f"/database/{database}", {"memory": 200})
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    return plane, environment


async def _outcome(plane: ControlPlane, environment: str) -> dict[str, Any]:
    """What must not depend on crashes: states, journal, routes, what runs."""
    statuses = await plane.statuses(environment)
    names = {
        s["id"]: s["name"]
        for s in (await plane.call("GET", f"/environment/{environment}/services"))["results"]
    }
    journal = (await plane.call("GET", f"/refloat/environment/{environment}/journal"))["results"]
    return {
        "states": sorted((names[s["id"]], s["state"]) for kind in KINDS for s in statuses[kind]),
        "runs": sorted((names[key.partition(".")[0]], *key.split(".")[1:]) for key in plane.world.runs),
        "environment": (statuses["environment"]["state"], statuses["environment"]["deployment_status"]),
        "journal": sorted((names.get(s["service_id"], ""), s["step"], s["outcome"]) for s in journal),
        "routes": sorted((names[k], v[0].rpartition(".")[2]) for k, v in plane.world.routes.items()),
        "running": sorted(
            (r.revision.name, key.rpartition(".")[2])
            for key, r in plane.world.running.items()
            if not r.stopped
        ),
    }


async def _attempts(plane: ControlPlane, environment: str) -> dict[tuple[str, str], int]:
    journal = (await plane.call("GET", f"/refloat/environment/{environment}/journal"))["results"]
    return {(s["service_id"] or "", s["step"]): s["attempt"] for s in journal}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outcome without a crash."""

    folder = tmp_path_factory.mktemp("undisturbed")

    async def run() -> dict[str, Any]:
        plane, environment = await _prepared(folder, sqlite_store(folder))
        await plane.start()
        await plane.ended(environment)
        outcome = await _outcome(plane, environment)
        await plane.close()
        return outcome

    return asyncio.run(run())


PLACES = [(step, moment, occurrence) for step in STEPS for moment in Moment for occurrence in (1, 2)]
SAMPLE = PLACES[::5]
"""5 has no factor of 3 or 2: every step, moment and occurrence is among them."""


@pytest.mark.parametrize(
    ("kind", "step", "moment", "occurrence"),
    [("sqlite", *place) for place in PLACES] + [("postgresql", *place) for place in SAMPLE],
)
async def test_a_death_at_any_step_changes_nothing(
    kind: str,
    step: str,
    moment: Moment,
    occurrence: int,
    tmp_path: Path,
    undisturbed: dict[str, Any],
    request: pytest.FixtureRequest,
) -> None:
    plane, environment = await _prepared(tmp_path, make_store(request, kind, tmp_path))
    crash = DiesAt(step, moment, occurrence)
    assert await _run_until_death(plane, crash, environment), "the place is never reached"
    finished = {
        (s["service_id"] or "", s["step"])
        for s in (await plane.call("GET", f"/refloat/environment/{environment}/journal"))["results"]
        if s["outcome"] == "done"
    }
    await plane.start()
    await plane.ended(environment)
    assert await _outcome(plane, environment) == undisturbed
    attempts = await _attempts(plane, environment)
    assert all(attempts[key] == 1 for key in finished)
    assert all(count <= 2 for count in attempts.values())
    await plane.close()


@pytest.mark.parametrize("moment", list(Moment))
@pytest.mark.parametrize("step", UNDO)
async def test_a_death_while_undoing_a_failure_ends_in_the_same_error(
    step: str, moment: Moment, tmp_path: Path
) -> None:
    plane = ControlPlane(tmp_path)
    await plane.start()
    environment = await plane.environment()
    service = await plane.application(environment, "api", "boot=ok,exit")
    await plane.roll(environment)
    await plane.stop()
    await plane.call("PUT", f"/application/{service}", {"healthchecks": {}, "cpu": 20})
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    assert await _run_until_death(plane, DiesAt(step, moment, 1), environment)
    await plane.start()
    statuses = await plane.ended(environment)
    assert statuses["environment"]["state"] == "DEPLOYMENT_ERROR"
    assert plane.world.routes[service][0] == f"{service}.1"
    alive = [key for key, r in plane.world.running.items() if not r.stopped]
    assert alive == [f"{service}.1"]
    history = (await plane.call("GET", f"/environment/{environment}/deploymentHistoryV2"))["results"]
    assert "exit code 1" in history[0]["stages"][0]["services"][0]["reason"]
    attempts = await _attempts(plane, environment)
    assert attempts[service, "ready"] == 1, "what failed is done again"
    await plane.close()
