"""An error says what serves as it was seen, not as it ought to be."""

import asyncio
from typing import Any

import pytest

from refloat.domain.errors import Conflict
from refloat.domain.revision import Instance
from tests.simulation.control_plane import ControlPlane


async def _failed(plane: ControlPlane, environment: str) -> dict[str, Any]:
    """The service in the newest entry of history."""
    await plane.ended(environment)
    page = await plane.call("GET", f"/environment/{environment}/deploymentHistoryV2")
    service: dict[str, Any] = page["results"][0]["stages"][0]["services"][0]
    return service


async def _replacing(plane: ControlPlane, script: str) -> tuple[str, str]:
    """An environment whose service runs, and whose next version behaves so; it is being deployed."""
    environment = await plane.environment()
    service = await plane.application(environment, "api")
    await plane.roll(environment)
    source = {"url": f"https://example.org/api.git#{script}", "root_path": "/x"}
    await plane.call("PUT", f"/application/{service}", {"healthchecks": {}, "git_repository": source})
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    return environment, service


async def test_after_a_failure_the_old_version_is_named_because_it_was_seen(plane: ControlPlane) -> None:
    environment, service = await _replacing(plane, "build=fail")
    told = await _failed(plane, environment)
    assert told["reason"].endswith("; deployment 1 serves now")
    assert told["serving"] == f"{service}.1"


async def test_after_a_power_cut_that_is_not_repaired_nothing_is_said_to_serve(plane: ControlPlane) -> None:
    environment, _ = await _replacing(plane, "build=fail&build_seconds=0.3")
    await plane.until(environment, "BUILDING")
    plane.world.running.clear()
    told = await _failed(plane, environment)
    assert told["reason"].endswith("; nothing serves yet, deployment 1 is brought back")
    assert told["serving"] is None


async def test_a_cluster_that_does_not_tell_what_runs_makes_no_claim(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment, _ = await _replacing(plane, "build=fail&build_seconds=0.3")
    await plane.until(environment, "BUILDING")

    async def silent(*_: object) -> tuple[Instance, ...]:
        await asyncio.Event().wait()
        return ()

    monkeypatch.setattr("refloat.execution.undoing.OBSERVE_SECONDS", 0.05)
    for platform in plane.platforms.values():
        monkeypatch.setattr(platform.engine, "observe", silent)
    told = await _failed(plane, environment)
    assert told["reason"] == "the build failed: scripted to fail" and told["serving"] is None


async def test_a_way_back_that_is_barred_is_told_and_hides_neither_the_reason_nor_what_serves(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def taken(*_: object) -> None:
        raise Conflict("shop.example.org already belongs to another service")

    environment, _ = await _replacing(plane, "boot=exit&boot_seconds=0.2")
    for platform in plane.platforms.values():
        monkeypatch.setattr(platform.router, "attach", taken)
    told = await _failed(plane, environment)
    assert "exit code 1" in told["reason"] and told["reason"].endswith("; deployment 1 serves now")
    lines = await plane.call("GET", f"/environment/{environment}/logs")
    messages = [line["message"]["safe_message"] for line in lines]
    assert any(
        m.endswith("cannot return: shop.example.org already belongs to another service") for m in messages
    )


async def test_a_database_that_cannot_start_at_first_says_why(plane: ControlPlane) -> None:
    """It has no route, so there is none to take back."""
    environment = await plane.environment()
    database = await plane.database_service(environment)
    plane.world.rewrite(database, "boot=exit")
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    told = await _failed(plane, environment)
    assert "exit code 1" in told["reason"] and "internal error" not in told["reason"]
