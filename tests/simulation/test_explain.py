"""Why a deployment is where it is, told by the API in every situation."""

import dataclasses
from datetime import datetime
from typing import Any

import pytest
from msgspec.structs import replace

from refloat.execution.capacity import Capacity
from tests.databases import on_both_stores
from tests.simulation.control_plane import ControlPlane


async def _newest(plane: ControlPlane, environment: str) -> str:
    status = await plane.call("GET", f"/environment/{environment}/status")
    return str(status["deployment_request_id"])


async def _explained(plane: ControlPlane, deployment: str) -> dict[str, Any]:
    return dict(await plane.call("GET", f"/refloat/deployment/{deployment}/explain", expect=200))


async def _rolled(plane: ControlPlane, environment: str, verb: str = "redeploy") -> str:
    await plane.call("POST", f"/environment/{environment}/{verb}", expect=202)
    return await _newest(plane, environment)


async def _doing(plane: ControlPlane, deployment: str, step: str) -> dict[str, Any]:
    """The explanation once this step is under way."""
    found: dict[str, Any] = {}

    async def look() -> bool:
        nonlocal found
        found = await _explained(plane, deployment)
        return step in [doing["step"] for doing in found["doing"]]

    await plane.eventually(look)
    return found


@on_both_stores
async def test_a_step_that_hangs_is_named_with_its_deadline_and_what_comes_next(plane: ControlPlane) -> None:
    environment = await plane.environment()
    api = await plane.application(environment, "api", "build=hang", stage="backend")
    web = await plane.application(environment, "web", stage="frontend")
    deployment = await _rolled(plane, environment)
    found = await _doing(plane, deployment, "build")
    assert (found["situation"], found["action"], found["number"]) == ("running", "REDEPLOY", 1)
    (doing,) = found["doing"]
    assert (doing["service_id"], doing["stage"], doing["begun"]) == (api, "backend", 1)
    assert _between(doing["since"], doing["deadline"]) == 1830
    assert [(c["service_id"], c["steps"][0]) for c in found["next"]] == [(api, "execute"), (web, "build")]
    rest = 600 + 60 + 150 + (15 + 150) + (60 + 150)  # execute, prepare, ready, switch, verify
    bound = 1830 + rest + (1830 + rest) + 2 * (180 + 2 * 30)
    assert _between(doing["since"], found["ends_by"]) == bound
    text = "\n".join(found["words"])
    assert "backend → api: build" in text and "for its build to end" in text
    assert "frontend → web: build, execute" in text and "whatever happens, it has ended within" in text


