"""How the runs of a job by the clock are shown."""

from typing import Any

from refloat.cli import render


def _run(minute: int, outcome: str | None, **more: Any) -> dict[str, Any]:
    at = f"2026-11-24T10:{minute:02d}"
    return {
        "scheduled_at": f"{at}:00.000000Z",
        "began_at": f"{at}:01.000000Z",
        "finished_at": f"{at}:05.000000Z" if outcome else None,
        "outcome": outcome,
        "attempts": 1,
        "reason": None,
        "log": [],
        **more,
    }


def test_each_run_is_a_line_and_the_newest_tells_its_last_words() -> None:
    told = render.runs([_run(30, None, log=["still counting"]), _run(15, "failed", reason="exit code 3")])
    lines = told.splitlines()
    assert lines[1].split() == ["2026-11-24", "10:30", "10:30:01", "-", "RUNNING", "1"]
    assert lines[2].split()[:6] == ["2026-11-24", "10:15", "10:15:01", "10:15:05", "FAILED", "1"]
    assert "exit code 3" in lines[2] and lines[3] == "  still counting"


def test_a_job_that_never_ran_says_so() -> None:
    assert render.runs([]) == "no run by the clock yet"
