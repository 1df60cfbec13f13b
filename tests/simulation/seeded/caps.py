"""G7: no more deployments and builds on the cluster than it takes, at any commit and any build."""

import random
from collections.abc import Callable

from refloat.execution.capacity import Capacity
from refloat.simulated.world import World
from tests.simulation.seeded.records import Records
from tests.simulation.seeded.trace import Trace

_SMALL = (1, 1, 2, 3)
_GUARANTEE = "G7 the cluster takes no more"


def drawn_capacity(draw: random.Random) -> Capacity:
    """Mostly so much that it does not matter, else so little that it does."""
    if draw.random() < 0.6:
        return Capacity()
    return Capacity(deployments=draw.choice(_SMALL), builds=draw.choice(_SMALL))


class Caps:
    """All environments of a run are on one cluster."""

    def __init__(self, capacity: Capacity, world: World, trace: Trace, now: Callable[[], float]) -> None:
        self._capacity = capacity
        self._world = world
        self._trace = trace
        self._now = now
        self._busy = 0.0

    def committed(self, now: Records) -> None:
        running = [it for it in now.deployments.values() if it.owner and not it.ended]
        words = f"{len(running)} deployments run, {self._capacity.deployments} may"
        self._trace.require(len(running) <= self._capacity.deployments, _GUARANTEE, words)
        reserved = sum(it.builds for it in running)
        words = f"{reserved} builds are reserved, {self._capacity.builds} may be under way"
        self._trace.require(reserved <= self._capacity.builds, _GUARANTEE, words)

    def builds(self, service: str) -> None:
        """A build of this service begins."""
        under_way = self._world.building | {service}
        words = f"{len(under_way)} builds are under way, {self._capacity.builds} may be"
        self._trace.require(len(under_way) <= self._capacity.builds, _GUARANTEE, words)

    def waited_for(self, now: Records) -> float:
        """Until when a queue may have waited for room: any deployment under way may take all of it, and one
        that has builds reserved also where there is much."""
        small = self._capacity != Capacity()
        if any(it.owner and not it.ended and (small or it.builds) for it in now.deployments.values()):
            self._busy = self._now()
        return self._busy
