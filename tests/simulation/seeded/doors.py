"""The processes that answer requests: each has ids and a wall clock of its own, and begins anew at times."""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from refloat.api.asgi import create_app
from refloat.clock import Alarm, Clock
from refloat.control.context import Context
from refloat.domain.ids import IdSequence

_SECOND = 0.4
_APART = (0.0, 0.3, -0.3, 5.0, -5.0, 3600.0)
"""Seconds by which the clocks of two machines differ."""


class Apart:
    """The clock of another machine, which is ahead or behind."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._ahead = timedelta(seconds=seconds)

    def now(self) -> datetime:
        return self._clock.now() + self._ahead

    def monotonic(self) -> float:
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)

    def alarm(self, seconds: float, ring: Callable[[], None]) -> Alarm:
        return self._clock.alarm(seconds, ring)


class Door:
    """One process that accepts and shows."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.application = create_app(context)

    def restart(self) -> None:
        """A new process: nothing is left of the order of its ids."""
        self.context = replace(self.context, ids=IdSequence())
        self.application = create_app(self.context)


def doors(draw: random.Random, context: Context) -> tuple[Door, ...]:
    """One, or two whose clocks are apart."""
    first = Door(context)
    if draw.random() >= _SECOND:
        return (first,)
    clock = Apart(context.clock, draw.choice(_APART))
    return first, Door(replace(context, clock=clock, ids=IdSequence()))
