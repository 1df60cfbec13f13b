"""Time limits by the deployment's own clock, which in a simulation is not the machine's."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from refloat.clock import Clock

T = TypeVar("T")

OBSERVE_SECONDS = 10.0
"""How long a cluster may take to tell what runs: everybody who asks waits no longer."""


class Overdue(Exception):
    """The time was over; the work has been cancelled and has ended."""


async def within(clock: Clock, work: Coroutine[Any, Any, T], seconds: float) -> T:
    """The result of the work; raises Overdue after the time, when the cancelled work has ended."""
    task = asyncio.ensure_future(work)
    alarm = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({task, alarm}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Overdue
    finally:
        for each in (task, alarm):
            if not each.done():
                each.cancel()
        await asyncio.gather(task, alarm, return_exceptions=True)
