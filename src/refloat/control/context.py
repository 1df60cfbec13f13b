"""What every use case is given; made once by the composition root."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from refloat.clock import Clock
from refloat.control.resolving import Resolve, resolve
from refloat.domain.ids import IdSequence
from refloat.domain.resources import ClusterKind
from refloat.execution.platform import Platform
from refloat.settings import Settings
from refloat.store.database import Database
from refloat.store.sealing import Sealer


@dataclass(frozen=True)
class Context:
    """The world of a use case. `entropy(n)` gives n random bytes; `wake` calls the worker; `resolve` asks
    the DNS."""

    settings: Settings
    database: Database
    sealer: Sealer
    clock: Clock
    entropy: Callable[[int], bytes]
    platforms: Mapping[ClusterKind, Platform]
    wake: Callable[[], None] = lambda: None
    ids: IdSequence = field(default_factory=IdSequence)
    resolve: Resolve = resolve

    def new_id(self) -> str:
        """A fresh time-ordered id."""
        return self.ids.next(self.clock.now(), self.entropy(10))
