"""How much one cluster is asked to do at once, as an invariant of the claim.

A claim counts what runs on its cluster in the transaction that makes it run, and reserves the builds that
its widest stage does side by side. Who does not fit stays queued, where no deadline runs.
"""

from collections.abc import Mapping

import msgspec

from refloat.planning.plan import Plan, StagePlan, StepName


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What each cluster takes at once: running deployments, and builds under way."""

    deployments: int = 50
    builds: int = 7


class Use(msgspec.Struct, frozen=True):
    """What is taken of a cluster now."""

    deployments: int = 0
    builds: int = 0


class Head(msgspec.Struct, frozen=True):
    """The first of a queue that nothing runs in."""

    deployment_id: str
    cluster_id: str
    environment_id: str


def widest(stages: tuple[StagePlan, ...]) -> int:
    """How many builds these stages have side by side at most."""
    return max((sum(StepName.BUILD in s.steps for s in stage.services) for stage in stages), default=0)


class Room:
    """What is left of each cluster during one look at all queues, oldest request first.

    One that waits for builds is not overtaken by others that build, only by those that do not.
    """

    def __init__(self, capacity: Capacity, used: Mapping[str, Use], needs: dict[str, int]) -> None:
        self._capacity = capacity
        self._used = dict(used)
        self._needs = needs
        self._waiting: set[str] = set()

    def builds_of(self, plan: Plan) -> int:
        """What to reserve: a stage wider than the cluster allows builds in turns."""
        return min(widest(plan.stages), self._capacity.builds)

    def is_full_for(self, head: Head) -> bool:
        """What is known without making its plan; a plan is made only for those that may fit."""
        return not self._takes(
            self._used.get(head.cluster_id, Use()), head, self._needs.get(head.deployment_id, 0)
        )

    def takes(self, used: Use, head: Head, builds: int) -> bool:
        """Whether it fits beside what is used, read in the transaction of its claim."""
        if self._takes(used, head, builds):
            self._used[head.cluster_id] = Use(used.deployments + 1, used.builds + builds)
            self._needs.pop(head.deployment_id, None)
            return True
        self._needs[head.deployment_id] = builds
        return False

    def _takes(self, used: Use, head: Head, builds: int) -> bool:
        if used.deployments >= self._capacity.deployments:
            return False
        if builds and (head.cluster_id in self._waiting or used.builds + builds > self._capacity.builds):
            self._waiting.add(head.cluster_id)
            return False
        return True
