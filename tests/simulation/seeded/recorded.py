"""What is recorded as applied, beside what runs and where routes lead."""

import sqlite3
from typing import Any

from refloat.simulated.world import World
from tests.simulation.seeded import records
from tests.simulation.seeded.trace import Trace
from tests.simulation.seeded.world import BY_THE_CLOCK, answers, names_service, serves, stays


class Recorded:
    """The rows of `applied`, by service, as they were at the last commit."""

    def __init__(self, look: sqlite3.Connection, world: World, trace: Trace) -> None:
        self._look = look
        self._world = world
        self._trace = trace
        self.applied: dict[str, dict[str, Any]] = {}

    def read(self) -> None:
        """A commit wrote to them."""
        self.applied = records.applied(self._look)

    def wanted(self, service: str) -> str:
        """The key of the revision of it that should run; "" when none should."""
        it = self.applied.get(service)
        return str(it["revision_key"]) if it and it.get("should_run", True) else ""

    def _runs_and_should(self) -> tuple[set[str], set[str]]:
        should = {a["revision_key"] for a in self.applied.values() if a.get("should_run", True)}
        return {key for key, r in self._world.running.items() if not r.stopped}, should

    @property
    def repaired(self) -> bool:
        """All that should run does, and routes lead there."""
        return not self.missing()

    def missing(self) -> list[str]:
        """What should run and does not, and services whose route does not lead there."""
        runs, should = self._runs_and_should()
        return [*_short(should - runs), *(names_service(self._world, it) for it in self.misled())]

    @property
    def tidy(self) -> bool:
        """Nothing is left to be ended or started."""
        runs, should = self._runs_and_should()
        return runs == should

    def at_rest(self) -> None:
        """Nothing is under way: what runs is exactly what is recorded, and routes lead there."""
        runs, should = self._runs_and_should()
        self._trace.require(
            runs == should, "what runs is what is recorded", f"{_short(runs)} {_short(should)}"
        )
        timed = {service for service, it in self.applied.items() if it.get("timetable")}
        lost = {
            k
            for k in self._world.executing
            if BY_THE_CLOCK in k and k.partition(BY_THE_CLOCK)[0] not in timed
        }
        self._trace.require(not lost, "what is stopped does not run", str(sorted(lost)))
        for service in self.misled():
            self._trace.require(False, "G17 routes are what is recorded", names_service(self._world, service))

    def misled(self) -> list[str]:
        """Services whose route does not lead to what is recorded, or to what does not answer."""
        return [
            service
            for service, it in self.applied.items()
            if it["routed"]
            and it.get("should_run", True)
            and not (
                self._world.routes.get(service, ("", ()))[0] == it["revision_key"]
                and answers(self._world, service)
            )
        ]

    def silent(self) -> set[str]:
        """Services whose route leads to a process that does not answer."""
        routes = self._world.routes
        return {s for s in routes if serves(self._world, s) and not answers(self._world, s)}

    def unwell(self) -> set[str]:
        """Services whose process is about to end by itself, or has, or never gets ready, or to which no route
        can be led."""
        running = self._world.running
        known = {s: running.get(self.wanted(s)) for s in self.applied}
        return {
            s
            for s, it in known.items()
            if it and (it.boot in ("exit", "hang") or stays(self._world, self.wanted(s)))
        }


def _short(keys: set[str]) -> list[str]:
    return sorted(key[-8:] for key in keys)
