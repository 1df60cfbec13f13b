"""The work of a node goes on, whatever happens to the worker that does it."""

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from refloat.domain.replicas import Term
from refloat.execution.cron import CronRuns
from refloat.execution.node import NodeWork
from refloat.execution.reconciler import Reconciler
from refloat.execution.worker import Worker
from tests.simulation.control_plane import ControlPlane, node_work


async def test_a_defect_that_stops_the_worker_does_not_stop_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane = ControlPlane(tmp_path)
    await plane.start()
    environment = await plane.environment()
    await plane.application(environment, "api")
    await plane.stop()
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    platform = next(iter(plane.platforms.values()))
    observe, defects = platform.engine.observe, [ZeroDivisionError("a defect")]

    async def defective(environment_id: str | None = None):  # type: ignore[no-untyped-def]
        if defects:
            raise defects.pop()
        return await observe(environment_id)

    for each in plane.platforms.values():
        monkeypatch.setattr(each.engine, "observe", defective)

    work = _work_of(plane)
    task = asyncio.create_task(work.alone())
    assert (await plane.ended(environment))["environment"]["state"] == "DEPLOYED"
    assert not defects
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await plane.close()


def _work_of(plane: ControlPlane) -> NodeWork:
    return node_work(plane)


@contextlib.asynccontextmanager
async def _under_way(work: NodeWork) -> AsyncIterator[None]:
    task = asyncio.create_task(work.alone())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_work_that_stopped_or_stands_still_is_complained_of(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = _work_of(plane)
    assert work.complaint() == ""  # another server's, as far as it knows
    async with _under_way(work):
        monkeypatch.setattr(Worker, "silent_seconds", property(lambda _: 130.0))
        await plane.eventually(_says(work, "the queues were not looked at for 130 s"))
        monkeypatch.undo()
        assert work.complaint() == ""

        async def defective(_: Worker) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(Worker, "_look", defective)
        await plane.eventually(_says(work, "is not under way"))


async def test_a_server_complains_of_work_in_its_term_alone(plane: ControlPlane) -> None:
    work, prepared = _work_of(plane), asyncio.Event()
    work.prepare = prepared.wait  # type: ignore[assignment]
    term = asyncio.create_task(work.during(Term(node="here", replica="a", number=1)))
    await plane.eventually(_says(work, "is not under way"))  # elected, and not at work yet
    prepared.set()
    await plane.eventually(lambda: _silent(work))
    term.cancel()
    await asyncio.gather(term, return_exceptions=True)
    assert work.complaint() == ""  # another server's now


async def _silent(work: NodeWork) -> bool:
    return work.complaint() == ""


def _says(work: NodeWork, words: str) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return words in work.complaint()

    return look


@pytest.mark.parametrize(("kind", "look"), [(Worker, "_look"), (Reconciler, "_begin"), (CronRuns, "look")])
async def test_a_full_disk_stops_none_of_the_work_and_it_looks_again(
    kind: type, look: str, plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work that stops is begun anew with all else of the node, which interrupts what others do."""
    looks: list[object] = []
    await plane.stop()

    async def full(work: object) -> None:
        looks.append(work)
        raise OSError(errno.ENOSPC, "No space left on device", "/node/run")

    monkeypatch.setattr(kind, look, full)
    work = _work_of(plane)
    async with _under_way(work):
        await plane.eventually(lambda: _often(looks))
        assert len(set(map(id, looks))) == 1


async def _often(looks: list[object]) -> bool:
    return len(looks) > 2
