"""Where a route leads is decided by one at a time: what began earlier is not done later."""

import asyncio
from typing import Any

import pytest

from refloat.domain.errors import StepFailed
from refloat.execution.reconciler import Reconciler
from refloat.simulated.router import SimulatedRouter
from tests.simulation.control_plane import ControlPlane

_SECONDS = 0.3
"""What a deployment needs many times over, if nobody holds it up."""


class Held:
    """Holds up the next switch of a route until it is let go; those after it pass."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        switch = SimulatedRouter.switch

        async def held(router: SimulatedRouter, *arguments: Any) -> None:
            if not self.begun.is_set():
                self.begun.set()
                await self.go.wait()
            await switch(router, *arguments)

        patch.setattr(SimulatedRouter, "switch", held)


async def _roll_meanwhile(plane: ControlPlane, environment: str, held: Held) -> None:
    """A deployment that is asked for while a switch is held up."""
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    ended = asyncio.ensure_future(plane.ended(environment))
    await asyncio.wait({ended}, timeout=_SECONDS)
    held.go.set()
    await ended


async def test_what_the_keeper_began_before_a_deployment_leads_no_route_back(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = await plane.environment()
    service = await plane.application(environment, "api")
    await plane.roll(environment)
    del plane.world.running[f"{service}.1"]
    keeper, held = Reconciler(plane.database, plane.sealer, plane.clock, plane.platforms), Held(monkeypatch)
    look = asyncio.ensure_future(keeper.look())
    await held.begun.wait()
    await plane.call("PUT", f"/application/{service}", {"healthchecks": {}, "cpu": 20})
    await _roll_meanwhile(plane, environment, held)
    await look
    assert plane.world.routes[service][0] == f"{service}.2"


async def test_what_is_led_away_from_while_a_deployment_begins_takes_no_route_from_it(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = await plane.environment()
    service = await plane.application(environment, "api", "answer=none")
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    await plane.eventually(lambda: asyncio.sleep(0, service in plane.world.routes))
    with monkeypatch.context() as patch:
        patch.setattr(SimulatedRouter, "switch", _refused)
        await plane.call("POST", f"/environment/{environment}/cancelDeployment", expect=202)
        await plane.ended(environment)
    plane.world.rewrite(service, "boot_seconds=0")
    keeper, held = Reconciler(plane.database, plane.sealer, plane.clock, plane.platforms), Held(monkeypatch)
    await keeper.look()
    await held.begun.wait()
    await _roll_meanwhile(plane, environment, held)
    assert keeper.tidying is not None
    await keeper.tidying
    assert plane.world.routes[service][0] == f"{service}.2"


async def _refused(*_: Any) -> None:
    raise StepFailed("switch is refused")
