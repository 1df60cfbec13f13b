"""Work with a time limit, in virtual time: what of several ends comes out."""

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from tests.simulation.seeded.loop import VirtualClock, VirtualLoop

from refloat.execution.deadline import Overdue, within


def play(test: Coroutine[Any, Any, None], loop: VirtualLoop) -> None:
    loop.run_until_complete(asyncio.wait_for(test, 1000))


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop()
    yield made
    made.close()


@pytest.fixture
def clock(loop: VirtualLoop) -> VirtualClock:
    return VirtualClock(loop)


def test_work_that_ends_in_time_is_answered_and_its_alarm_is_off(
    loop: VirtualLoop, clock: VirtualClock
) -> None:
    async def test() -> None:
        assert await within(clock, asyncio.sleep(1, "done"), 5) == "done"
        await asyncio.sleep(60)
        assert clock.monotonic() == 61

    play(test(), loop)


def test_late_work_has_ended_before_it_is_told_and_can_be_followed_by_more(
    loop: VirtualLoop, clock: VirtualClock
) -> None:
    ended = []

    async def slow() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(2)
            ended.append(clock.monotonic())

    async def test() -> None:
        with pytest.raises(Overdue):
            await within(clock, slow(), 5)
        assert ended == [7]
        assert await within(clock, asyncio.sleep(1, "next"), 5) == "next"

    play(test(), loop)


@pytest.mark.parametrize("end", ["answers", "fails"])
def test_being_late_outweighs_what_became_of_the_work(
    loop: VirtualLoop, clock: VirtualClock, end: str
) -> None:
    async def test() -> None:
        with pytest.raises(Overdue):
            await within(clock, stubborn(end), 5)

    play(test(), loop)


@pytest.mark.parametrize("end", ["answers", "fails"])
def test_being_cancelled_outweighs_what_became_of_the_work(
    loop: VirtualLoop, clock: VirtualClock, end: str
) -> None:
    async def test() -> None:
        task = asyncio.create_task(within(clock, stubborn(end), 5))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    play(test(), loop)


def test_being_cancelled_while_late_work_ends_is_being_cancelled(
    loop: VirtualLoop, clock: VirtualClock
) -> None:
    async def slow() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(2)

    async def test() -> None:
        task = asyncio.create_task(within(clock, slow(), 5))
        await asyncio.sleep(6)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    play(test(), loop)


def test_the_outer_of_two_limits_is_late_alone(loop: VirtualLoop, clock: VirtualClock) -> None:
    async def test() -> None:
        with pytest.raises(Overdue):
            await within(clock, within(clock, asyncio.sleep(100), 50), 5)
        with pytest.raises(ValueError, match="told"):
            await within(clock, inner(), 50)

    async def inner() -> None:
        try:
            await within(clock, asyncio.sleep(100), 5)
        except Overdue:
            raise ValueError("told") from None

    play(test(), loop)


def test_who_was_cancelled_before_can_clean_up_within_a_limit(loop: VirtualLoop, clock: VirtualClock) -> None:
    async def cleans_up() -> str:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            return await within(clock, asyncio.sleep(1, "clean"), 5)
        return ""

    async def test() -> None:
        task = asyncio.create_task(cleans_up())
        await asyncio.sleep(1)
        task.cancel()
        assert await task == "clean"

    play(test(), loop)


async def stubborn(end: str) -> str:
    """Work that makes something else of its cancellation."""
    try:
        await asyncio.sleep(100)
    except asyncio.CancelledError:
        if end == "fails":
            raise ValueError("it failed") from None
    return "an answer"
