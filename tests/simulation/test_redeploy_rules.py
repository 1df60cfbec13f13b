"""What a redeploy means: who is rolled, who is not, in which order, and what a failure leaves."""

import json
from typing import Any

import pytest

from tests.databases import on_both_stores
from tests.simulation.control_plane import ControlPlane

pytestmark = on_both_stores

STATUS_KEYS = [
    "id",
    "state",
    "last_deployment_date",
    "last_deployment_state",
    "last_deployment_id",
    "total_deployment_duration_in_seconds",
    "origin",
    "triggered_by",
    "deployment_status",
    "deployment_request_id",
    "metrics",
]


def _states(statuses: dict[str, Any]) -> dict[str, str]:
    return {s["id"]: s["state"] for s in statuses["applications"]}


async def test_a_202_is_visible_to_the_next_read_and_has_every_key(plane: ControlPlane) -> None:
    environment = await plane.environment()
    await plane.application(environment, "api", "boot_seconds=0.2")
    never = await plane.call("GET", f"/environment/{environment}/status")
    assert list(never) == STATUS_KEYS
    assert (never["state"], never["deployment_status"]) == ("READY", "NEVER_DEPLOYED")
    assert never["last_deployment_id"] is None
    for body in (None, {}):
        accepted = await plane.call("POST", f"/environment/{environment}/redeploy", body, expect=202)
        assert list(accepted) == STATUS_KEYS
        shown = await plane.call("GET", f"/environment/{environment}/status")
        assert shown["deployment_request_id"] == accepted["deployment_request_id"]
        assert shown["last_deployment_state"] in (
            "QUEUED",
            "DEPLOYMENT_QUEUED",
            "BUILDING",
            "DEPLOYING",
            "DEPLOYED",  # nothing changed, and it was quicker than we
        )
        done = (await plane.ended(environment))["environment"]
    assert (done["state"], done["deployment_status"]) == ("DEPLOYED", "UP_TO_DATE")
    assert done["last_deployment_id"] == f"{environment}-2"


async def test_requests_wait_first_in_first_out(plane: ControlPlane) -> None:
    environment = await plane.environment()
    await plane.application(environment, "api", "build_seconds=0.2")
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    await plane.until(environment, "BUILDING")
    second = await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    assert second["last_deployment_state"] == "QUEUED"
    await plane.call("POST", f"/environment/{environment}/stop", expect=202)
    statuses = await plane.ended(environment)
    assert statuses["environment"]["state"] == "STOPPED"
    history = (await plane.call("GET", f"/environment/{environment}/deploymentHistoryV2"))["results"]
    assert [h["trigger_action"] for h in history] == ["STOP", "DEPLOY", "DEPLOY"]
    assert [h["identifier"]["execution_id"][-2:] for h in history] == ["-3", "-2", "-1"]


async def test_a_skipped_service_is_left_alone_and_a_stopped_one_comes_back(plane: ControlPlane) -> None:
    environment = await plane.environment()
    skipped = await plane.application(environment, "skipped")
    stopped = await plane.application(environment, "stopped")
    await plane.roll(environment)
    await plane.call("POST", f"/application/{stopped}/stop", expect=202)
    await plane.ended(environment)
    stage = (await plane.call("GET", f"/service/{skipped}/deploymentStage"))["id"]
    await plane.call("PUT", f"/deploymentStage/{stage}/service/{skipped}", {"is_skipped": True})
    statuses = await plane.roll(environment)
    part = {s["id"]: s["is_part_last_deployment"] for s in statuses["applications"]}
    assert part == {skipped: False, stopped: True}
    assert _states(statuses)[stopped] == "DEPLOYED"
    assert plane.world.routes[skipped][0] == f"{skipped}.1"


async def test_nothing_restarts_where_nothing_changed(plane: ControlPlane) -> None:
    environment = await plane.environment()
    service = await plane.application(environment, "api")
    await plane.roll(environment)
    before = dict(plane.world.routes), set(plane.world.running)
    await plane.roll(environment)
    assert (dict(plane.world.routes), set(plane.world.running)) == before
    assert plane.world.routes[service][0] == f"{service}.1"


async def test_a_failure_stops_later_stages_and_keeps_what_succeeded(plane: ControlPlane) -> None:
    environment = await plane.environment()
    good = await plane.application(environment, "good", "", "one")
    bad = await plane.application(environment, "bad", "boot=ok,exit", "one")
    later = await plane.application(environment, "later", "", "two")
    await plane.roll(environment)
    for service in (good, bad, later):
        await plane.call("PUT", f"/application/{service}", {"healthchecks": {}, "cpu": 20})
    statuses = await plane.roll(environment)
    assert _states(statuses) == {good: "DEPLOYED", bad: "DEPLOYMENT_ERROR", later: "CANCELED"}
    assert statuses["environment"]["state"] == "DEPLOYMENT_ERROR"
    assert statuses["environment"]["deployment_status"] == "OUT_OF_DATE"
    routes = {
        name: plane.world.routes[i][0][-1] for name, i in (("good", good), ("bad", bad), ("later", later))
    }
    assert routes == {"good": "2", "bad": "1", "later": "1"}


