"""What one deployment is carried out with."""

from dataclasses import dataclass

from refloat.clock import Clock
from refloat.execution.journal import Journal
from refloat.execution.platform import Platform
from refloat.store.database import Reader
from refloat.store.sealing import Sealer


@dataclass(frozen=True)
class Means:
    """What the steps of one deployment work with. `drain_seconds` bounds the wait for requests in flight."""

    platform: Platform
    journal: Journal
    read: Reader
    sealer: Sealer
    clock: Clock
    drain_seconds: float = 30.0
