"""What keeps applied revisions running never undoes a deployment: it acts on what is recorded now."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import cast

import pytest

from refloat.domain.resources import ClusterKind
from refloat.domain.revision import Instance
from refloat.engines.base import Engine
from refloat.execution.reconciler import Reconciler
from tests.simulation.control_plane import ControlPlane

_TIMES = {"initial_delay_seconds": 0, "period_seconds": 1, "timeout_seconds": 1, "failure_threshold": 1}
_ALIVE = {"liveness_probe": {"type": {"tcp": {"port": 8000}}, **_TIMES}}


@contextlib.asynccontextmanager
async def _kept(plane: ControlPlane) -> AsyncIterator[None]:
    """What is applied when this begins is watched from then on."""
    keeper = Reconciler(plane.database, plane.sealer, plane.clock, plane.platforms)
    await keeper.look()
    async with _running(keeper):
        yield


@contextlib.asynccontextmanager
async def _running(keeper: Reconciler) -> AsyncIterator[None]:
    running = asyncio.create_task(keeper.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_what_was_replaced_while_its_neighbour_was_being_restored_is_not_brought_back(
    plane: ControlPlane,
) -> None:
    environment = await plane.environment()
    slow = await plane.application(environment, "slow", "boot_seconds=2", "first")
    service = await plane.application(environment, "api", "", "second")
    await plane.roll(environment)
    plane.world.running.clear()  # the machine went down
    keeper = Reconciler(plane.database, plane.sealer, plane.clock, plane.platforms)
    look = asyncio.create_task(keeper.look())

    async def restoring() -> bool:
        return f"{slow}.1" in plane.world.running

    await plane.eventually(restoring)
    body = {"applications": [{"application_id": service, "git_commit_id": "a" * 40}]}
    await plane.call("POST", f"/environment/{environment}/service/deploy", body, expect=202)
    await plane.ended(environment)
    assert not look.done(), "the deployment took longer than the neighbour's start"
    await look
    assert plane.world.routes[service][0] == f"{service}.2"
    assert f"{service}.1" not in plane.world.running


async def test_a_probe_that_fails_while_a_deployment_replaces_the_revision_starts_nothing(
    plane: ControlPlane,
) -> None:
    environment = await plane.environment()
    service = await plane.application(environment, "api", "")
    await plane.call("PUT", f"/application/{service}", {"healthchecks": _ALIVE})
    await plane.roll(environment)
    old = plane.world.running[f"{service}.1"]
    async with _kept(plane):
        edit = {"git_repository": {"url": "https://example.org/api.git#build_seconds=2"}}
        await plane.call("PUT", f"/application/{service}", {"healthchecks": _ALIVE, **edit})
        await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
        await plane.until(environment, "BUILDING")
        old.boot = "hang"  # it does not answer its probe any more
        await plane.ended(environment)
        assert plane.world.running[f"{service}.1"] is old, "it was started again"
        assert plane.world.routes[service][0] == f"{service}.2"


async def test_an_environment_that_does_not_get_ready_holds_up_no_other(plane: ControlPlane) -> None:
    """As after a power cut, with one application that does not listen any more."""
    first, second = [await plane.environment(name) for name in ("first", "second")]
    silent = await plane.application(first, "silent")
    service = await plane.application(second, "api")
    for environment in (first, second):
        await plane.roll(environment)
    plane.world.running.clear()  # the machine went down
    plane.world.rewrite(silent, "boot=hang")
    async with _running(Reconciler(plane.database, plane.sealer, plane.clock, plane.platforms)):
        await plane.eventually(lambda: asyncio.sleep(0, f"{service}.1" in plane.world.running))


class Silent:
    """An engine that never tells what runs."""

    async def observe(self, environment_id: str | None = None) -> tuple[Instance, ...]:
        await asyncio.sleep(3600)
        return ()


async def test_a_cluster_that_does_not_tell_what_runs_holds_up_no_other(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refloat.execution.reconciler.OBSERVE_SECONDS", 0.1)
    environment = await plane.environment()
    service = await plane.application(environment, "api")
    await plane.roll(environment)
    plane.world.running.clear()  # the machine went down
    silent = dataclasses.replace(plane.platforms[ClusterKind.SIMULATED], engine=cast(Engine, Silent()))
    platforms = {ClusterKind.SIMULATED: silent, ClusterKind.LOCAL: plane.platforms[ClusterKind.LOCAL]}
    await asyncio.wait_for(Reconciler(plane.database, plane.sealer, plane.clock, platforms).look(), 20)
    assert f"{service}.1" in plane.world.running


async def test_what_serves_after_a_failed_deployment_is_started_again(plane: ControlPlane) -> None:
    """The failed one acted on the service last, and what it left is kept in its hands."""
    environment = await plane.environment()
    service = await plane.application(environment, "api", "boot=ok,exit,ok")
    await plane.roll(environment)
    await plane.call("PUT", f"/application/{service}", {"healthchecks": {}, "cpu": 20})
    assert (await plane.roll(environment))["environment"]["state"] == "DEPLOYMENT_ERROR"
    plane.world.running.clear()  # the machine went down
    await Reconciler(plane.database, plane.sealer, plane.clock, plane.platforms).look()
    assert set(plane.world.running) == {f"{service}.1"}
