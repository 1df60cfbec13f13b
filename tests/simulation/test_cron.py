"""Jobs by the clock: every instant once, across crashes; never twice at a time; nothing made up for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from refloat.clock import SystemClock
from refloat.domain.deployment import Deployment
from refloat.execution.cron import KEPT_RUNS, LATE_SECONDS, CronRuns
from refloat.store import deployments as store
from refloat.store.database import Query, Reader
from refloat.store.tables import resource
from tests.simulation.control_plane import ControlPlane, node_work

_VERSIONS = Query(select(resource.c.version).where(resource.c.kind == "cron_run"))
_VERSION = 1
"""Of what was written once."""
_NOON = datetime(2030, 1, 1, 12, 0, 30, tzinfo=UTC)


class Wall(SystemClock):
    """The machine's clock with its hands in ours."""

    def __init__(self) -> None:
        self.time = _NOON

    def now(self) -> datetime:
        return self.time

    def at(self, text: str, day: int = 1) -> None:
        hour, minute, second = map(int, text.split(":"))
        self.time = datetime(2030, 1, day, hour, minute, second, tzinfo=UTC)


class Cron:
    """A control plane whose cron jobs are looked at when a test says so."""

    def __init__(self, plane: ControlPlane, wall: Wall) -> None:
        self.plane, self.wall = plane, wall
        self.environment = ""
        self.runs = self.another()

    def another(self) -> CronRuns:
        """As the next server has it."""
        plane = self.plane
        return CronRuns(plane.database, plane.sealer, plane.clock, plane.platforms)

    async def job(self, schedule: str = "* * * * *", script: str = "", **more: Any) -> str:
        """A deployed one."""
        self.environment = await self.plane.environment()
        job = await self.plane.job(self.environment, "report", script, **_timed(schedule), **more)
        found = await self.plane.roll(self.environment)
        assert [it["state"] for it in found["jobs"]] == ["DEPLOYED"]
        return job

    async def look(self) -> None:
        """Once, and until nothing of what it began goes on."""
        await self.runs.look()
        await asyncio.gather(*self.runs.going())

    async def at(self, text: str, day: int = 1) -> None:
        self.wall.at(text, day)
        await self.look()

    async def told(self, job: str) -> list[tuple[str, str | None]]:
        """Instant and outcome of all runs, oldest first."""
        found = (await self.plane.call("GET", f"/refloat/service/{job}/runs"))["results"]
        return [(run["scheduled_at"][11:16], run["outcome"]) for run in reversed(found)]

    @property
    def keys(self) -> list[str]:
        """What was really run, by instant and attempt."""
        return sorted(key.partition(".cron.")[2] for key in self.plane.world.ran)


def _timed(schedule: str, timezone: str | None = None) -> dict[str, Any]:
    zone = {"timezone": timezone} if timezone else {}
    return {"schedule": {"cronjob": {"scheduled_at": schedule, "entrypoint": "report", **zone}}}


@pytest.fixture
async def cron(tmp_path: Path) -> AsyncIterator[Cron]:
    wall = Wall()
    plane = ControlPlane(tmp_path, wall)
    await plane.start()
    yield Cron(plane, wall)
    await plane.close()


async def test_a_run_begins_at_every_instant_and_once(cron: Cron) -> None:
    job = await cron.job()
    await cron.look()
    assert cron.keys == [], "it is installed, not run"
    for text in ("12:01:00", "12:01:05", "12:01:59", "12:02:00"):
        await cron.at(text)
    assert cron.keys == ["20300101T1201Z.1", "20300101T1202Z.1"]
    assert await cron.told(job) == [("12:01", "done"), ("12:02", "done")]


async def test_a_server_looks_by_itself_when_a_minute_begins(cron: Cron) -> None:
    job = await cron.job()
    plane = cron.plane
    await plane.stop()

    work = node_work(plane)
    cron.wall.at("12:00:59")
    working = asyncio.create_task(work.alone())
    await asyncio.sleep(0)
    cron.wall.at("12:01:00")

    async def done() -> bool:
        return await cron.told(job) == [("12:01", "done")]

    await plane.eventually(done)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_two_servers_begin_one_run(cron: Cron) -> None:
    job = await cron.job()
    cron.wall.at("12:01:00")
    other = cron.another()
    await asyncio.gather(cron.look(), other.look(), return_exceptions=True)
    await asyncio.gather(*other.going())
    assert cron.keys == ["20300101T1201Z.1"] and len(await cron.told(job)) == 1


