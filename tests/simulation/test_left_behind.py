"""What a deployment could not clean up is ended by the keeper, and gets no requests when it ends."""

import asyncio
from typing import Any

import pytest

from refloat.domain.errors import StepFailed
from refloat.execution.reconciler import Reconciler
from refloat.simulated.engine import SimulatedEngine
from refloat.simulated.router import SimulatedRouter
from tests.simulation.control_plane import ControlPlane, shown_states


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the next call of an operation fail."""

    def once(kind: type, name: str) -> None:
        original = getattr(kind, name)

        async def refused(self: Any, *arguments: Any) -> Any:
            monkeypatch.setattr(kind, name, original)
            raise StepFailed(f"{name} is refused")

        monkeypatch.setattr(kind, name, refused)

    return once


async def _canceled(plane: ControlPlane, environment: str) -> None:
    await plane.call("POST", f"/environment/{environment}/cancelDeployment", expect=202)
    await plane.ended(environment)


async def _command_left(plane: ControlPlane, environment: str, refusing: Any) -> None:
    """A release command that goes on after its deployment was canceled."""
    service = await plane.application(environment, "api", "release=ok,hang")
    await plane.roll(environment)
    await plane.call("PUT", f"/application/{service}", {"healthchecks": {}, "cpu": 20})
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    await plane.eventually(lambda: asyncio.sleep(0, bool(plane.world.executing)))
    refusing(SimulatedEngine, "stop")
    await _canceled(plane, environment)
    assert plane.world.executing


async def _tidied(plane: ControlPlane) -> None:
    keeper = Reconciler(plane.database, plane.sealer, plane.clock, plane.platforms)
    await keeper.look()
    assert keeper.tidying is not None
    await keeper.tidying


async def test_a_command_of_a_deployment_that_has_ended_is_ended(plane: ControlPlane, refusing: Any) -> None:
    environment = await plane.environment()
    await _command_left(plane, environment, refusing)
    await _tidied(plane)
    assert not plane.world.executing


async def test_a_stop_ends_what_an_earlier_deployment_left_executing(
    plane: ControlPlane, refusing: Any
) -> None:
    environment = await plane.environment()
    await _command_left(plane, environment, refusing)
    assert shown_states(await plane.roll(environment, "stop")) == {"STOPPED"}
    assert not plane.world.executing


async def test_what_could_not_be_led_away_from_gets_no_requests_any_more_when_it_is_ended(
    plane: ControlPlane, refusing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = await plane.environment()
    service = await plane.application(environment, "api", "answer=none")
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    await plane.eventually(lambda: asyncio.sleep(0, service in plane.world.routes))
    refusing(SimulatedRouter, "switch")
    await _canceled(plane, environment)
    assert plane.world.routes[service][0] == f"{service}.1"
    led_to = list[str]()
    stop = SimulatedEngine.stop

    async def seen(self: SimulatedEngine, *arguments: Any) -> None:
        led_to.append(plane.world.routes[service][0])
        await stop(self, *arguments)

    monkeypatch.setattr(SimulatedEngine, "stop", seen)
    await _tidied(plane)
    assert led_to == [""]


async def test_a_route_that_could_not_be_led_back_is_led_back_before_what_it_led_to_is_ended(
    plane: ControlPlane, refusing: Any
) -> None:
    environment = await plane.environment()
    service = await plane.application(environment, "api")
    await plane.roll(environment)
    keeper = Reconciler(plane.database, plane.sealer, plane.clock, plane.platforms)
    await keeper.look()  # it has seen the route lead to what is recorded
    plane.world.rewrite(service, "answer=none")
    await plane.call("PUT", f"/application/{service}", {"healthchecks": {}, "cpu": 20})
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    await plane.eventually(lambda: asyncio.sleep(0, plane.world.routes[service][0] == f"{service}.2"))
    refusing(SimulatedRouter, "switch")
    await _canceled(plane, environment)
    assert plane.world.routes[service][0] == f"{service}.2"
    await keeper.look()
    assert plane.world.routes[service][0] == f"{service}.1"
    await _tidied(plane)
    assert plane.world.running[f"{service}.2"].stopped
