"""Which builds must stay on the disk: what runs, and what history can go back to."""

from refloat.execution.applied import artifacts_in_use
from tests.databases import on_both_stores
from tests.simulation.control_plane import ControlPlane


async def deploy(plane: ControlPlane, environment: str, application: str, commit: str) -> str:
    """The artifact of the deployment, whatever became of it."""
    body = {"applications": [{"application_id": application, "git_commit_id": commit * 40}]}
    await plane.call("POST", f"/environment/{environment}/service/deploy", body, expect=202)
    await plane.ended(environment)
    return plane.world.running[max(plane.world.running, key=_number)].revision.artifact.key


def _number(key: str) -> int:
    return int(key.rpartition(".")[2])


async def pins(plane: ControlPlane, application: str, keep: int) -> set[str]:
    return set(await artifacts_in_use(plane.database.read, plane.sealer, keep, application) or ())


@on_both_stores
async def test_the_last_versions_that_ran_well_are_pinned_and_what_runs_always(plane: ControlPlane) -> None:
    environment = await plane.environment()
    api = await plane.application(environment, "api")
    first, second, third = [await deploy(plane, environment, api, commit) for commit in "abc"]
    plane.world.rewrite(api, "boot=exit")
    failed = await deploy(plane, environment, api, "d")
    plane.world.rewrite(api, "")
    assert len({first, second, third, failed}) == 4
    assert await pins(plane, api, 1) == {second, third}
    assert await pins(plane, api, 5) == {first, second, third}
    path = f"/refloat/environment/{environment}/rollback?to={environment}-1"
    await plane.call("POST", path, expect=202)
    await plane.ended(environment)
    assert first in await pins(plane, api, 1)


async def test_what_a_deployment_under_way_has_built_is_pinned(plane: ControlPlane) -> None:
    environment = await plane.environment()
    api = await plane.application(environment, "api")
    await deploy(plane, environment, api, "a")
    before = await pins(plane, api, 5)
    plane.world.rewrite(api, "boot=hang")
    body = {"applications": [{"application_id": api, "git_commit_id": "b" * 40}]}
    await plane.call("POST", f"/environment/{environment}/service/deploy", body, expect=202)

    async def boots() -> bool:
        return f"{api}.2" in plane.world.running

    await plane.eventually(boots)
    built = plane.world.running[f"{api}.2"].revision.artifact.key
    assert await pins(plane, api, 5) == {*before, built}


async def test_a_service_that_is_not_known_has_no_pins_to_go_by(plane: ControlPlane) -> None:
    assert await artifacts_in_use(plane.database.read, plane.sealer, 5, "never") is None


async def test_only_the_administrator_looks_at_the_disk_of_a_node(plane: ControlPlane) -> None:
    organization = await plane.organization()
    cluster = (await plane.call("GET", f"/organization/{organization}/cluster"))["results"][0]["id"]
    use = await plane.call("GET", f"/refloat/cluster/{cluster}/garbage")
    assert use == {"used_bytes": 0, "budget_bytes": None, "results": []}
    made = await plane.call("POST", f"/organization/{organization}/apiToken", {"name": "ci"})
    client = plane.client(made["token"])
    for method, path in (("GET", "garbage"), ("POST", "clean")):
        answer = await client.request(method, f"/refloat/cluster/{cluster}/{path}")
        assert answer.status_code == 403 and "admin token" in answer.json()["message"]
