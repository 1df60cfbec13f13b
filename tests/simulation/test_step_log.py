"""Lines of a step on their way into the record."""

import asyncio
from collections.abc import Iterable
from typing import Any, cast

from refloat.domain.revision import Level
from refloat.execution.logs import StepLog
from tests.simulation.seeded.loop import VirtualClock, VirtualLoop


class Record:
    """What was told, and when."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.told: list[tuple[float, list[str]]] = []

    async def tell(self, service_id: str, step: str, lines: Iterable[tuple[Level, str]]) -> None:
        self.told.append((round(self._clock.monotonic(), 3), [line for _, line in lines]))


class Counting(VirtualClock):
    sleeps = 0

    async def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        await super().sleep(seconds)


def test_a_silent_step_wakes_nobody_and_its_lines_are_told_soon_and_together() -> None:
    loop = VirtualLoop()
    clock = Counting(loop)
    record = Record(clock)

    async def step() -> None:
        async with StepLog(cast(Any, record), clock, "service", "build") as log:
            await asyncio.sleep(1800)
            log(Level.INFO, "one")
            await asyncio.sleep(0.05)
            log(Level.INFO, "two")
            await asyncio.sleep(60)
            log(Level.INFO, "three")

    loop.run_until_complete(step())
    assert record.told == [(1800.1, ["one", "two"]), (1860.05, ["three"])]
    assert clock.sleeps == 1
    loop.close()
