"""What a deployment could not clean up is ended by the keeper, and gets no requests when it ends."""

import asyncio
import itertools
from collections.abc import Callable
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


async def _routed_and_left(plane: ControlPlane, environment: str, service: str, refusing: Any) -> None:
    """A first revision that is not recorded, and that the route leads to: its deployment was canceled."""
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    await plane.eventually(lambda: asyncio.sleep(0, service in plane.world.routes))
    refusing(SimulatedRouter, "switch")
    await _canceled(plane, environment)
    assert plane.world.routes[service][0] == f"{service}.1"


def _led_to_at_each_end(plane: ControlPlane, service: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by where the route leads whenever something is told to end."""
    led_to = list[str]()
    stop = SimulatedEngine.stop

    async def seen(self: SimulatedEngine, *arguments: Any) -> None:
        led_to.append(plane.world.routes[service][0])
        await stop(self, *arguments)

    monkeypatch.setattr(SimulatedEngine, "stop", seen)
    return led_to


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
    await _routed_and_left(plane, environment, service, refusing)
    led_to = _led_to_at_each_end(plane, service, monkeypatch)
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


async def test_what_the_route_still_leads_to_is_not_ended_though_it_was_said_to_be_led_back(
    plane: ControlPlane,
) -> None:
    environment = await plane.environment()
    service = await plane.application(environment, "api")
    await plane.roll(environment)
    del plane.world.running[f"{service}.1"]
    plane.world.rewrite(service, "answer=none")
    await plane.call("PUT", f"/application/{service}", {"healthchecks": {}, "cpu": 20})
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    await plane.eventually(lambda: asyncio.sleep(0, plane.world.routes[service][0] == f"{service}.2"))
    plane.world.rewrite(service, "answer=old")  # the route stays where it is when it is led to this one
    await _canceled(plane, environment)
    assert plane.world.routes[service][0] == f"{service}.2"
    assert not plane.world.running[f"{service}.2"].stopped


@pytest.fixture
async def stopped_and_left(plane: ControlPlane, refusing: Any) -> tuple[str, str]:
    """A database that is stopped, and of which a failed attempt to start it runs on."""
    environment = await plane.environment()
    service = await plane.database_service(environment)
    await plane.roll(environment)
    await plane.roll(environment, "stop")
    plane.world.rewrite(service, "boot=exit")
    refusing(SimulatedEngine, "stop")
    assert shown_states(await plane.roll(environment)) == {"DEPLOYMENT_ERROR"}
    assert not plane.world.running[f"{service}.3"].stopped
    return environment, service


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], object]], None]:
    """From its call on, such looks at what runs show nothing though something does; the first is number 1."""

    def make(which: Callable[[int], object]) -> None:
        observe, numbers = SimulatedEngine.observe, itertools.count(1)

        async def seen(self: SimulatedEngine, *arguments: Any) -> Any:
            return () if which(next(numbers)) else await observe(self, *arguments)

        monkeypatch.setattr(SimulatedEngine, "observe", seen)

    return make


@pytest.fixture
def drained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by every endpoint whose requests are waited for."""
    endpoints, drain = list[str](), SimulatedRouter.drain

    async def seen(self: SimulatedRouter, which: tuple[str, ...], seconds: float) -> int:
        endpoints.extend(which)
        return await drain(self, which, seconds)

    monkeypatch.setattr(SimulatedRouter, "drain", seen)
    return endpoints


@pytest.mark.parametrize("period", [0, 2], ids=["all looks show it", "every second look shows nothing"])
async def test_a_stop_of_what_is_stopped_ends_what_a_failed_start_left(
    plane: ControlPlane, stopped_and_left: tuple[str, str], refusing: Any, blind: Any, period: int
) -> None:
    environment, _ = stopped_and_left
    await plane.stop()  # while no server works both wait, and a stop of what is to start is accepted
    for verb in ("redeploy", "stop"):
        await plane.call("POST", f"/environment/{environment}/{verb}", expect=202)
    refusing(SimulatedEngine, "stop")
    blind(lambda number: period and number % period == 1)
    await plane.start()
    assert shown_states(await plane.ended(environment)) == {"STOPPED"}
    assert {key for key, it in plane.world.running.items() if not it.stopped} == set()


@pytest.mark.parametrize("nothing_at", [0, 1, 2], ids=["seen", "not at the claim", "not at the step"])
async def test_what_a_failed_start_left_ends_before_another_one_uses_the_same_data(
    plane: ControlPlane,
    stopped_and_left: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    blind: Any,
    nothing_at: int,
) -> None:
    environment, service = stopped_and_left
    prepare, beside = SimulatedEngine.prepare, list[str]()

    async def seen(self: SimulatedEngine, *arguments: Any) -> Any:
        beside.extend(key for key, it in plane.world.running.items() if not it.stopped)
        return await prepare(self, *arguments)

    monkeypatch.setattr(SimulatedEngine, "prepare", seen)
    plane.world.rewrite(service, "")
    blind(lambda number: number == nothing_at)
    assert shown_states(await plane.roll(environment)) == {"DEPLOYED"}
    assert beside == []


async def test_what_the_route_still_leads_to_has_no_requests_any_more_when_the_next_start_ends_it(
    plane: ControlPlane, refusing: Any, monkeypatch: pytest.MonkeyPatch, drained: list[str]
) -> None:
    """Of a service with storage, of which one at a time may run."""
    environment = await plane.environment()
    service = await plane.application(environment, "api", "answer=none")
    storage = {"storage": [{"type": "FAST_SSD", "size": 4, "mount_point": "/data"}], "healthchecks": {}}
    await plane.call("PUT", f"/application/{service}", storage)
    await _routed_and_left(plane, environment, service, refusing)
    led_to = _led_to_at_each_end(plane, service, monkeypatch)
    left = plane.world.routes[service][1]
    plane.world.rewrite(service, "answer=ok")
    assert shown_states(await plane.roll(environment)) == {"DEPLOYED"}
    assert led_to == [""] and tuple(drained) == left


async def test_a_look_that_shows_nothing_does_not_spare_what_is_replaced_its_drain(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, blind: Any, drained: list[str]
) -> None:
    environment = await plane.environment()
    service = await plane.application(environment, "api")
    await plane.roll(environment)
    old, switch = plane.world.routes[service][1], SimulatedRouter.switch

    async def switched(self: SimulatedRouter, *arguments: Any) -> None:
        await switch(self, *arguments)
        blind(lambda number: number % 2 == 1)  # in the verification, and in the drain after it

    monkeypatch.setattr(SimulatedRouter, "switch", switched)
    await plane.call("PUT", f"/application/{service}", {"healthchecks": {}, "cpu": 20})
    assert shown_states(await plane.roll(environment)) == {"DEPLOYED"}
    await plane.at_rest()
    assert tuple(drained) == old


async def test_what_a_failed_deployment_left_beside_is_drained_too_when_a_later_one_ends_it(
    plane: ControlPlane, refusing: Any, drained: list[str]
) -> None:
    """It was led to for a moment, and may still be answering what came then."""
    environment = await plane.environment()
    service = await plane.application(environment, "api")
    await plane.roll(environment)
    plane.world.rewrite(service, "answer=error")
    await plane.call("PUT", f"/application/{service}", {"healthchecks": {}, "cpu": 20})
    refusing(SimulatedEngine, "stop")
    assert shown_states(await plane.roll(environment)) == {"DEPLOYMENT_ERROR"}
    plane.world.rewrite(service, "answer=ok")
    await plane.call("PUT", f"/application/{service}", {"healthchecks": {}, "cpu": 30})
    assert shown_states(await plane.roll(environment)) == {"DEPLOYED"}
    await plane.at_rest()
    assert {endpoint.rpartition("/")[0] for endpoint in drained} == {f"{service}.1", f"{service}.2"}


async def test_a_look_that_shows_no_command_does_not_spare_it_its_end(
    plane: ControlPlane, refusing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = await plane.environment()
    await _command_left(plane, environment, refusing)
    executing, looks = SimulatedEngine.executing, itertools.count()

    async def blind(self: SimulatedEngine, *arguments: Any) -> Any:
        return await executing(self, *arguments) if next(looks) % 2 else ()

    monkeypatch.setattr(SimulatedEngine, "executing", blind)
    assert shown_states(await plane.roll(environment, "stop")) == {"STOPPED"}
    assert not plane.world.executing


@pytest.mark.parametrize("how", ["failed", "canceled"])
async def test_a_new_version_that_was_led_to_is_drained_before_it_is_given_up(
    plane: ControlPlane, drained: list[str], how: str
) -> None:
    environment = await plane.environment()
    service = await plane.application(environment, "api")
    await plane.roll(environment)
    plane.world.rewrite(service, "answer=error" if how == "failed" else "answer=none")
    await plane.call("PUT", f"/application/{service}", {"healthchecks": {}, "cpu": 20})
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    await plane.eventually(lambda: asyncio.sleep(0, plane.world.routes[service][0] == f"{service}.2"))
    led_to = plane.world.routes[service][1]
    if how == "canceled":
        await _canceled(plane, environment)
    await plane.ended(environment)
    assert plane.world.routes[service][0] == f"{service}.1"
    assert plane.world.running[f"{service}.2"].stopped and tuple(drained) == led_to


async def test_a_drain_that_is_refused_does_not_keep_what_is_given_up(
    plane: ControlPlane, refusing: Any
) -> None:
    environment = await plane.environment()
    service = await plane.application(environment, "api")
    await plane.roll(environment)
    plane.world.rewrite(service, "answer=error")
    await plane.call("PUT", f"/application/{service}", {"healthchecks": {}, "cpu": 20})
    refusing(SimulatedRouter, "drain")
    assert shown_states(await plane.roll(environment)) == {"DEPLOYMENT_ERROR"}
    assert plane.world.running[f"{service}.2"].stopped