async def test_two_servers_that_waited_for_one_run_write_down_one_end(cron: Cron) -> None:
    """One of them was taken for dead, and woke up."""
    await cron.job(script="release_seconds=0.05")
    cron.wall.at("12:01:00")
    other = cron.another()
    await cron.runs.look()
    await other.look()
    await asyncio.gather(*cron.runs.going(), *other.going())
    assert [row["version"] for row in await cron.plane.database.read.all(_VERSIONS)] == [_VERSION + 1]


async def test_a_server_that_dies_in_a_run_is_followed_by_one_that_goes_on_with_it(cron: Cron) -> None:
    job = await cron.job(script="release_seconds=0.2")
    cron.wall.at("12:01:00")
    dying = asyncio.create_task(cron.runs.run())
    await cron.plane.eventually(lambda: _executes(cron))
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    assert await cron.told(job) == [("12:01", None)]
    cron.runs = cron.another()
    await cron.at("12:03:10")
    assert await cron.told(job) == [("12:01", "done")] and cron.keys == ["20300101T1201Z.1"]
    await cron.look()
    assert await cron.told(job) == [("12:01", "done"), ("12:03", "done")], "one catch-up for both minutes"


async def _executes(cron: Cron) -> bool:
    return bool(cron.plane.world.executing)


async def test_a_run_whose_end_was_not_recorded_is_not_done_again(cron: Cron) -> None:
    """The server died between the end of the command and the record of it."""
    job = await cron.job(script="release=ok,fail")
    cron.wall.at("12:01:00")
    await cron.runs.look()
    cron.plane.world.runs[f"{job}.cron.20300101T1201Z.1"] = 0
    for task in cron.runs.going():
        task.cancel()
    await asyncio.gather(*cron.runs.going(), return_exceptions=True)
    cron.runs = cron.another()
    await cron.look()
    assert await cron.told(job) == [("12:01", "done")]


async def test_what_passed_while_nobody_was_there_is_caught_up_with_once_if_it_is_recent(cron: Cron) -> None:
    job = await cron.job("*/5 * * * *")
    await cron.at("15:09:00")
    assert await cron.told(job) == [("15:05", "done")]


async def test_what_passed_too_long_ago_is_recorded_as_missed_and_not_run(cron: Cron) -> None:
    job = await cron.job("0 * * * *")
    cron.wall.time = datetime(2030, 1, 3, 15, 0, 1, tzinfo=UTC) + timedelta(seconds=LATE_SECONDS)
    for _ in range(2):
        await cron.look()
    assert await cron.told(job) == [("15:00", "missed")] and cron.keys == []
    await cron.at("16:00:00", day=3)
    assert await cron.told(job) == [("15:00", "missed"), ("16:00", "done")]


async def test_a_run_that_does_not_end_is_ended_and_repeated_as_often_as_it_may_be(cron: Cron) -> None:
    job = await cron.job(script="release=hang", max_duration_seconds=1, max_nb_restart=1)
    await cron.at("12:01:00")
    (run,) = (await cron.plane.call("GET", f"/refloat/service/{job}/runs"))["results"]
    assert (run["outcome"], run["attempts"]) == ("failed", 2)
    assert run["reason"] == "the job failed: it did not end within 1 s (run 2 times)"
    assert not cron.plane.world.executing


async def test_a_server_that_dies_in_a_repeat_begins_no_earlier_one_beside_it(cron: Cron) -> None:
    job = await cron.job(script="release=hang", max_duration_seconds=1, max_nb_restart=1)
    cron.wall.at("12:01:00")
    dying = asyncio.create_task(cron.runs.run())

    async def repeats() -> bool:
        return any(key.endswith(".2") for key in cron.plane.world.executing)

    await cron.plane.eventually(repeats)
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    cron.runs = cron.another()
    await cron.runs.look()
    await asyncio.sleep(0.05)
    assert [key[-2:] for key in cron.plane.world.executing] == [".2"]
    await asyncio.gather(*cron.runs.going())
    assert await cron.told(job) == [("12:01", "failed")] and not cron.plane.world.executing


async def test_a_server_that_dies_while_it_ends_an_attempt_begins_no_other_one_of_that(
    cron: Cron, monkeypatch: pytest.MonkeyPatch
) -> None:
    alarm = SystemClock.alarm
    monkeypatch.setattr(Wall, "alarm", lambda self, seconds, ring: alarm(self, seconds / 20, ring))
    job = await cron.job(script="release=hang", max_duration_seconds=1, max_nb_restart=1)
    cron.wall.at("12:01:00")
    for number in (1, 2):
        dead = asyncio.Event()
        with monkeypatch.context() as patch:
            for platform in cron.plane.platforms.values():
                deadly = partial(_dying, platform.engine.forget_run, dead, f".{number}")
                patch.setattr(platform.engine, "forget_run", deadly)
            dying = asyncio.create_task(cron.runs.run())
            await dead.wait()
            dying.cancel()
            await asyncio.gather(dying, return_exceptions=True)
        assert [key[-2:] for key in cron.plane.world.executing] == [f".{number}"]
        cron.runs = cron.another()
    await cron.look()
    assert await cron.told(job) == [("12:01", "failed")] and not cron.plane.world.executing
    assert cron.plane.world.turns[job, "release"] == 2


