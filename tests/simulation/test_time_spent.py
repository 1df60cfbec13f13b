"""What the time of a deployment went to, told by the API of deployments that really ran."""

from datetime import datetime
from typing import Any

import pytest

from tests.simulation.control_plane import ControlPlane


async def _rolled(plane: ControlPlane, environment: str) -> str:
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    await plane.ended(environment)
    status = await plane.call("GET", f"/environment/{environment}/status")
    return str(status["deployment_request_id"])


async def _spent(plane: ControlPlane, deployment: str) -> dict[str, Any]:
    return dict(await plane.call("GET", f"/refloat/deployment/{deployment}/critical-path", expect=200))


def _seconds(of: dict[str, Any], start: str = "started_at", end: str = "finished_at") -> float:
    return (datetime.fromisoformat(of[end]) - datetime.fromisoformat(of[start])).total_seconds()


async def test_the_segments_add_up_to_the_wall_time_and_lead_through_every_stage(plane: ControlPlane) -> None:
    environment = await plane.environment()
    await plane.application(environment, "api", "boot_seconds=0.3", stage="backend")
    await plane.application(environment, "fast", stage="backend")
    await plane.application(environment, "web", stage="frontend")
    deployment = await _rolled(plane, environment)
    found = await _spent(plane, deployment)
    explained = await plane.call("GET", f"/refloat/deployment/{deployment}/explain")
    wall = _seconds(explained, "asked_at", "ended_at")
    assert found["wall_seconds"] == pytest.approx(wall)
    assert sum(s["seconds"] for s in found["segments"]) == pytest.approx(wall)
    assert found["segments"][0]["kind"] == "queued" and found["segments"][-1]["kind"] == "concluding"
    steps = [(s["name"], s["step"]) for s in found["segments"] if s["kind"] == "step"]
    assert steps[0] == ("", "precheck") and steps[-1] == ("web", "verify")
    assert ("api", "ready") in steps and ("fast", "ready") not in steps
    assert found["compared_with"] is None and found["changes"] == []
    assert "ready of api" in "\n".join(found["words"])


async def test_what_took_longer_than_in_the_last_good_deployment_is_named(plane: ControlPlane) -> None:
    environment = await plane.environment()
    service = await plane.application(environment, "api", stage="backend")
    first = await _rolled(plane, environment)
    before = await plane.call("GET", f"/refloat/environment/{environment}/journal")
    await plane.call("PUT", f"/refloat/service/{service}/simulation", {"script": "boot_seconds=1"})
    await plane.call("PUT", f"/application/{service}", {"healthchecks": {}, "cpu": 20})
    second = await _rolled(plane, environment)
    after = await plane.call("GET", f"/refloat/environment/{environment}/journal")
    found = await _spent(plane, second)
    assert found["compared_with"]["deployment_request_id"] == first
    (ready,) = [c for c in found["changes"] if (c["kind"], c["step"]) == ("step", "ready")]
    took = [_seconds(step) for body in (before, after) for step in body["results"] if step["step"] == "ready"]
    assert [ready["before"], ready["seconds"]] == took and ready["more"] == pytest.approx(took[1] - took[0])
    word = "slower" if ready["more"] > 0 else "faster"
    assert f"{word}: ready of api {ready['more']:+.2f} s" in "\n".join(found["words"])


async def test_history_shows_the_longest_segment_of_each_deployment(plane: ControlPlane) -> None:
    environment = await plane.environment()
    service = await plane.application(environment, "api", "boot_seconds=0.2")
    first = await _rolled(plane, environment)
    source = {"url": "https://example.org/api.git#build_seconds=0.2"}
    await plane.call("PUT", f"/application/{service}", {"healthchecks": {}, "git_repository": source})
    second = await _rolled(plane, environment)
    page = await plane.call("GET", f"/environment/{environment}/deploymentHistoryV2")
    shown = {item["deployment_request_id"]: item["longest"] for item in page["results"]}
    for it in (first, second):
        segments = (await _spent(plane, it))["segments"]
        most = max(segments, key=lambda segment: segment["seconds"])
        assert {k: v for k, v in shown[it].items() if k != "words"} == most
        assert shown[it]["words"].startswith(most["step"] or most["kind"])
    await plane.call("PUT", f"/application/{service}", {"healthchecks": {}, "cpu": 20})
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    await plane.until(environment, "BUILDING", "DEPLOYING")
    page = await plane.call("GET", f"/environment/{environment}/deploymentHistoryV2")
    assert page["results"][0]["longest"] is None
    await plane.ended(environment)


async def test_what_has_not_ended_has_no_path_and_what_never_began_was_queued(
    plane: ControlPlane,
) -> None:
    environment = await plane.environment()
    await plane.application(environment, "api", "build=hang")
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    await plane.until(environment, "BUILDING")
    await plane.call("POST", f"/environment/{environment}/stop", expect=202)
    queue = await plane.call("GET", f"/environment/{environment}/deploymentQueue")
    waiting = queue["results"][0]["identifier"]["deployment_request_id"]
    refused = await plane.call("GET", f"/refloat/deployment/{waiting}/critical-path", expect=409)
    assert "has not ended" in refused["message"] and "explain" in refused["hint"]
    await plane.call("POST", f"/deploymentQueue/{waiting}/cancelDeployment", expect=202)
    assert [s["kind"] for s in (await _spent(plane, waiting))["segments"]] == ["queued"]