async def test_a_failed_build_stops_its_stage_before_anything_is_touched(plane: ControlPlane) -> None:
    environment = await plane.environment()
    good = await plane.application(environment, "good", "build_seconds=0.05")
    bad = await plane.application(environment, "bad", "build=fail&build_seconds=0.1")
    statuses = await plane.roll(environment)
    assert _states(statuses) == {good: "CANCELED", bad: "BUILD_ERROR"}
    assert statuses["environment"]["state"] == "BUILD_ERROR"
    assert not plane.world.running


async def test_a_cancel_keeps_what_is_finished_and_returns_what_is_in_flight(plane: ControlPlane) -> None:
    environment = await plane.environment()
    first = await plane.application(environment, "first", "", "one")
    second = await plane.application(environment, "second", "", "two")
    await plane.roll(environment)
    slow = "https://example.org/second.git#boot_seconds=30"
    await plane.call("PUT", f"/application/{first}", {"healthchecks": {}, "cpu": 20})
    await plane.call("PUT", f"/application/{second}", {"healthchecks": {}, "git_repository": {"url": slow}})
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    await plane.until(environment, "DEPLOYING")

    async def second_is_under_way() -> bool:
        return _states(await plane.statuses(environment))[second] == "DEPLOYING"

    await plane.eventually(second_is_under_way)
    for _ in range(2):
        body = await plane.call("POST", f"/environment/{environment}/cancelDeployment", expect=202)
        assert body["state"] in ("CANCELING", "CANCELED")
        if body["state"] == "CANCELED":
            break
    statuses = await plane.ended(environment)
    assert statuses["environment"]["state"] == "CANCELED"
    assert _states(statuses) == {first: "DEPLOYED", second: "CANCELED"}
    assert plane.world.routes[first][0] == f"{first}.2"
    assert plane.world.routes[second][0] == f"{second}.1"
    assert {k for k, r in plane.world.running.items() if not r.stopped} == {f"{first}.2", f"{second}.1"}


async def test_a_canceled_build_that_hangs_is_ended(
    plane: ControlPlane,
) -> None:
    environment = await plane.environment()
    await plane.application(environment, "api", "build=hang")
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    await plane.until(environment, "BUILDING")

    async def builds() -> bool:
        return bool(plane.world.building)

    await plane.eventually(builds)
    await plane.call("POST", f"/environment/{environment}/cancelDeployment", expect=202)
    statuses = await plane.ended(environment)
    assert statuses["environment"]["state"] == "CANCELED"
    assert not plane.world.building


async def test_only_the_plan_that_was_read_runs(plane: ControlPlane) -> None:
    environment = await plane.environment()
    service = await plane.application(environment, "api")
    await plane.roll(environment)
    await plane.call("PUT", f"/application/{service}", {"healthchecks": {}, "cpu": 20})
    plan = await plane.call("GET", f"/refloat/environment/{environment}/plan?action=redeploy")
    planned = plan["stages"][0]["services"][0]
    assert (planned["change"], planned["causes"]) == ("replace", ["cpu"])
    await plane.call("PUT", f"/application/{service}", {"healthchecks": {}, "cpu": 30})
    stale = f"/environment/{environment}/redeploy?plan={plan['hash']}"
    await plane.call("POST", stale, expect=409)
    fresh = await plane.call("GET", f"/refloat/environment/{environment}/plan?action=redeploy")
    assert fresh["hash"] != plan["hash"]
    await plane.call("POST", f"/environment/{environment}/redeploy?plan={fresh['hash']}", expect=202)
    await plane.ended(environment)
    history = (await plane.call("GET", f"/environment/{environment}/deploymentHistoryV2"))["results"]
    assert history[0]["plan_hash"] == fresh["hash"]
    assert history[0]["stages"][0]["services"][0]["change"] == "replace"


@pytest.mark.parametrize(
    ("agent", "scheme", "origin"),
    [
        ("curl/8", "Token", "API"),
        ("CLI 1.2.3", "Token", "CLI"),
        ("Terraform provider 0.50", "Token", "TERRAFORM_PROVIDER"),
        ("Mozilla/5.0", "Bearer", "CONSOLE"),
    ],
)
async def test_the_origin_is_told_by_the_client(
    agent: str, scheme: str, origin: str, plane: ControlPlane
) -> None:
    environment = await plane.environment()
    await plane.application(environment, "api")
    plane.api.headers.update({"User-Agent": agent, "Authorization": f"{scheme} rf_admin"})
    assert (await plane.roll(environment))["environment"]["origin"] == origin


async def test_an_environment_is_deleted_with_everything_and_then_is_404(plane: ControlPlane) -> None:
    environment = await plane.environment()
    await plane.application(environment, "api")
    await plane.roll(environment)
    await plane.call("DELETE", f"/environment/{environment}", expect=204)

    async def gone() -> bool:
        return (await plane.api.get(f"/environment/{environment}/status")).status_code == 404

    await plane.eventually(gone)
    assert not plane.world.running and not plane.world.routes
    assert (await plane.call("GET", f"/project/{await plane.project()}/environment"))["results"] == []


async def test_a_stream_of_one_deployment_tells_only_it_and_ends_with_it(plane: ControlPlane) -> None:
    environment = await plane.environment()
    await plane.application(environment, "api")
    await plane.roll(environment)
    second = (await plane.roll(environment))["environment"]["deployment_request_id"]
    path = f"/refloat/environment/{environment}/events"
    answer = await plane.api.get(path, params={"deployment": second})
    lines = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert {line["deployment_request_id"] for line in lines} == {second}
    assert lines[-1]["details"]["stage"]["step"] == "RECAP"
