"""What the work on deployments tells whoever counts it. Told in process, at no cost to the database."""

from datetime import datetime
from typing import Protocol

import msgspec

from refloat.domain.deployment import Deployment, Outcome, Swap
from refloat.domain.progress import Phase
from refloat.planning.plan import StepName


class Telemetry(Protocol):
    """Told what happened. Nothing here waits, and nothing it is given is a name that somebody chose."""

    def claimed(self, deployment: Deployment, at: datetime) -> None:
        """It was begun."""
        ...

    def taken_over(self) -> None:
        """The work of an owner that died, or of a runner of ours, was taken up again."""
        ...

    def refused(self) -> None:
        """A write was refused, because another owner has the deployment or the node."""
        ...

    def step_ended(self, name: StepName, outcome: Outcome, seconds: float) -> None: ...

    def swapped(self, swap: Swap) -> None:
        """A service was switched, and its old revision is drained."""
        ...

    def swap_failed(self) -> None:
        """A service failed after its switch had begun, and goes back."""
        ...

    def ended(self, deployment: Deployment, phase: Phase, at: datetime) -> None: ...


class Silent:
    """Counts nothing."""

    def claimed(self, deployment: Deployment, at: datetime) -> None: ...

    def taken_over(self) -> None: ...

    def refused(self) -> None: ...

    def step_ended(self, name: StepName, outcome: Outcome, seconds: float) -> None: ...

    def swapped(self, swap: Swap) -> None: ...

    def swap_failed(self) -> None: ...

    def ended(self, deployment: Deployment, phase: Phase, at: datetime) -> None: ...


class QueueFigures(msgspec.Struct, frozen=True, kw_only=True):
    """All queues of the database at one instant."""

    waiting: int
    running: int
    oldest_seconds: float
    """How long ago the request that waits longest was asked for; 0: none waits."""


class Exposition(Protocol):
    """Gives out what was counted."""

    content_type: str

    def text(self, queue: QueueFigures) -> bytes: ...
