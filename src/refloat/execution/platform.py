"""A cluster kind's matched set: where services run, who routes to them, who builds them."""

from collections.abc import Callable
from dataclasses import dataclass

from refloat.builders.base import Builder
from refloat.engines.base import Engine
from refloat.routers.base import Router


@dataclass(frozen=True)
class Platform:
    """Endpoints are opaque between engine and router, artifacts between builder and engine."""

    engine: Engine
    router: Router
    builder: Builder
    rewrite: Callable[[str, str], None] | None = None
    """Where nothing really runs: has a service (by id) behave by a script from now on."""
