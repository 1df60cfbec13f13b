"""A server that stood still while another one took its deployment over changes nothing when it wakes."""

from collections.abc import Awaitable, Callable
from typing import Any

from refloat.domain.revision import Instance
from refloat.execution import queue
from refloat.store import deployments as store
from tests.simulation.control_plane import ControlPlane


async def test_an_owner_that_was_replaced_while_it_waited_does_not_switch_the_route(
    plane: ControlPlane,
) -> None:
    environment = await plane.environment()
    service = await plane.application(environment, "api", "boot_seconds=1&answer=ok")
    storage = {"storage": [{"type": "FAST_SSD", "size": 4, "mount_point": "/data"}], "healthchecks": {}}
    await plane.call("PUT", f"/application/{service}", storage)
    await plane.roll(environment)
    broken = {"git_repository": {"url": "https://example.org/api.git#boot=exit"}}
    await plane.call("PUT", f"/application/{service}", {**storage, **broken})
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)

    async def reverting() -> bool:
        old = plane.world.running[f"{service}.1"]
        return f"{service}.2" in plane.world.running and not old.stopped

    await plane.eventually(reverting)
    before = plane.world.routes[service]
    await _taken_over_and_ended(plane, environment)

    async def gave_up() -> bool:
        return plane.worker is not None and plane.worker.idle

    await plane.eventually(gave_up)
    assert plane.world.routes[service] == before


async def _taken_over_and_ended(plane: ControlPlane, environment: str) -> None:
    async with plane.database.transaction() as tx:
        (deployment,) = await store.open_deployments(tx, environment)
        assert await store.take_over(tx, deployment, "another server")
        await queue.fail_all(tx, deployment, "by another server", plane.clock)


async def test_an_owner_that_was_replaced_while_it_looked_starts_nothing(plane: ControlPlane) -> None:
    environment = await plane.environment()
    service = await plane.application(environment, "api", "answer=ok")
    replaced: list[str] = []

    def slow(observe: Callable[..., Awaitable[tuple[Instance, ...]]]) -> Any:
        async def look(environment_id: str | None = None) -> tuple[Instance, ...]:
            if f"{service}.1" in plane.world.running and not replaced:
                replaced.append(service)
                await _taken_over_and_ended(plane, environment)
                plane.world.running.clear()
            return await observe(environment_id)

        return look

    for platform in plane.platforms.values():
        platform.engine.observe = slow(platform.engine.observe)  # type: ignore[method-assign]
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)

    async def gave_up() -> bool:
        return bool(replaced) and plane.worker is not None and plane.worker.idle

    await plane.eventually(gave_up)
    assert not plane.world.running


async def test_a_route_that_a_replaced_owner_switched_late_is_led_back_by_the_next_redeploy(
    plane: ControlPlane,
) -> None:
    environment = await plane.environment()
    service = await plane.application(environment, "api")
    await plane.roll(environment)
    route = plane.world.routes[service]
    plane.world.routes[service] = (f"{service}.0", (f"{service}.0/0",))
    assert (await plane.roll(environment))["environment"]["state"] == "DEPLOYED"
    assert plane.world.routes[service] == route
