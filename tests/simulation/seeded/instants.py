"""Jobs by the clock: each instant once, one at a time, and what was missed is not made up for."""

import sqlite3
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from refloat.simulated.world import World
from tests.simulation.seeded.trace import Trace
from tests.simulation.seeded.world import BY_THE_CLOCK

_LATE_SECONDS = 600.0
_MINUTES = {"* * * * *": 1, "*/2 * * * *": 2}
"""Between instants, of schedules that are due while a history lasts."""
_ONCE = "an instant runs once"
_RUNS = "SELECT id, parent, document FROM resource WHERE kind = 'cron_run'"
Runs = dict[str, dict[str, Any]]


class Instants:
    """Compares the records of runs with the commands that really ran."""

    def __init__(
        self, look: sqlite3.Connection, world: World, trace: Trace, now: Callable[[], datetime]
    ) -> None:
        self._look = look
        self._world = world
        self._trace = trace
        self._now = now
        self._runs: Runs = {}
        self._begun: set[tuple[str, str]] = set()
        self.excused: set[str] = set()
        """Jobs to which a replaced server did one thing more."""

    def committed(self) -> None:
        """Compare the records with those of the last commit."""
        runs: Runs = {}
        for id, parent, document in map(tuple, self._look.execute(_RUNS)):
            runs[id] = {**msgspec.json.decode(document), "job": parent}
        for id, run in runs.items():
            before = self._runs.get(id)
            if before is None:
                self._new(run)
            elif before.get("outcome"):
                told = f"{run['name']} was {before['outcome']} and is {run.get('outcome')}"
                self._trace.require(before == run, "an end is never taken back", told)
            if run.get("outcome") and (before is None or not before.get("outcome")):
                self._over(run)
        going = Counter(run["job"] for run in runs.values() if not run.get("outcome"))
        self._trace.require(max(going.values(), default=0) <= 1, "runs of a job do not overlap", str(going))
        self._runs = runs

    def _new(self, run: dict[str, Any]) -> None:
        instant = run["job"], run["name"]
        self._trace.note("commit", f"run {run['name']} {run.get('outcome') or 'is written down'}")
        self._trace.require(instant not in self._begun, _ONCE, f"{run['name']} is written down again")
        self._begun.add(instant)
        late = (_moment(run["created_at"]) - _moment(run["scheduled_at"])).total_seconds()
        missed = run.get("outcome") == "missed"
        told = f"{run['name']} is {late:.0f} s late and {run.get('outcome') or 'begins'}"
        self._trace.require(missed == (late > _LATE_SECONDS), "what was missed is not made up for", told)

    def _over(self, run: dict[str, Any]) -> None:
        self._trace.note("commit", f"run {run['name']} {run['outcome']}")
        if run["job"] in self.excused:
            return
        ended = Counter(key for key in self._world.ran if _of(key, run))
        good = [key for key in ended if self._world.runs.get(key) == 0]
        told = f"{run['name']} of {run['job'][-4:]} is {run['outcome']}, its commands were {sorted(ended)}"
        self._trace.require(max(ended.values(), default=0) <= 1, _ONCE, told)
        expected = {"done": len(good) == 1, "missed": not ended, "failed": not good}
        self._trace.require(expected.get(run["outcome"], True), _ONCE, told)

    def begins(self, key: str, *, late: bool) -> None:
        """A command is asked for: its run is written down and goes on, and nothing else of the job runs."""
        job, _, rest = key.partition(BY_THE_CLOCK)
        if late:
            self.excused.add(job)
        if job in self.excused:
            return
        name = rest.partition(".")[0]
        written = [r for r in self._runs.values() if (r["job"], r["name"]) == (job, name)]
        told = f"run {rest} is not written down, or has ended"
        self._trace.require(written and not written[0].get("outcome"), "G14 written down first", told)
        others = [k for k in self._world.executing if k.startswith(f"{job}{BY_THE_CLOCK}") and k != key]
        self._trace.require(not others, "runs of a job do not overlap", f"{others} run beside {rest}")

    def missing(self, job: str, timetable: dict[str, Any]) -> str:
        """The instant that is not recorded though its time has come; "" when there is none."""
        every = _MINUTES.get(timetable["schedule"])
        if every is None:
            return ""
        minute = self._now().replace(second=0, microsecond=0)
        minute -= timedelta(minutes=minute.minute % every)
        known = [_moment(r["scheduled_at"]) for r in self._runs.values() if r["job"] == job]
        going = [r for r in self._runs.values() if r["job"] == job and not r.get("outcome")]
        if minute <= _moment(timetable["since"]) or going or any(it >= minute for it in known):
            return ""
        return str(minute)


def _of(key: str, run: dict[str, Any]) -> bool:
    return key.startswith(f"{run['job']}{BY_THE_CLOCK}{run['name']}.")


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
