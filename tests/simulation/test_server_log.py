"""Lines that the server writes about a deployment say which deployment, environment, service and step."""

import io
import json
from typing import Any

import pytest
import structlog

from refloat import server_log
from refloat.domain.revision import Instance, Revision
from tests.simulation.control_plane import ControlPlane


@pytest.fixture
def written() -> io.StringIO:
    """What the server writes, as JSON."""
    stream = io.StringIO()
    server_log.configure(server_log.JSON, stream)
    return stream


def _lines(written: io.StringIO, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    return [line for line in lines if line["event"] == event]


async def test_lines_of_services_that_are_worked_on_at_once_are_told_apart(
    written: io.StringIO, plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    for platform in plane.platforms.values():
        monkeypatch.setattr(platform.engine, "prepare", _telling(platform.engine.prepare))
    environment = await plane.environment()
    services = {await plane.application(environment, name) for name in ("api", "web")}
    await plane.roll(environment)
    newest = await plane.call("GET", f"/environment/{environment}/status")
    lines = _lines(written, "an engine speaks")
    assert {line["service"] for line in lines} == services == {line["of"] for line in lines}
    assert all(line["service"] == line["of"] and line["step"] == "prepare" for line in lines)
    assert {line["deployment"] for line in lines} == {newest["deployment_request_id"]}
    assert {line["environment"] for line in lines} == {environment}


def _telling(prepare: Any) -> Any:
    async def told(revision: Revision) -> tuple[Instance, ...]:
        structlog.get_logger().info("an engine speaks", of=revision.service_id)
        found: tuple[Instance, ...] = await prepare(revision)
        return found

    return told


async def test_a_failed_step_and_the_end_it_led_to_are_told_without_the_words_of_the_error(
    written: io.StringIO, plane: ControlPlane
) -> None:
    environment = await plane.environment()
    service = await plane.application(environment, "api", "boot=exit")
    await plane.roll(environment)
    await plane.at_rest()
    (failed,) = _lines(written, "a step failed")
    assert (failed["service"], failed["step"], failed["error"]) == (service, "ready", "StepFailed")
    assert failed["environment"] == environment and failed["deployment"]
    assert "exit code" not in json.dumps(failed)
    (ended,) = _lines(written, "a deployment ended")
    assert ended["outcome"] == "failed" and ended["deployment"] == failed["deployment"]
    assert "step" not in ended and "service" not in ended


async def test_a_takeover_is_told_with_the_former_owner(written: io.StringIO, plane: ControlPlane) -> None:
    environment = await plane.environment()
    await plane.application(environment, "api", "build=hang")
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    await plane.until(environment, "BUILDING")
    assert plane.worker is not None
    former = plane.worker.owner
    await plane.stop()
    await plane.start()

    async def told() -> bool:
        return bool(_lines(written, "a deployment is taken over"))

    await plane.eventually(told)
    (line,) = _lines(written, "a deployment is taken over")
    assert line["former_owner"] == former and line["environment"] == environment
