"""What a cluster takes at once is an invariant of the claim: never more, and nobody starves."""

from collections.abc import Sequence

from refloat.execution.capacity import Capacity
from refloat.store import deployments as store
from tests.simulation.control_plane import ControlPlane


class Peak(set[str]):
    """Remembers how many were in it at most."""

    most = 0

    def add(self, element: str, /) -> None:
        super().add(element)
        self.most = max(self.most, len(self))


async def _start(plane: ControlPlane, capacity: Capacity) -> None:
    await plane.stop()
    plane.capacity = capacity
    await plane.start()


async def _environments(plane: ControlPlane, count: int, services: int, script: str = "") -> list[str]:
    made = []
    for number in range(count):
        made.append(await plane.environment(f"e{number}"))
        for service in range(services):
            await plane.application(made[-1], f"s{service}", script)
    return made


async def _redeploy(plane: ControlPlane, environments: Sequence[str]) -> None:
    for environment in environments:
        await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)


async def _state(plane: ControlPlane, environment: str) -> str:
    return str((await plane.call("GET", f"/environment/{environment}/status"))["state"])


async def test_no_more_builds_are_under_way_than_the_cluster_takes(plane: ControlPlane) -> None:
    """Within one deployment and among several: a stage that is wider builds in turns."""
    await _start(plane, Capacity(builds=2))
    peak = plane.world.building = Peak()
    environments = await _environments(plane, 4, 3, "build_seconds=0.02")
    await _redeploy(plane, environments)
    for environment in environments:
        assert (await plane.ended(environment))["environment"]["state"] == "DEPLOYED"
    assert peak.most == 2


async def test_no_more_deployments_run_than_the_cluster_takes(plane: ControlPlane) -> None:
    await _start(plane, Capacity(deployments=2))
    environments = await _environments(plane, 5, 1, "boot_seconds=0.05")
    await _redeploy(plane, environments)
    spans = []
    for environment in environments:
        assert (await plane.ended(environment))["environment"]["state"] == "DEPLOYED"
        (found,) = await store.history(plane.database.read, environment, 2)
        assert found.started_at and found.finished_at
        spans.append((found.started_at, found.finished_at))
    beside = [sum(began <= start < ended for began, ended in spans) for start, _ in spans]
    assert max(beside) == 2


async def test_what_builds_nothing_does_not_wait_for_builds(plane: ControlPlane) -> None:
    calm, busy, waiting = await _environments(plane, 3, 1)
    assert (await plane.roll(calm))["environment"]["state"] == "DEPLOYED"
    await _start(plane, Capacity(builds=1))
    await plane.application(busy, "slow", "build=hang")
    await _redeploy(plane, [busy])
    await plane.until(busy, "BUILDING")
    await _redeploy(plane, [waiting])
    assert (await plane.roll(calm, "stop"))["environment"]["state"] == "STOPPED"
    assert await _state(plane, waiting) == "DEPLOYMENT_QUEUED"


async def test_who_waits_for_builds_is_not_overtaken_by_those_that_need_fewer(plane: ControlPlane) -> None:
    await _start(plane, Capacity(builds=2))
    (first,) = await _environments(plane, 1, 1, "build=hang")
    wide, narrow = await plane.environment("wide"), await plane.environment("narrow")
    for name in ("a", "b"):
        await plane.application(wide, name, "build=hang")
    await plane.application(narrow, "a")
    await _redeploy(plane, [first])
    await plane.until(first, "BUILDING")
    await _redeploy(plane, [wide, narrow])
    await plane.call("POST", f"/environment/{first}/cancelDeployment", expect=202)
    await plane.until(wide, "BUILDING")
    assert await _state(plane, narrow) == "DEPLOYMENT_QUEUED"
    await plane.call("POST", f"/environment/{wide}/cancelDeployment", expect=202)
    assert (await plane.ended(narrow))["environment"]["state"] == "DEPLOYED"


async def test_builds_that_are_done_make_room_while_their_deployment_goes_on(plane: ControlPlane) -> None:
    await _start(plane, Capacity(builds=1))
    (first,) = await _environments(plane, 1, 1, "boot=hang")
    second = await plane.environment("second")
    await plane.application(second, "a")
    await _redeploy(plane, [first, second])
    assert (await plane.ended(second))["environment"]["state"] == "DEPLOYED"
    assert await _state(plane, first) == "DEPLOYING"


async def test_what_a_dead_owner_was_doing_counts_for_the_next_one(plane: ControlPlane) -> None:
    await _start(plane, Capacity(builds=1))
    peak = plane.world.building = Peak()
    environments = await _environments(plane, 2, 1, "build_seconds=0.05")
    await _redeploy(plane, environments)
    await plane.until(environments[0], "BUILDING")
    await _start(plane, Capacity(builds=1))
    for environment in environments:
        assert (await plane.ended(environment))["environment"]["state"] == "DEPLOYED"
    assert peak.most == 1
