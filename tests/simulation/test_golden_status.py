"""Whole bodies of `EnvironmentStatus` at the five moments that clients tell apart; ids and times masked."""

import re
from typing import Any

from tests.simulation.control_plane import ControlPlane

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


async def _status(plane: ControlPlane, environment: str, request: str | None) -> dict[str, Any]:
    """The body with its ids and times as words; the order of keys counts."""
    body = await plane.call("GET", f"/environment/{environment}/status")
    names = {
        environment: "<environment>",
        f"{environment}-1": "<environment>-1",
        f"{environment}-2": "<environment>-2",
    }
    if request:
        names[request] = "<request>"

    def masked(value: Any) -> Any:
        if isinstance(value, int):
            return "<seconds>"
        if isinstance(value, dict):
            return {k: masked(v) for k, v in value.items()}
        if isinstance(value, list):
            return [masked(v) for v in value]
        if isinstance(value, str) and _TIME.fullmatch(value):
            return "<time>"
        if isinstance(value, str) and re.fullmatch(r"[0-9a-f-]{36}", value):
            return names.get(value, "<stage>")
        return names.get(value, value) if isinstance(value, str) else value

    return dict(masked(body))


async def _accepted(plane: ControlPlane, environment: str, verb: str = "redeploy") -> str:
    body = await plane.call("POST", f"/environment/{environment}/{verb}", expect=202)
    return str(body["deployment_request_id"])


NEVER = {
    "id": "<environment>",
    "state": "READY",
    "last_deployment_date": None,
    "last_deployment_state": "READY",
    "last_deployment_id": None,
    "total_deployment_duration_in_seconds": None,
    "origin": None,
    "triggered_by": None,
    "deployment_status": "NEVER_DEPLOYED",
    "deployment_request_id": None,
    "metrics": [],
}
DONE = {
    "id": "<environment>",
    "state": "DEPLOYED",
    "last_deployment_date": "<time>",
    "last_deployment_state": "DEPLOYED",
    "last_deployment_id": "<environment>-1",
    "total_deployment_duration_in_seconds": "<seconds>",
    "origin": "API",
    "triggered_by": "admin",
    "deployment_status": "UP_TO_DATE",
    "deployment_request_id": "<request>",
    "metrics": [
        {
            "stage_id": "<stage>",
            "total_duration_sec": "<seconds>",
            "details": [],
        }
    ],
}


async def test_never_deployed(plane: ControlPlane) -> None:
    environment = await plane.environment()
    await plane.application(environment, "api")
    body = await _status(plane, environment, None)
    assert body == NEVER and list(body) == list(NEVER)


async def test_done(plane: ControlPlane) -> None:
    environment = await plane.environment()
    await plane.application(environment, "api")
    request = await _accepted(plane, environment)
    await plane.ended(environment)
    body = await _status(plane, environment, request)
    assert body == DONE and list(body) == list(DONE)


async def test_running(plane: ControlPlane) -> None:
    environment = await plane.environment()
    await plane.application(environment, "api", "build=hang")
    request = await _accepted(plane, environment)
    await plane.until(environment, "BUILDING")
    body = await _status(plane, environment, request)
    assert body == {
        **DONE,
        "state": "BUILDING",
        "last_deployment_state": "BUILDING",
        "total_deployment_duration_in_seconds": None,
        "deployment_status": "NEVER_DEPLOYED",
        "metrics": [{"stage_id": "<stage>", "total_duration_sec": None, "details": []}],
    }
    assert list(body) == list(DONE)


async def test_failed(plane: ControlPlane) -> None:
    environment = await plane.environment()
    application = await plane.application(environment, "api")
    await plane.roll(environment)
    await plane.call("PUT", f"/refloat/service/{application}/simulation", {"script": "boot=exit"})
    path = f"/application/{application}/environmentVariable"
    await plane.call("POST", path, {"key": "A", "value": "1"}, expect=201)
    request = await _accepted(plane, environment)
    await plane.ended(environment)
    body = await _status(plane, environment, request)
    assert body == {
        **DONE,
        "state": "DEPLOYMENT_ERROR",
        "last_deployment_state": "DEPLOYMENT_ERROR",
        "last_deployment_id": "<environment>-2",
        "deployment_status": "OUT_OF_DATE",
    }
    assert list(body) == list(DONE)


async def test_canceled(plane: ControlPlane) -> None:
    environment = await plane.environment()
    await plane.application(environment, "api", "build=hang")
    request = await _accepted(plane, environment)
    await plane.until(environment, "BUILDING")
    await _accepted(plane, environment, "cancelDeployment")
    await plane.ended(environment)
    body = await _status(plane, environment, request)
    assert body == {
        **DONE,
        "state": "CANCELED",
        "last_deployment_state": "CANCELED",
        "deployment_status": "NEVER_DEPLOYED",
    }
    assert list(body) == list(DONE)