async def test_a_job_that_is_deleted_while_it_runs_is_not_tried_again(cron: Cron) -> None:
    job = await cron.job(script="release=hang", max_duration_seconds=1, max_nb_restart=1)
    cron.wall.at("12:01:00")
    await cron.runs.look()
    await cron.plane.call("DELETE", f"/job/{job}", expect=204)

    async def gone() -> bool:
        found = await cron.plane.call("GET", f"/environment/{cron.environment}/services")
        return found["results"] == []

    await cron.plane.eventually(gone)
    await asyncio.gather(*cron.runs.going())
    assert cron.plane.world.turns[job, "release"] == 1


async def test_a_job_that_is_deleted_before_its_command_begins_is_not_run(
    cron: Cron, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await cron.job()
    cron.wall.at("12:01:00")
    async with _still(cron, monkeypatch):
        await cron.plane.call("DELETE", f"/job/{job}", expect=204)
        await cron.plane.eventually(lambda: _gone(cron, job))
    assert cron.keys == [] and (job, "release") not in cron.plane.world.turns


async def test_a_server_that_stood_still_begins_nothing_that_another_has_ended(
    cron: Cron, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await cron.job()
    cron.wall.at("12:01:00")
    async with _still(cron, monkeypatch):
        other = cron.another()
        await other.look()
        await asyncio.gather(*other.going())
        for platform in cron.plane.platforms.values():
            await platform.engine.forget_run(f"{job}.cron.20300101T1201Z.1")
    assert await cron.told(job) == [("12:01", "done")]
    assert cron.plane.world.turns[job, "release"] == 1


@contextlib.asynccontextmanager
async def _still(cron: Cron, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """What happens while a server stands still between the record of a run and its command."""
    moves, reads = asyncio.Event(), store.latest_claimed

    async def late(read: Reader, environment_id: str) -> Deployment | None:
        await moves.wait()
        return await reads(read, environment_id)

    with monkeypatch.context() as patch:
        patch.setattr(store, "latest_claimed", late)
        await cron.runs.look()
        await asyncio.sleep(0)
    yield
    moves.set()
    await asyncio.gather(*cron.runs.going())


async def _dying(forget: Any, dead: asyncio.Event, at: str, key: str) -> None:
    """As forget_run, of a server that gets no further at one key."""
    if key.endswith(at):
        dead.set()
        await asyncio.Event().wait()
    await forget(key)


async def test_a_run_that_fails_is_repeated_and_tells_its_last_lines_without_secrets(cron: Cron) -> None:
    cron.environment = environment = await cron.plane.environment()
    job = await cron.plane.job(
        environment, "report", "release=fail,ok", max_nb_restart=1, **_timed("* * * * *")
    )
    body = {"key": "PASSWORD", "value": "report", "is_secret": True}
    body |= {"variable_scope": "JOB", "variable_parent_id": job}
    await cron.plane.call("POST", "/variable", body)
    await cron.plane.roll(environment)
    await cron.at("12:01:00")
    (run,) = (await cron.plane.call("GET", f"/refloat/service/{job}/runs"))["results"]
    assert (run["outcome"], run["attempts"], run["reason"]) == ("done", 2, None)
    assert run["log"] == ["running [secret]"]


async def test_runs_of_one_job_never_overlap(cron: Cron) -> None:
    job = await cron.job(script="release_seconds=0.3")
    cron.wall.at("12:01:00")
    await cron.runs.look()
    await cron.plane.eventually(lambda: _executes(cron))
    cron.wall.at("12:02:00")
    await cron.runs.look()
    assert len(cron.plane.world.executing) == 1 and await cron.told(job) == [("12:01", None)]
    await asyncio.gather(*cron.runs.going())
    await cron.look()
    assert await cron.told(job) == [("12:01", "done"), ("12:02", "done")]


async def test_a_stopped_job_does_not_run_and_a_run_that_goes_on_ends(cron: Cron) -> None:
    job = await cron.job(script="release=hang")
    cron.wall.at("12:01:00")
    await cron.runs.look()
    await cron.plane.eventually(lambda: _executes(cron))
    found = await cron.plane.roll(cron.environment, "stop")
    assert [it["state"] for it in found["jobs"]] == ["STOPPED"]
    await cron.at("12:02:00")
    assert not cron.plane.world.executing and cron.keys == []
    assert await cron.told(job) == [("12:01", "canceled")]
    await cron.at("12:03:00")
    assert len(await cron.told(job)) == 1


async def test_after_a_redeploy_only_later_instants_count(cron: Cron) -> None:
    job = await cron.job()
    await cron.plane.roll(cron.environment, "stop")
    cron.wall.at("12:05:30")
    await cron.plane.roll(cron.environment)
    await cron.look()
    assert await cron.told(job) == []
    await cron.at("12:06:00")
    assert await cron.told(job) == [("12:06", "done")]


async def test_a_redeploy_just_after_an_instant_does_not_swallow_it(cron: Cron) -> None:
    job = await cron.job()
    cron.wall.at("12:01:01")
    await cron.plane.roll(cron.environment)
    await cron.look()
    assert await cron.told(job) == [("12:01", "done")]


async def test_another_schedule_counts_from_its_deployment(cron: Cron) -> None:
    job = await cron.job("0 0 1 1 *")
    cron.wall.at("12:30:30")
    body = await cron.plane.call("GET", f"/job/{job}")
    changed = {**_as_request(body), **_timed("0 12 * * *")}
    await cron.plane.call("PUT", f"/job/{job}", changed)
    await cron.plane.roll(cron.environment)
    await cron.look()
    assert await cron.told(job) == []


def _as_request(body: dict[str, Any]) -> dict[str, Any]:
    kept = ("name", "healthchecks", "max_nb_restart")
    source = {"docker": {"git_repository": {"url": body["source"]["docker"]["git_repository"]["url"]}}}
    return {**{key: body[key] for key in kept}, "source": source}


async def test_a_deleted_job_leaves_no_runs(cron: Cron) -> None:
    job = await cron.job()
    await cron.at("12:01:00")
    await cron.plane.call("DELETE", f"/job/{job}", expect=204)
    await cron.plane.eventually(lambda: _gone(cron, job))
    await cron.at("12:02:00")
    assert cron.keys == ["20300101T1201Z.1"]


async def _gone(cron: Cron, job: str) -> bool:
    return (await cron.plane.api.get(f"/refloat/service/{job}/runs")).status_code == 404


async def test_a_clock_that_goes_back_begins_nothing_again(cron: Cron) -> None:
    job = await cron.job()
    await cron.at("12:10:00")
    for text in ("12:05:00", "12:10:30"):
        await cron.at(text)
    assert await cron.told(job) == [("12:10", "done")]


async def test_the_schedule_is_read_in_its_time_zone(cron: Cron) -> None:
    cron.environment = await cron.plane.environment()
    job = await cron.plane.job(cron.environment, "report", **_timed("0 9 * * *", "America/New_York"))
    await cron.plane.roll(cron.environment)
    for text in ("13:00:00", "14:00:00"):
        await cron.at(text)
    assert await cron.told(job) == [("14:00", "done")]


async def test_old_runs_are_forgotten(cron: Cron) -> None:
    job = await cron.job()
    for minute in range(1, KEPT_RUNS + 4):
        await cron.at(f"12:{minute:02}:00")
    await cron.look()
    told = await cron.told(job)
    assert len(cron.plane.world.runs) == len(told) == KEPT_RUNS and told[-1] == (
        f"12:{KEPT_RUNS + 3:02}",
        "done",
    )


@pytest.mark.parametrize(
    ("schedule", "timezone", "words"),
    [
        ("* * * *", None, "five fields are expected"),
        ("@daily", None, "five fields are expected"),
        ("61 * * * *", None, "bad minute"),
        ("0 0 30 2 *", None, "bad day-of-month"),
        ("0 0 * * *", "Mars/Olympus", "'Mars/Olympus' is not known"),
        ("0 0 * * *", "../../etc/passwd", "is not known"),
    ],
)
async def test_a_schedule_that_means_nothing_is_refused_when_it_is_configured(
    schedule: str, timezone: str | None, words: str, cron: Cron
) -> None:
    environment = await cron.plane.environment()
    body = {
        "name": "report",
        "source": {"docker": {"git_repository": {"url": "https://example.org/report.git"}}},
        "healthchecks": {},
        **_timed(schedule, timezone),
    }
    answer = await cron.plane.api.post(f"/environment/{environment}/job", json=body)
    assert answer.status_code == 400 and words in answer.text
