"""A job that is asked for runs what it has for that event, once each time, whatever its schedule says."""

from typing import Any

import pytest

from refloat.execution.crash import Moment
from tests.simulation.control_plane import ControlPlane
from tests.simulation.test_crash_everywhere import DiesAt, _run_until_death

NEVER = {"cronjob": {"scheduled_at": "0 0 1 1 *", "entrypoint": "report"}}
EVENTS = {f"on_{it}": {"entrypoint": f"at-{it}"} for it in ("start", "stop", "delete")}


async def _job(plane: ControlPlane, schedule: dict[str, Any]) -> tuple[str, str]:
    environment = await plane.environment()
    return environment, await plane.job(environment, "report", schedule=schedule)


async def _commands(plane: ControlPlane, environment: str) -> list[str]:
    """Which commands ran, in order, as their log says."""
    lines = await plane.call("GET", f"/environment/{environment}/logs")
    told = [line["message"]["safe_message"] for line in lines]
    return [it.rpartition("running ")[2] for it in told if "running " in it and it.endswith(_ENDINGS)]


_ENDINGS = ("report", "at-start", "at-stop", "at-delete")


async def test_a_job_by_the_clock_runs_at_once_and_stays_on_its_clock(plane: ControlPlane) -> None:
    environment, job = await _job(plane, NEVER)
    await plane.roll(environment)
    assert plane.world.ran == []
    await plane.call("POST", f"/job/{job}/redeploy?forceEvent=CRON", expect=202)
    assert (await plane.ended(environment))["jobs"][0]["state"] == "DEPLOYED"
    assert plane.world.ran == [f"{job}.2.asked-cron.1"]
    assert await _commands(plane, environment) == ["report"]
    assert (await plane.call("GET", f"/refloat/service/{job}/runs"))["results"] == []
    await plane.roll(environment)
    assert len(plane.world.ran) == 1


@pytest.mark.parametrize("event", ["START", "STOP", "DELETE"])
async def test_each_event_runs_its_own_command_and_nothing_is_stopped_or_deleted(
    plane: ControlPlane, event: str
) -> None:
    environment, job = await _job(plane, EVENTS)
    await plane.call("POST", f"/job/{job}/deploy?forceEvent={event}", {"git_commit_id": "c" * 40}, expect=202)
    assert (await plane.ended(environment))["jobs"][0]["state"] == "DEPLOYED"
    assert await _commands(plane, environment) == [f"at-{event.lower()}"]
    plan = (await plane.call("GET", f"/environment/{environment}/deploymentHistoryV2"))["results"][0]
    assert plan["stages"][0]["services"][0]["change"] == "run"


async def test_each_request_is_a_run(plane: ControlPlane) -> None:
    """Others that do the same join while they wait; these do not."""
    environment, job = await _job(plane, NEVER)
    for _ in range(3):
        await plane.call("POST", f"/job/{job}/redeploy?forceEvent=CRON", expect=202)
    await plane.call("POST", f"/job/{job}/redeploy", expect=202)
    await plane.ended(environment)
    assert plane.world.ran == [f"{job}.{number}.asked-cron.1" for number in (1, 2, 3)]


@pytest.mark.parametrize("moment", list(Moment))
async def test_a_run_that_was_asked_for_is_one_run_though_the_server_dies(
    plane: ControlPlane, moment: Moment
) -> None:
    environment, job = await _job(plane, NEVER)
    await plane.stop()
    await plane.call("POST", f"/job/{job}/redeploy?forceEvent=CRON", expect=202)
    assert await _run_until_death(plane, DiesAt("execute", moment, 1), environment)
    await plane.start()
    await plane.ended(environment)
    assert plane.world.ran == [f"{job}.1.asked-cron.1"]


async def test_what_a_service_does_not_have_is_refused_with_what_it_has(plane: ControlPlane) -> None:
    environment, job = await _job(plane, NEVER)
    refused = await plane.call("POST", f"/job/{job}/redeploy?forceEvent=START", expect=400)
    assert refused["message"] == "forceEvent: report has nothing to run for START"
    assert refused["hint"] == "it has CRON"
    await plane.call("POST", f"/job/{job}/redeploy?forceEvent=NOON", expect=400)
    assert (await plane.call("GET", f"/environment/{environment}/deploymentHistoryV2"))["results"] == []