def _between(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


@on_both_stores
async def test_what_waits_names_what_goes_first_in_order(plane: ControlPlane) -> None:
    environment = await plane.environment()
    service = await plane.application(environment, "api", "build=hang")
    running = await _rolled(plane, environment)
    await _doing(plane, running, "build")
    second = await _rolled(plane, environment, "stop")
    third = await _rolled(plane, environment)
    found = await _explained(plane, third)
    assert found["situation"] == "behind" and found["doing"] == [] and found["ends_by"] is None
    assert [(a["deployment_request_id"], a["action"], a["runs"]) for a in found["ahead"]] == [
        (running, "REDEPLOY", True),
        (second, "STOP", False),
    ]
    assert running in "\n".join(found["words"])
    assert [s["service_id"] for s in found["services"]] == [service]


async def test_the_probe_that_is_waited_for_is_named_with_the_failures_that_were_counted(
    plane: ControlPlane,
) -> None:
    environment = await plane.environment()
    probe = {
        "type": {"http": {"path": "/health", "port": 8000, "scheme": "HTTP"}},
        "initial_delay_seconds": 0,
        "period_seconds": 1,
        "timeout_seconds": 1,
        "success_threshold": 1,
        "failure_threshold": 60,
    }
    body = {
        "name": "api",
        "git_repository": {"url": "https://example.org/api.git#boot=hang"},
        "ports": [{"internal_port": 8000, "publicly_accessible": True}],
        "healthchecks": {"readiness_probe": probe},
    }
    await plane.call("POST", f"/environment/{environment}/application", body, expect=201)
    deployment = await _rolled(plane, environment)

    async def counted() -> bool:
        found = await _explained(plane, deployment)
        return any(doing["complaint"] for doing in found["doing"])

    await plane.eventually(counted)
    found = await _explained(plane, deployment)
    (doing,) = found["doing"]
    assert (doing["step"], doing["attempts"], doing["complaint"]) == ("ready", 60, "no answer")
    assert doing["attempt"] >= 2
    assert "http GET /health at port 8000" in doing["waits"]
    assert _between(doing["since"], doing["deadline"]) == 60 * 2 + 30


async def test_a_job_that_is_tried_again_tells_the_run(plane: ControlPlane) -> None:
    environment = await plane.environment()
    await plane.job(environment, "migrate", "release=fail,hang", max_nb_restart=2, max_duration_seconds=50)
    deployment = await _rolled(plane, environment)

    async def second() -> bool:
        found = await _explained(plane, deployment)
        return any(doing["attempt"] == 2 for doing in found["doing"])

    await plane.eventually(second)
    (doing,) = (await _explained(plane, deployment))["doing"]
    assert doing["waits"] == "for the job to end (attempt 2 of 3; before: it ended with exit code 1)"
    assert _between(doing["since"], doing["deadline"]) == 60 + 3 * (50 + 10)


async def test_a_cancel_that_is_under_way_tells_what_it_still_ends(plane: ControlPlane) -> None:
    environment = await plane.environment()
    await plane.application(environment, "api", "boot=hang&stop=hang")
    await plane.application(environment, "web", stage="later")
    deployment = await _rolled(plane, environment)
    await _doing(plane, deployment, "ready")
    await plane.call("POST", f"/environment/{environment}/cancelDeployment", expect=202)
    found = await _doing(plane, deployment, "discard")
    assert found["situation"] == "canceling" and found["next"] == []
    assert "is being canceled" in found["words"][0] and "for the new revision to end" in found["words"][1]
    assert _between(found["began_at"], found["ends_by"]) < 300


async def test_what_ended_tells_how_and_why(plane: ControlPlane) -> None:
    environment = await plane.environment()
    await plane.application(environment, "api", "answer=ok,error")
    done = await _rolled(plane, environment)
    await plane.ended(environment)
    found = await _explained(plane, done)
    assert (found["situation"], found["outcome"], found["ends_by"]) == ("ended", "done", None)
    assert "is done after" in found["words"][0]
    await plane.application(environment, "bad", "build=fail")
    failed = await _rolled(plane, environment)
    await plane.ended(environment)
    found = await _explained(plane, failed)
    assert found["outcome"] == "build_failed" and found["reason"] and found["reason"] in found["words"][0]
    reasons = {service["name"]: (service["phase"], service["reason"]) for service in found["services"]}
    assert reasons["bad"][0] == "build_failed" and reasons["bad"][1] in found["reason"]
    assert reasons["api"][0] == "canceled"


@pytest.mark.parametrize(
    ("capacity", "reason"),
    [
        (Capacity(builds=1), "1 of the 1 builds that its cluster takes at once are reserved"),
        (Capacity(deployments=1), "1 of the 1 deployments that its cluster takes at once run"),
    ],
    ids=["builds", "deployments"],
)
async def test_what_does_not_fit_on_its_cluster_says_what_the_cluster_does(
    capacity: Capacity, reason: str, plane: ControlPlane
) -> None:
    await plane.stop()
    plane.capacity, most = capacity, plane.context.settings
    most = replace(most, max_deployments=capacity.deployments, max_builds=capacity.builds)
    plane.context = dataclasses.replace(plane.context, settings=most)
    plane.api = plane.client("rf_admin")
    await plane.start()
    first, second = await plane.environment("first"), await plane.environment("second")
    await plane.application(first, "api", "build=hang")
    await plane.application(second, "api")
    await _doing(plane, await _rolled(plane, first), "build")
    found = await _explained(plane, await _rolled(plane, second))
    assert (found["situation"], found["reason"], found["ends_by"]) == ("waits_for_room", reason, None)
    assert reason in found["words"][0]
    await plane.call("POST", f"/environment/{first}/cancelDeployment", expect=202)
    assert (await plane.ended(second))["environment"]["state"] == "DEPLOYED"


async def test_a_foreign_deployment_is_as_unknown_as_none(plane: ControlPlane) -> None:
    environment = await plane.environment()
    await plane.application(environment, "api")
    deployment = await _rolled(plane, environment)
    other = await plane.call("POST", "/organization", {"name": "other"})
    token = (await plane.call("POST", f"/organization/{other['id']}/apiToken", {"name": "t"}))["token"]
    async with plane.client(token) as stranger:
        answer = await stranger.get(f"/refloat/deployment/{deployment}/explain")
    assert answer.status_code == 404 and answer.json()["message"] == f"no deployment {deployment}"
