"""An environment that asks for it goes back by itself when a deployment of it fails: once, and all of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from refloat.execution.worker import Worker
from refloat.store import deployments as store
from refloat.store.database import Database, Reader, Transaction
from tests.databases import on_both_stores
from tests.simulation.control_plane import ControlPlane


async def _prepared(plane: ControlPlane, *, asked: bool = True) -> tuple[str, str, str]:
    """Two services in two stages, deployed well; from now on the second does not start."""
    environment = await plane.environment()
    first = await plane.application(environment, "first", stage="one")
    second = await plane.application(environment, "second", stage="two")
    path = f"/refloat/environment/{environment}"
    assert (await plane.call("GET", path))["rollback_on_failure"] is False
    if asked:
        shown = await plane.call("PUT", path, {"rollback_on_failure": True})
        assert shown == {"id": environment, "rollback_on_failure": True}
    await _deploy(plane, environment, "a", first, second)
    plane.world.rewrite(second, "boot=exit")
    return environment, first, second


async def _ask(plane: ControlPlane, environment: str, commit: str, *services: str) -> None:
    body = {"applications": [{"application_id": s, "git_commit_id": commit * 40} for s in services]}
    await plane.call("POST", f"/environment/{environment}/service/deploy", body, expect=202)


async def _deploy(plane: ControlPlane, environment: str, commit: str, *services: str) -> dict[str, Any]:
    await _ask(plane, environment, commit, *services)
    return await plane.ended(environment)


async def _history(plane: ControlPlane, environment: str) -> list[dict[str, Any]]:
    """Newest first."""
    return list((await plane.call("GET", f"/environment/{environment}/deploymentHistoryV2"))["results"])


def _serving(plane: ControlPlane, service: str) -> tuple[str, str]:
    """Which revision the route leads to, and its artifact."""
    key = plane.world.routes[service][0]
    return key, plane.world.running[key].revision.artifact.key


@on_both_stores
async def test_a_failure_in_the_second_stage_brings_the_first_one_back(plane: ControlPlane) -> None:
    environment, first, second = await _prepared(plane)
    before = {s: _serving(plane, s)[1] for s in (first, second)}
    status = (await _deploy(plane, environment, "b", first, second))["environment"]
    assert {s: _serving(plane, s)[1] for s in (first, second)} == before
    assert _serving(plane, first)[0] == f"{first}.3" and _serving(plane, second)[0] == f"{second}.1"
    assert (status["last_deployment_state"], status["deployment_status"]) == ("DEPLOYED", "OUT_OF_DATE")
    newest, failed, _ = await _history(plane, environment)
    assert failed["status"] == "DEPLOYMENT_ERROR"
    assert newest["auditing_data"]["triggered_by"] == f"rollback on failure of {environment}-2"
    assert newest["auditing_data"]["origin"] == "QOVERY_INTERNAL"
    lines = await plane.call("GET", f"/environment/{environment}/logs?version={environment}-2")
    said = [line["message"]["safe_message"] for line in lines]
    assert f"1 replaced service(s) go back to {environment}-1" in said and "deployment ended" in said[-1]


async def test_without_being_asked_nothing_goes_back(plane: ControlPlane) -> None:
    environment, first, second = await _prepared(plane, asked=False)
    await _deploy(plane, environment, "b", first, second)
    assert _serving(plane, first)[0] == f"{first}.2"
    assert len(await _history(plane, environment)) == 2


async def test_each_service_goes_back_to_where_it_was_though_they_were_deployed_apart(
    plane: ControlPlane,
) -> None:
    environment, first, second = await _prepared(plane)
    third = await plane.application(environment, "third", stage="one")
    await _deploy(plane, environment, "a", third)
    await _deploy(plane, environment, "c", first)
    before = {s: _serving(plane, s)[1] for s in (first, second, third)}
    await _deploy(plane, environment, "b", first, second, third)
    assert {s: _serving(plane, s)[1] for s in (first, second, third)} == before
    assert _serving(plane, third)[0] == f"{third}.5"


async def test_a_rollback_that_fails_is_not_followed_by_another(plane: ControlPlane) -> None:
    """Though it had replaced something itself."""
    environment, first, second = await _prepared(plane)
    between = await plane.application(environment, "between", stage="between")
    last = await plane.stage(environment, "two")
    path = f"/deploymentStage/{await plane.stage(environment, 'between')}/moveBefore/{last}"
    await plane.call("PUT", path)
    await _deploy(plane, environment, "a", first, between)
    plane.world.rewrite(between, "boot=ok,exit")
    await _deploy(plane, environment, "b", first, between, second)
    history = await _history(plane, environment)
    assert [h["status"] for h in history] == ["DEPLOYMENT_ERROR"] * 2 + ["DEPLOYED"] * 2
    assert (_serving(plane, first)[0], _serving(plane, between)[0]) == (f"{first}.4", f"{between}.3")


async def test_a_cancel_is_not_followed_by_a_rollback(plane: ControlPlane) -> None:
    environment, first, second = await _prepared(plane)
    plane.world.rewrite(second, "boot=hang")
    await _ask(plane, environment, "b", first, second)

    async def hangs() -> bool:
        return f"{second}.2" in plane.world.running

    await plane.eventually(hangs)
    await plane.call("POST", f"/environment/{environment}/cancelDeployment")
    await plane.ended(environment)
    newest = (await _history(plane, environment))[0]
    assert newest["status"] == "CANCELED"
    assert _serving(plane, first)[0] == f"{first}.2"


async def test_a_failure_that_was_canceled_is_not_followed_by_a_rollback(plane: ControlPlane) -> None:
    environment, first, second = await _prepared(plane)
    beside = await plane.application(environment, "beside", "boot=hang", stage="two")
    await _ask(plane, environment, "b", first, second, beside)
    await plane.until(environment, "DEPLOYMENT_ERROR")
    await plane.call("POST", f"/environment/{environment}/cancelDeployment")
    await plane.ended(environment)
    history = await _history(plane, environment)
    assert [h["status"] for h in history] == ["DEPLOYMENT_ERROR", "DEPLOYED"]
    assert _serving(plane, first)[0] == f"{first}.2"


async def test_a_failure_that_replaced_nothing_has_nothing_to_go_back_to(plane: ControlPlane) -> None:
    environment, first, second = await _prepared(plane)
    plane.world.rewrite(first, "build=fail")
    await _deploy(plane, environment, "b", first, second)
    assert len(await _history(plane, environment)) == 2


async def test_a_request_that_waits_is_newer_than_what_would_go_back(plane: ControlPlane) -> None:
    environment, first, second = await _prepared(plane)
    plane.world.rewrite(second, "boot=exit,ok&boot_seconds=0.3")
    await _ask(plane, environment, "b", first, second)

    async def boots() -> bool:
        return f"{second}.2" in plane.world.running

    await plane.eventually(boots)
    await _ask(plane, environment, "c", first, second)
    await plane.ended(environment)
    assert [h["status"] for h in await _history(plane, environment)][:2] == ["DEPLOYED", "DEPLOYMENT_ERROR"]
    assert _serving(plane, first)[0] == f"{first}.3"


class Death(BaseException):
    """The end of a control plane: nothing catches it."""


class DiesConcluding:
    """The real database, until the transaction in which a rollback appears: the server dies with it, just
    before its commit or just after."""

    def __init__(self, database: Database, environment: str, *, committed: bool) -> None:
        self._database = database
        self._environment = environment
        self._committed = committed
        self.died = asyncio.Event()
        self.read: Reader = database.read

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        if self.died.is_set():
            raise Death
        async with self._database.transaction() as tx:
            yield tx
            concluding = len(await store.history(tx, self._environment, 10)) == 3
            if concluding and not self._committed:
                self.died.set()
                raise Death
        if concluding:
            self.died.set()
            raise Death

    def snapshot(self) -> contextlib.AbstractAsyncContextManager[Reader]:
        return self._database.snapshot()

    async def close(self) -> None: ...


@pytest.mark.parametrize("committed", [False, True])
@on_both_stores
async def test_a_server_that_dies_at_the_conclusion_leaves_exactly_one_rollback(
    plane: ControlPlane, committed: bool
) -> None:
    environment, first, second = await _prepared(plane)
    before = _serving(plane, first)[1]
    await plane.stop()
    mortal = DiesConcluding(plane.database, environment, committed=committed)
    plane.worker = Worker(mortal, plane.sealer, plane.clock, plane.platforms, domain="localhost")
    task = asyncio.create_task(plane.worker.run())
    await _ask(plane, environment, "b", first, second)
    await asyncio.wait_for(mortal.died.wait(), 30)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await plane.start()
    await plane.ended(environment)
    history = await _history(plane, environment)
    assert [h["status"] for h in history] == ["DEPLOYED", "DEPLOYMENT_ERROR", "DEPLOYED"]
    assert _serving(plane, first)[1] == before
