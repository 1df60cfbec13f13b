"""Work that is finished although who waits for it was cancelled, with a task of its own or without."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from refloat.supervisor.cancellation import in_one_go, to_the_end

Finish = Callable[[Coroutine[Any, Any, str]], Awaitable[str]]
both = pytest.mark.parametrize("finish", [to_the_end, in_one_go])


class Work:
    """Goes on when it is let, in two parts."""

    def __init__(self) -> None:
        self.parts = [asyncio.Event(), asyncio.Event()]
        self.ended = False

    async def do(self) -> str:
        for part in self.parts:
            await part.wait()
        self.ended = True
        return "done"


@both
async def test_its_result_or_its_error_comes_back(finish: Finish) -> None:
    async def fails() -> str:
        await asyncio.sleep(0.001)
        raise ValueError("broke")

    async def at_once() -> str:
        return "at once"

    async def in_turns() -> str:
        await asyncio.sleep(0)
        return "in turns"

    assert await finish(at_once()) == "at once"
    assert await finish(in_turns()) == "in turns"
    with pytest.raises(ValueError, match="broke"):
        await finish(fails())


@both
async def test_it_ends_however_often_who_waits_is_cancelled(finish: Finish) -> None:
    work = Work()

    async def wait() -> str:
        return await finish(work.do())

    waiting = asyncio.create_task(wait())
    for part in work.parts:
        for _ in range(2):
            await asyncio.sleep(0.001)
            waiting.cancel()
        await asyncio.sleep(0.001)
        assert not waiting.done()
        part.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert work.ended


@both
async def test_a_cancellation_outweighs_an_error_that_came_after_it(finish: Finish) -> None:
    go_on = asyncio.Event()

    async def fails() -> str:
        await go_on.wait()
        raise ValueError("broke")

    async def wait() -> str:
        return await finish(fails())

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0.001)
    waiting.cancel()
    await asyncio.sleep(0.001)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
