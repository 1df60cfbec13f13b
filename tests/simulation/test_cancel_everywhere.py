"""A cancel in the middle of each kind of step: when the end is visible nothing of the deployment is left, and
what serves is whole, the old or the new."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from refloat.simulated.builder import SimulatedBuilder
from refloat.simulated.engine import SimulatedEngine
from refloat.simulated.router import SimulatedRouter
from tests.simulation.control_plane import PATIENCE, ControlPlane

BEFORE_THE_OUTCOME = {
    "build": (SimulatedBuilder, "build"),
    "execute": (SimulatedEngine, "run"),
    "prepare": (SimulatedEngine, "prepare"),
    "ready": (SimulatedEngine, "observe"),
    "switch": (SimulatedRouter, "switch"),
    "verify": (SimulatedRouter, "ask"),
}
AFTER_THE_OUTCOME = {"drain": (SimulatedRouter, "drain"), "stop": (SimulatedEngine, "stop")}
OF_A_STOP = {"withdraw": (SimulatedRouter, "switch"), **AFTER_THE_OUTCOME}


@pytest.fixture
async def rolled(plane: ControlPlane) -> tuple[str, str]:
    """An environment with one application that runs, and is configured otherwise since."""
    environment = await plane.environment()
    service = await plane.application(environment, "api", "release=ok&boot_seconds=0.02")
    await plane.roll(environment)
    changed = {"url": "https://example.org/api.git#release=ok&boot_seconds=0.02", "root_path": "/new"}
    await plane.call("PUT", f"/application/{service}", {"healthchecks": {}, "git_repository": changed})
    return environment, service


@pytest.fixture
def canceled_in(
    plane: ControlPlane, rolled: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Has the next call of an operation cancel the deployment, and go on when that was accepted, or last
    until it is interrupted. Only in the step that is named: others use the same operation."""

    def arm(kind: type, name: str, step: str, *, lasts: bool = False) -> None:
        original = getattr(kind, name)

        async def meets_a_cancel(self: Any, *arguments: Any) -> Any:
            journal = await plane.call("GET", f"/refloat/environment/{rolled[0]}/journal")
            if any(it["step"] == step and it["outcome"] is None for it in journal["results"]):
                monkeypatch.setattr(kind, name, original)
                await plane.call("POST", f"/environment/{rolled[0]}/cancelDeployment", expect=202)
                await asyncio.sleep(PATIENCE if lasts else 0)
            return await original(self, *arguments)

        monkeypatch.setattr(kind, name, meets_a_cancel)

    return arm


def _left(plane: ControlPlane) -> set[str]:
    """Revisions that run, once nothing is built or executed any more."""
    assert not (plane.world.building or plane.world.executing or plane.world.commands)
    return {key for key, it in plane.world.running.items() if not it.stopped}


@pytest.mark.parametrize("step", BEFORE_THE_OUTCOME)
async def test_a_cancel_in_a_step_returns_to_what_was_and_leaves_nothing(
    plane: ControlPlane, rolled: tuple[str, str], canceled_in: Any, step: str
) -> None:
    environment, service = rolled
    canceled_in(*BEFORE_THE_OUTCOME[step], step, lasts=True)
    assert (await plane.roll(environment))["environment"]["state"] == "CANCELED"
    assert _left(plane) == {f"{service}.1"}
    assert plane.world.routes[service][0] == f"{service}.1"


@pytest.mark.parametrize("step", AFTER_THE_OUTCOME)
async def test_a_cancel_after_the_new_version_was_verified_keeps_it_alone(
    plane: ControlPlane, rolled: tuple[str, str], canceled_in: Any, step: str
) -> None:
    environment, service = rolled
    canceled_in(*AFTER_THE_OUTCOME[step], step)
    assert (await plane.roll(environment))["environment"]["state"] in ("CANCELED", "DEPLOYED")
    assert _left(plane) == {f"{service}.2"}
    assert plane.world.routes[service][0] == f"{service}.2"


@pytest.mark.parametrize("step", OF_A_STOP)
async def test_a_cancel_of_a_stop_leaves_a_service_that_serves_or_none(
    plane: ControlPlane, rolled: tuple[str, str], canceled_in: Any, step: str
) -> None:
    environment, service = rolled
    canceled_in(*OF_A_STOP[step], step)
    state = (await plane.roll(environment, "stop"))["environment"]["state"]
    route = plane.world.routes[service]
    assert (state, _left(plane), route[0] if route[1] else "") in (
        ("CANCELED", {f"{service}.1"}, f"{service}.1"),
        ("STOPPED", set(), ""),
    )
