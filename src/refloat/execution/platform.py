"""A cluster kind's matched set: where services run, who routes to them, who builds them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from refloat.builders.base import Builder
from refloat.domain.revision import Executing, Instance
from refloat.engines.base import Engine
from refloat.routers.base import Router


class Turns:
    """One at a time leads a route anywhere, in the order they came: what the keeper began before a deployment
    was there could come to an end after the deployment's own switch, and lead the route back."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, service_id: str) -> asyncio.Lock:
        """The same for as long as somebody has it."""
        return self._locks.setdefault(service_id, asyncio.Lock())


@dataclass(frozen=True)
class Platform:
    """Endpoints are opaque between engine and router, artifacts between builder and engine."""

    engine: Engine
    router: Router
    builder: Builder
    rewrite: Callable[[str, str], None] | None = None
    """Where nothing really runs: has a service (by id) behave by a script from now on."""
    turns: Turns = field(default_factory=Turns)

    async def instances(self, environment_id: str) -> tuple[Instance, ...]:
        """What there is of an environment, for who takes what he does not see for gone: a look that shows
        nothing at all proves nothing, so there are two."""
        return await self.engine.observe(environment_id) or await self.engine.observe(environment_id)

    async def commands(self, environment_id: str) -> tuple[Executing, ...]:
        """Those of an environment that have not ended; two looks, as at its instances."""
        return await self.engine.executing(environment_id) or await self.engine.executing(environment_id)

    def turn(self, service_id: str) -> asyncio.Lock:
        """To be held by whoever decides where a route leads, until it does."""
        return self.turns.of(service_id)
