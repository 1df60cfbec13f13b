"""G6 blast radius: what happens to one service changes nothing of another.

What is recorded of a service changes only together with its own outcome, and what runs of it and where its
route leads only by an effect on itself, or by what happens to the machine.
"""

from typing import Any

from refloat.simulated.world import World
from tests.simulation.seeded.records import Records
from tests.simulation.seeded.trace import Trace
from tests.simulation.seeded.world import names_service

_GUARANTEE = "G6 blast radius"
REACHES = frozenset({"prepare", "stop", "switch", "destroy", "forget"})
"""What changes a service in the world."""
Seen = dict[str, tuple[Any, frozenset[str]]]
"""By service: its route, and its revisions that run."""


class Neighbours:
    """Watches every service for changes that nobody made to it."""

    def __init__(self, world: World, trace: Trace) -> None:
        self._world = world
        self._trace = trace
        self._seen: Seen = {}
        self._touched: set[str] = set()
        """Services with an effect under way, or that broke off."""
        self._ending: frozenset[str] = frozenset()
        self._excused = False
        self._applied: dict[str, Any] = {}

    def committed(self, before: Records, now: Records, applied: dict[str, Any]) -> None:
        """What is recorded of a service changes with its target or its journal, in the same commit."""
        for service in self._applied.keys() | applied.keys():
            if self._applied.get(service) != applied.get(service):
                own = _changed(before.targets, now.targets, service) or _changed(
                    before.steps, now.steps, service
                )
                name = names_service(self._world, service)
                self._trace.require(own, _GUARANTEE, f"what is recorded of {name} changes without it")
        self._applied = applied

    def excuse(self) -> None:
        """Something happens to the machine: what is seen next is nobody's doing."""
        self._excused = True

    def reached(self, service: str, *, done: bool) -> None:
        """An effect on a service begins, or is over."""
        self.look(by=service if done else "")
        (self._touched.discard if done else self._touched.add)(service)

    def look(self, by: str = "") -> None:
        """Compare what runs and where routes lead with the last look."""
        seen, ending = self._now()
        if not self._excused:
            for service in seen.keys() | self._seen.keys():
                if seen.get(service) != self._seen.get(service):
                    own = service == by or service in self._touched or service in self._ending
                    name = names_service(self._world, service)
                    self._trace.require(own, _GUARANTEE, f"what runs or is routed of {name} changes")
        self._seen, self._ending, self._excused = seen, ending, False

    def _now(self) -> tuple[Seen, frozenset[str]]:
        runs: dict[str, set[str]] = {service: set() for service in self._world.routes}
        ending = set()
        for key, running in self._world.running.items():
            if not running.stopped:
                runs.setdefault(running.revision.service_id, set()).add(key)
            if running.endings:
                ending.add(running.revision.service_id)
        routes = self._world.routes
        seen = {service: (routes.get(service), frozenset(keys)) for service, keys in runs.items()}
        nothing = (None, frozenset[str]())
        return {service: it for service, it in seen.items() if it != nothing}, frozenset(ending)


def _changed(before: dict[Any, Any], now: dict[Any, Any], service: str) -> bool:
    keys = [key for key in before.keys() | now.keys() if key[1] == service]
    return any(before.get(key) != now.get(key) for key in keys)
