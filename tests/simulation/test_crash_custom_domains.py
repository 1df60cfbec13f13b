"""A failure, and a death meanwhile: domains lead to what serves in the end."""

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from refloat.clock import Alarm, SystemClock
from refloat.execution.crash import Moment
from tests.simulation.control_plane import ControlPlane
from tests.simulation.test_crash_everywhere import DiesAt, _run_until_death
from tests.simulation.test_custom_domains import add, attached

SCRIPT = {"key": "REFLOAT_SIMULATE", "is_secret": False, "variable_scope": "APPLICATION"}


class Hurried(SystemClock):
    """Twenty seconds in one: a route that never answers is waited for."""

    def monotonic(self) -> float:
        return 20 * time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 20)

    def alarm(self, seconds: float, ring: Callable[[], None]) -> Alarm:
        return super().alarm(seconds / 20, ring)


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    made = ControlPlane(tmp_path, clock=Hurried())
    await made.start()
    yield made
    await made.close()


@pytest.mark.parametrize("moment", list(Moment))
@pytest.mark.parametrize(
    ("step", "answer", "leads"),
    [("switch", "ok", "new.example.org"), ("revert", "error", "old.example.org")],
)
async def test_a_death_at_the_switch_or_the_revert_leaves_the_domains_of_what_serves(
    step: str, answer: str, leads: str, moment: Moment, plane: ControlPlane
) -> None:
    environment = await plane.environment()
    service = await plane.application(environment, "web")
    path = f"/application/{service}/customDomain"
    domain = await plane.call("POST", path, {"domain": "old.example.org", "generate_certificate": True})
    await plane.roll(environment)
    await plane.stop()
    renamed = {"domain": "new.example.org", "generate_certificate": True}
    await plane.call("PUT", f"{path}/{domain['id']}", renamed)
    script = {**SCRIPT, "variable_parent_id": service, "value": f"answer={answer}"}
    await plane.call("POST", "/variable", script)
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    assert await _run_until_death(plane, DiesAt(step, moment, 1), environment), "the place is never reached"
    await plane.start()
    statuses = await plane.ended(environment)
    wanted = "DEPLOYED" if answer == "ok" else "DEPLOYMENT_ERROR"
    assert statuses["applications"][0]["state"] == wanted
    assert attached(plane, service) == [leads]


async def test_a_failed_deployment_gives_the_domains_back(plane: ControlPlane) -> None:
    environment = await plane.environment()
    application = await plane.application(environment, "web")
    first = await add(plane, application, "shop.example.org")
    await plane.roll(environment)
    await plane.call("DELETE", f"/application/{application}/customDomain/{first}")
    await add(plane, application, "new.example.org")
    script = {**SCRIPT, "variable_parent_id": application, "value": "answer=error"}
    await plane.call("POST", "/variable", script)
    statuses = await plane.roll(environment)
    assert statuses["applications"][0]["state"] == "DEPLOYMENT_ERROR"
    assert attached(plane, application) == ["shop.example.org"]


async def test_a_first_deployment_that_fails_leaves_no_domain(plane: ControlPlane) -> None:
    environment = await plane.environment()
    application = await plane.application(environment, "web", "answer=error")
    await add(plane, application, "shop.example.org")
    await plane.roll(environment)
    assert attached(plane, application) == []
