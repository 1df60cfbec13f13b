"""The queue: in order, merged where nothing is lost by it, readable, cancelled request by request."""

from typing import Any

import pytest

from refloat.domain.resources import ClusterKind
from tests.simulation.control_plane import ControlPlane


async def _busy(plane: ControlPlane) -> tuple[str, str, str]:
    """An environment whose first service builds for ever; the second is its neighbour."""
    environment = await plane.environment()
    first = await plane.application(environment, "first", "build=hang,ok")
    second = await plane.application(environment, "second")
    await _deploy(plane, environment, first)
    await plane.until(environment, "BUILDING")
    return environment, first, second


async def _deploy(plane: ControlPlane, environment: str, *services: str, commit: str = "a") -> str:
    body = {"applications": [{"application_id": s, "git_commit_id": commit * 40} for s in services]}
    path = f"/environment/{environment}/service/deploy"
    return str((await plane.call("POST", path, body, expect=202))["deployment_request_id"])


async def _queue(plane: ControlPlane, environment: str) -> list[dict[str, Any]]:
    return list((await plane.call("GET", f"/environment/{environment}/deploymentQueue"))["results"])


def _services(request: dict[str, Any]) -> set[str]:
    return {s["identifier"]["service_id"] for stage in request["stages"] for s in stage["services"]}


async def test_requests_that_wait_are_merged_for_the_same_principal_and_action(plane: ControlPlane) -> None:
    environment, first, second = await _busy(plane)
    waiting = await _deploy(plane, environment, second, commit="b")
    assert await _deploy(plane, environment, first, second, commit="c") == waiting
    (request,) = await _queue(plane, environment)
    assert request["identifier"] == {"deployment_request_id": waiting, "environment_id": environment}
    assert request["trigger_action"] == "DEPLOY" and _services(request) == {first, second}
    shown = await plane.call("GET", f"/application/{second}")
    assert shown["git_repository"]["deployed_commit_id"] == "c" * 40  # the later version wins


async def test_what_joins_a_request_in_the_instant_of_its_claim_is_deployed_with_it(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster is asked what runs before the claim; the request grows meanwhile."""
    environment = await plane.environment()
    first = await plane.application(environment, "first")
    second = await plane.application(environment, "second")
    await plane.stop()
    request = await _deploy(plane, environment, first)
    joined: list[str] = []
    engine = plane.platforms[ClusterKind.LOCAL].engine
    observe = engine.observe

    async def joining(environment_id: str | None = None) -> Any:
        if not joined:
            joined.append(await _deploy(plane, environment, second))
        return await observe(environment_id)

    monkeypatch.setattr(engine, "observe", joining)
    await plane.start()
    statuses = await plane.ended(environment)
    assert joined == [request]
    assert {s["id"]: s["state"] for s in statuses["applications"]} == {first: "DEPLOYED", second: "DEPLOYED"}


async def test_the_running_request_is_never_merged_into(plane: ControlPlane) -> None:
    environment, first, _ = await _busy(plane)
    running = (await plane.call("GET", f"/environment/{environment}/status"))["deployment_request_id"]
    assert await _deploy(plane, environment, first) != running
    assert len(await _queue(plane, environment)) == 1


async def test_another_action_or_principal_in_between_keeps_the_order(plane: ControlPlane) -> None:
    environment, _, second = await _busy(plane)
    one = await _deploy(plane, environment, second)
    await plane.call("POST", f"/application/{second}/stop", expect=202)
    three = await _deploy(plane, environment, second)
    path = f"/organization/{await plane.organization()}/apiToken"
    token = (await plane.call("POST", path, {"name": "other"}, expect=201))["token"]
    async with plane.client(token) as other:
        body = {"applications": [{"application_id": second, "git_commit_id": "d" * 40}]}
        answer = await other.post(f"/environment/{environment}/service/deploy", json=body)
    four = answer.json()["deployment_request_id"]
    five = await _deploy(plane, environment, second)
    queue = [r["identifier"]["deployment_request_id"] for r in await _queue(plane, environment)]
    assert [queue[0], *queue[2:]] == [one, three, four, five]
    actions = [r["trigger_action"] for r in await _queue(plane, environment)]
    assert actions == ["DEPLOY", "STOP", "DEPLOY", "DEPLOY", "DEPLOY"]


async def test_a_request_with_a_plan_stands_alone(plane: ControlPlane) -> None:
    environment, _, second = await _busy(plane)
    await _deploy(plane, environment, second)
    plan = (await plane.call("GET", f"/refloat/environment/{environment}/plan"))["hash"]
    await plane.call("POST", f"/environment/{environment}/redeploy?plan={plan}", expect=202)
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    assert len(await _queue(plane, environment)) == 3


async def test_a_request_for_everything_does_not_swallow_a_skipped_service_that_was_named(
    plane: ControlPlane,
) -> None:
    environment, first, second = await _busy(plane)
    stage = (await plane.call("GET", f"/service/{second}/deploymentStage"))["id"]
    await plane.call("PUT", f"/deploymentStage/{stage}/service/{second}", {"is_skipped": True})
    await _deploy(plane, environment, second)
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    queue = await _queue(plane, environment)
    assert [_services(request) for request in queue] == [{second}, {first}]


async def test_a_service_knows_what_waits_for_it(plane: ControlPlane) -> None:
    environment, first, second = await _busy(plane)
    waiting = await _deploy(plane, environment, second)
    (found,) = (await plane.call("GET", f"/service/{second}/deploymentQueue"))["results"]
    assert found["identifier"]["deployment_request_id"] == waiting
    assert found["status_details"] == {"action": "DEPLOY", "status": "QUEUED", "sub_action": "NONE"}
    assert (await plane.call("GET", f"/service/{first}/deploymentQueue"))["results"] == []


async def test_a_request_is_followed_and_canceled_by_its_id(plane: ControlPlane) -> None:
    environment, _, second = await _busy(plane)
    waiting = await _deploy(plane, environment, second)
    status = f"/environment/deploymentStatus?deploymentRequestId={waiting}"
    shown = await plane.call("GET", status)
    assert shown == {"deployment_request_id": waiting, "environment_id": environment, "status": "QUEUED"}
    path = f"/deploymentQueue/{waiting}/cancelDeployment"
    await plane.call("POST", path, {}, expect=202)
    assert (await plane.call("GET", status))["status"] == "CANCELED"
    assert (await plane.call("GET", f"/environment/{environment}/status"))["state"] == "BUILDING"
    await plane.call("POST", path, {}, expect=409)
    await plane.call("POST", f"/environment/{environment}/cancelDeployment", expect=202)
    await plane.ended(environment)


async def test_a_foreign_request_is_as_unknown_as_none(plane: ControlPlane) -> None:
    environment, _, second = await _busy(plane)
    waiting = await _deploy(plane, environment, second)
    other = await plane.call("POST", "/organization", {"name": "other"})
    token = (await plane.call("POST", f"/organization/{other['id']}/apiToken", {"name": "t"}))["token"]
    async with plane.client(token) as stranger:
        answer = await stranger.post(f"/deploymentQueue/{waiting}/cancelDeployment")
    assert answer.status_code == 404 and answer.json()["message"] == f"no deployment {waiting}"
