"""The work of a node goes on, whatever happens to the worker that does it."""

import asyncio
import dataclasses
from pathlib import Path

import pytest

from refloat.execution.crash import NoCrash
from refloat.execution.node import NodeWork
from tests.simulation.control_plane import ControlPlane


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

    async def prepare() -> None: ...

    work = NodeWork(
        plane.database,
        plane.sealer,
        plane.clock,
        plane.platforms,
        domain="localhost",
        drain_seconds=1,
        crash=NoCrash(),
        prepare=prepare,
    )
    task = asyncio.create_task(work.alone())
    assert (await plane.ended(environment))["environment"]["state"] == "DEPLOYED"
    assert not defects
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await plane.close()


async def test_who_drops_its_work_says_so_before_anything_of_it_is_cancelled(tmp_path: Path) -> None:
    """So that an engine can leave what runs to the next server, which may have joined it already."""
    plane = ControlPlane(tmp_path)
    await plane.start()
    environment = await plane.environment()
    await plane.job(environment, "migrate", "release=hang", max_duration_seconds=1000)
    await plane.stop()
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    told: list[tuple[bool, bool]] = []

    def tell(here: bool) -> None:
        told.append((here, bool(plane.world.executing)))

    platforms = {kind: dataclasses.replace(it, in_charge=tell) for kind, it in plane.platforms.items()}

    async def prepare() -> None: ...

    work = NodeWork(
        plane.database,
        plane.sealer,
        plane.clock,
        platforms,
        domain="localhost",
        drain_seconds=1,
        crash=NoCrash(),
        prepare=prepare,
    )
    task = asyncio.create_task(work.alone())

    async def executes() -> bool:
        return bool(plane.world.executing)

    await plane.eventually(executes)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert set(told) == {(True, False), (False, True)}
    await plane.close()
