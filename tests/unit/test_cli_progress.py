"""The tree of a deployment: its order, its durations, what it leaves out."""

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from refloat.cli.progress import Progress

_BEGIN = datetime(2030, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return _BEGIN + timedelta(seconds=seconds)


def change(progress: Progress, stage: str, name: str, state: str, seconds: float) -> None:
    """The server's clock is an hour ahead of ours."""
    line = {
        "details": {
            "stage": {"step": state, "name": stage},
            "transmitter": {"id": f"id-{name}", "name": name},
        }
    }
    progress.change(line, at(seconds + 3600), seconds)


def step(
    name: str, word: str, began: float, ended: float | None, outcome: str | None = "done"
) -> dict[str, Any]:
    end = at(ended + 3600).isoformat() if ended is not None else None
    return {
        "service_id": f"id-{name}" if name else None,
        "step": word,
        "started_at": at(began + 3600).isoformat(),
        "finished_at": end,
        "outcome": outcome if end else None,
    }


def drawn(progress: Progress, now: float, most: int = 10_000) -> list[str]:
    return [click.unstyle(line) for line in progress.lines(now, most)]


def halfway() -> Progress:
    """The database is done, the API starts, the site waits."""
    progress = Progress(["data", "backend", "frontend", "unused"])
    change(progress, "frontend", "site", "DEPLOYMENT_QUEUED", 0)
    change(progress, "backend", "api", "DEPLOYMENT_QUEUED", 0)
    change(progress, "data", "db", "DEPLOYING", 0)
    change(progress, "data", "db", "DEPLOYED", 2.5)
    change(progress, "backend", "api", "BUILDING", 3)
    change(progress, "backend", "api", "DEPLOYING", 5)
    steps = [step("db", "ready", 0, 2), step("api", "build", 3, 5), step("api", "ready", 5, None)]
    progress.journal(steps, 5)
    return progress


def test_stage_service_and_step_stand_below_each_other_with_their_times() -> None:
    assert drawn(halfway(), 9) == [
        "data",
        "  db    DEPLOYED  2.5s",
        "backend",
        "  api   DEPLOYING  6.0s",
        "    build       2.0s",
        "    ready       4.0s …",
        "frontend",
        "  site  DEPLOYMENT_QUEUED",
    ]


def test_what_goes_on_ticks_and_what_ended_does_not() -> None:
    progress = halfway()
    progress.journal([step("api", "build", 3, 5), step("api", "ready", 5, None)], 20)
    later = drawn(progress, 30)
    assert "  api   DEPLOYING  27.0s" in later and "    ready      25.0s …" in later
    assert "  db    DEPLOYED  2.5s" in later and "    build       2.0s" in later


def test_a_step_that_was_begun_again_is_timed_anew() -> None:
    progress = halfway()
    progress.journal([step("api", "ready", 12, None)], 12)
    assert "    ready       1.0s …" in drawn(progress, 13)


def test_a_failed_service_keeps_its_steps() -> None:
    progress = halfway()
    change(progress, "backend", "api", "DEPLOYMENT_ERROR", 14)
    progress.journal([step("api", "ready", 5, 13, "failed"), step("api", "revert", 13, 14)], 14)
    told = drawn(progress, 20)
    assert "  api   DEPLOYMENT_ERROR  11.0s" in told
    assert "    ready       8.0s failed" in told and "    revert      1.0s" in told


def test_stages_that_are_over_become_short_where_the_terminal_is() -> None:
    progress = halfway()
    change(progress, "data", "cache", "DEPLOYED", 3)
    assert len(drawn(progress, 9, 8)) == 7 and drawn(progress, 9, 8)[0] == "data  2 DEPLOYED"


def test_steps_of_the_whole_deployment_are_shown_while_they_go_on() -> None:
    progress = Progress()
    progress.journal([step("", "precheck", 0, None)], 0)
    assert drawn(progress, 3) == ["precheck    3.0s …"]
    progress.journal([step("", "precheck", 0, 3)], 3)
    assert drawn(progress, 4) == []
