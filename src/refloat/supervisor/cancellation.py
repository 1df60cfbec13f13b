"""Work that must not be left half done because somebody stopped waiting for it."""

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Finish it however often we are cancelled meanwhile; the cancellation is raised afterwards."""
    task = asyncio.create_task(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        task.exception()
        raise asyncio.CancelledError
    return task.result()


@types.coroutine
def in_one_go(work: Coroutine[Any, Any, T]) -> Generator[Any, None, T]:
    """The same without a task of its own, which costs more than a statement does. Not for work that asks for
    its task, to set itself a time limit for one: cancelling us never reaches it.

    Whatever the work waits for, we wait for in its place, and cancelling us cancels our waiting alone.
    """
    cancelled = False
    try:
        while True:
            awaited: asyncio.Future[Any] | None = work.send(None)
            if awaited is None:  # it gives way once, to whatever else is to be done
                awaited = asyncio.ensure_future(asyncio.sleep(0))
            while not awaited.done():
                try:
                    yield from _until(awaited)
                except asyncio.CancelledError:
                    cancelled = True
    except StopIteration as end:
        result: T = end.value
    except Exception:
        if not cancelled:
            raise
    finally:
        work.close()
    if cancelled:
        raise asyncio.CancelledError
    return result


def _until(awaited: "asyncio.Future[Any]") -> Generator[Any, None, None]:
    turn = asyncio.get_running_loop().create_future()
    awaited._asyncio_future_blocking = False  # as a task says that it knows what it waits for
    awaited.add_done_callback(lambda _: None if turn.done() else turn.set_result(None))
    yield from turn
