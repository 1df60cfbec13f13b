"""What every use case is given; made once by the composition root."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from refloat.clock import Clock
from refloat.control.resolving import Resolve, resolve
from refloat.domain.ids import IdSequence
from refloat.domain.resources import ClusterKind
from refloat.execution.platform import Platform
from refloat.execution.telemetry import Exposition, Silent, Telemetry
from refloat.settings import Settings
from refloat.store.database import Database
from refloat.store.sealing import Sealer


@dataclass(frozen=True)
class Context:
    """The world of a use case. `entropy(n)` gives n random bytes; `wake` calls the worker; `resolve` asks
    the DNS; `complaint` says why this server does not do its work, "" when it does; `halt` says it with what
    mends it, which names places of this machine; `ending` is set when it is told to end."""

    settings: Settings
    database: Database
    sealer: Sealer
    clock: Clock
    entropy: Callable[[int], bytes]
    platforms: Mapping[ClusterKind, Platform]
    wake: Callable[[], None] = lambda: None
    complaint: Callable[[], str] = lambda: ""
    halt: Callable[[], str] = lambda: ""
    ids: IdSequence = field(default_factory=IdSequence)
    resolve: Resolve = resolve
    telemetry: Telemetry = field(default_factory=Silent)
    exposition: Exposition | None = None
    ending: asyncio.Event = field(default_factory=asyncio.Event)

    def new_id(self) -> str:
        """A fresh time-ordered id."""
        return self.ids.next(self.clock.now(), self.entropy(10))
