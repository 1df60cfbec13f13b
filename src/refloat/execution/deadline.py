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
    """The result of the work; raises Overdue after the time, when the cancelled work has ended.

    Whoever asks does the work: a task for each step and one more for its alarm cost more than most steps.
    Being cancelled, or late, outweighs whatever the work made of it.
    """
    limit = _Limit()
    alarm = clock.alarm(seconds, limit.ring)
    try:
        result = await work
    except (Exception, asyncio.CancelledError):
        limit.settle()
        raise
    finally:
        alarm.cancel()
    limit.settle()
    return result


class _Limit:
    """Cancels the task that it is made in when it rings, and knows that from a cancellation by others."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelled_before = task.cancelling()
        self._rang = False

    def ring(self) -> None:
        self._rang = True
        self._task.cancel()

    def settle(self) -> None:
        """Raises CancelledError if others cancelled the work, Overdue if only we did."""
        cancelled = self._task.uncancel() if self._rang else self._task.cancelling()
        if cancelled > self._cancelled_before:
            raise asyncio.CancelledError
        if self._rang:
            raise Overdue from None
