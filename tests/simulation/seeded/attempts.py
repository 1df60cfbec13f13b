"""Commands of deployments: each attempt is begun once, one at a time, and no more than its job allows."""

from collections import Counter

from refloat.simulated.world import World
from tests.simulation.seeded.trace import Trace

_ATTEMPT = 4
"""Parts of the key of a job's attempt: service, deployment, event and number."""


class Attempts:
    """Compares what servers ask for with what runs and what ran."""

    def __init__(self, world: World, trace: Trace) -> None:
        self._world = world
        self._trace = trace
        self._begun: Counter[str] = Counter()
        self._excused: set[str] = set()
        """Services to which a replaced server did one thing more."""
        self.allowed: dict[str, int] = {}
        """How often a job may be tried in one deployment, by its id."""

    def begins(self, key: str, *, late: bool) -> None:
        """A command is asked for: it begins, unless it goes on and is joined, or has ended."""
        service, shown = key.partition(".")[0], key[-14:]
        if late:
            self._excused.add(service)
        if service in self._excused:
            return
        run = key.rpartition(".")[0] if key.count(".") == _ATTEMPT - 1 else key
        beside = [k for k in self._world.commands if _of(k, run) and k != key]
        self._trace.require(not beside, "attempts of a job do not overlap", f"{beside} beside {shown}")
        if key in self._world.runs or key in self._world.commands:
            return
        self._begun[key] += 1
        self._trace.require(self._begun[key] == 1, "an attempt is made once", f"{shown} begins again")
        made, most = sum(_of(k, run) for k in self._begun), self.allowed.get(service, 1)
        told = f"{shown} is number {made} of {most}"
        self._trace.require(made <= most, "no more attempts than allowed", told)


def _of(key: str, run: str) -> bool:
    return key == run or key.startswith(f"{run}.")
