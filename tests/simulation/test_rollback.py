"""Going back to an earlier deployment: code, configuration and values; what is configured stays."""

from typing import Any

from tests.simulation.control_plane import ControlPlane


async def _variable(plane: ControlPlane, application: str, value: str) -> None:
    path = f"/application/{application}/environmentVariable"
    known = (await plane.call("GET", path))["results"]
    found = next((v["id"] for v in known if v["key"] == "A"), None)
    body = {"key": "A", "value": value}
    await plane.call(*(("PUT", f"{path}/{found}", body) if found else ("POST", path, body)))


async def _deploy(plane: ControlPlane, environment: str, application: str, commit: str) -> None:
    body = {"applications": [{"application_id": application, "git_commit_id": commit * 40}]}
    await plane.call("POST", f"/environment/{environment}/service/deploy", body, expect=202)
    await plane.ended(environment)


async def _back(plane: ControlPlane, environment: str, number: int, more: str = "") -> dict[str, Any]:
    path = f"/refloat/environment/{environment}/rollback?to={environment}-{number}{more}"
    await plane.call("POST", path, expect=202)
    return await plane.ended(environment)


def _serving(plane: ControlPlane, application: str) -> tuple[str, str]:
    """Commit and variable of the revision that the route leads to."""
    revision = plane.world.running[plane.world.routes[application][0]].revision
    return revision.artifact.key, revision.environment["A"]


async def test_code_and_values_go_back_and_what_is_configured_stays(plane: ControlPlane) -> None:
    environment = await plane.environment()
    application = await plane.application(environment, "api")
    await _variable(plane, application, "old")
    await _deploy(plane, environment, application, "a")
    old = _serving(plane, application)
    await _variable(plane, application, "new")
    await _deploy(plane, environment, application, "b")
    new = _serving(plane, application)
    assert (old[1], new[1]) == ("old", "new") and old[0] != new[0]
    status = (await _back(plane, environment, 1))["environment"]
    assert (status["state"], status["deployment_status"]) == ("DEPLOYED", "OUT_OF_DATE")
    assert _serving(plane, application) == old
    shown = await plane.call("GET", f"/application/{application}")
    assert shown["git_repository"]["deployed_commit_id"] == "b" * 40
    assert (await plane.roll(environment))["environment"]["deployment_status"] == "UP_TO_DATE"
    assert _serving(plane, application) == new


async def test_the_plan_of_a_rollback_can_be_read_and_held_to(plane: ControlPlane) -> None:
    environment = await plane.environment()
    application = await plane.application(environment, "api")
    await _variable(plane, application, "old")
    await _deploy(plane, environment, application, "a")
    await _variable(plane, application, "new")
    await _deploy(plane, environment, application, "b")
    path = f"/refloat/environment/{environment}/plan?action=rollback&to={environment}-1"
    plan = await plane.call("GET", path)
    (service,) = plan["stages"][0]["services"]
    assert service["causes"] == ["git.commit", "variable.A"] and service["commit_id"] == "a" * 40
    refused = f"/refloat/environment/{environment}/rollback?to={environment}-1&plan={'0' * 16}"
    await plane.call("POST", refused, expect=409)
    await _back(plane, environment, 1, f"&plan={plan['hash']}")
    assert _serving(plane, application)[1] == "old"


async def test_a_first_deployment_whose_version_was_resolved_in_it_can_be_gone_back_to(
    plane: ControlPlane,
) -> None:
    environment = await plane.environment()
    application = await plane.application(environment, "api")
    await _variable(plane, application, "1")
    await plane.roll(environment)
    first = _serving(plane, application)
    await _deploy(plane, environment, application, "b")
    await _back(plane, environment, 1)
    assert _serving(plane, application) == first


async def test_services_made_later_are_left_alone_and_deleted_ones_stay_deleted(plane: ControlPlane) -> None:
    environment = await plane.environment()
    gone, kept = [await plane.application(environment, name) for name in ("gone", "kept")]
    await _variable(plane, kept, "old")
    await plane.roll(environment)
    await plane.call("DELETE", f"/application/{gone}", expect=204)
    await plane.ended(environment)
    later = await plane.application(environment, "later")
    await _variable(plane, kept, "new")
    await plane.roll(environment)
    await _back(plane, environment, 1)
    assert _serving(plane, kept)[1] == "old"
    assert plane.world.routes[later][0] == f"{later}.3" and gone not in plane.world.routes


async def test_who_took_no_part_in_what_is_gone_back_to_takes_none_in_the_rollback(
    plane: ControlPlane,
) -> None:
    environment = await plane.environment()
    api, other = [await plane.application(environment, name) for name in ("api", "other")]
    await _variable(plane, api, "old")
    await _deploy(plane, environment, other, "a")
    await _deploy(plane, environment, api, "a")
    await _variable(plane, api, "new")
    await _deploy(plane, environment, api, "b")
    status = await _back(plane, environment, 2)
    history = await plane.call("GET", f"/environment/{environment}/deploymentHistoryV2")
    stages = history["results"][0]["stages"]
    assert [s["identifier"]["name"] for stage in stages for s in stage["services"]] == ["api"]
    assert status["environment"]["state"] == "DEPLOYED" and _serving(plane, api)[1] == "old"


async def test_services_that_are_all_gone_are_nothing_to_go_back_to(plane: ControlPlane) -> None:
    environment = await plane.environment()
    gone, _ = [await plane.application(environment, name) for name in ("gone", "kept")]
    await _deploy(plane, environment, gone, "a")
    await plane.call("DELETE", f"/application/{gone}", expect=204)
    await plane.ended(environment)
    path = f"/refloat/environment/{environment}/rollback?to={environment}-1"
    refusal = await plane.call("POST", path, expect=400)
    assert "none of the services of that deployment is left" in refusal["message"]


async def test_only_a_deployment_that_ended_well_can_be_gone_back_to(plane: ControlPlane) -> None:
    environment = await plane.environment()
    application = await plane.application(environment, "api", "boot=ok,exit,ok")
    await _variable(plane, application, "1")
    await plane.roll(environment)
    await _variable(plane, application, "2")
    await plane.roll(environment)
    for to, status, words in (
        (f"{environment}-2", 400, "did not end as DEPLOYED"),
        (f"{environment}-9", 404, "no deployment"),
        ("", 400, "name the deployment"),
    ):
        path = f"/refloat/environment/{environment}/rollback?to={to}"
        refusal = await plane.call("POST", path, expect=status)
        assert words in refusal["message"]
    assert (await _back(plane, environment, 1))["environment"]["state"] == "DEPLOYED"


async def test_a_rollback_that_fails_leaves_what_serves(plane: ControlPlane) -> None:
    environment = await plane.environment()
    application = await plane.application(environment, "api", "boot=ok,ok,exit")
    await _variable(plane, application, "old")
    await plane.roll(environment)
    await _variable(plane, application, "new")
    await plane.roll(environment)
    assert (await _back(plane, environment, 1))["environment"]["state"] == "DEPLOYMENT_ERROR"
    assert _serving(plane, application)[1] == "new"
