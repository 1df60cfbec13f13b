"""What an application prints can be read while it runs, and tells nobody a secret."""

from pathlib import Path

import pytest

from refloat.domain.revision import LogLine
from refloat.execution.logs import redact
from tests.simulation.control_plane import ControlPlane
from tests.simulation.test_adoption import adopted, finished, successor

SECRET = "s3cret-token"
KEY = "-----BEGIN KEY-----\n  MIIEvQhKPabc\nxyz\n-----END KEY-----\n"


async def _printing(plane: ControlPlane) -> str:
    """An application that runs, and has printed a value of its own beside a secret."""
    environment = await plane.environment("shop")
    api = await plane.application(environment, "api")
    await plane.call("POST", f"/application/{api}/secret", {"key": "TOKEN", "value": SECRET})
    await plane.call(
        "POST", f"/application/{api}/environmentVariable", {"key": "COLOUR", "value": "turquoise"}
    )
    assert (await plane.call("GET", f"/application/{api}/log")) == {"results": []}
    assert (await plane.roll(environment))["environment"]["state"] == "DEPLOYED"
    line = LogLine(at=plane.clock.now(), stream="err", text=f"turquoise {SECRET}")
    plane.world.running[f"{api}.1"].log += [line, line]
    return api


async def test_lines_are_told_without_secrets_and_each_has_an_id_that_stays(plane: ControlPlane) -> None:
    api = await _printing(plane)
    lines = (await plane.call("GET", f"/application/{api}/log"))["results"]
    assert [(it["message"], it["refloat_stream"]) for it in lines] == [
        ("api starts", "out"),
        ("turquoise [secret]", "err"),
        ("turquoise [secret]", "err"),
    ]
    assert {it["pod_name"] for it in lines} == {f"{api}.1"} and len({it["id"] for it in lines}) == 3
    assert (await plane.call("GET", f"/application/{api}/log"))["results"] == lines


@pytest.mark.parametrize("line", [KEY.splitlines()[1], repr(KEY), f"key: {KEY}"])
def test_of_a_secret_of_several_lines_none_is_told(line: str) -> None:
    told = redact(line, [KEY])
    assert "QhKPabc" not in told and "[secret]" in told


async def test_of_what_was_adopted_no_value_is_told_because_each_may_be_a_secret(
    plane: ControlPlane, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    api = await _printing(plane)
    await finished(plane)
    new = successor(plane, request, tmp_path / "new")
    await adopted(new)
    lines = (await new.call("GET", f"/application/{api}/log"))["results"]
    assert [it["message"] for it in lines] == ["api starts", *["[secret] [secret]"] * 2]
    await new.close()


async def test_what_a_foreign_application_prints_is_as_unknown_as_none(plane: ControlPlane) -> None:
    api = await _printing(plane)
    other = await plane.call("POST", "/organization", {"name": "other"})
    token = (await plane.call("POST", f"/organization/{other['id']}/apiToken", {"name": "t"}))["token"]
    async with plane.client(token) as stranger:
        assert (await stranger.get(f"/application/{api}/log")).status_code == 404
    await plane.call("GET", f"/container/{api}/log", expect=404)
