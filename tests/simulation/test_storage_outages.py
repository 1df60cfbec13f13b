"""A database that is away or full in the middle of a deployment delays it, and changes nothing."""

import asyncio
import contextlib
import dataclasses
import errno
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from refloat.domain.errors import RefloatError, StorageFull, StorageLost
from refloat.execution.worker import Worker
from refloat.routers.base import Address
from refloat.simulated.router import SimulatedRouter
from refloat.store.database import Database, Reader, Transaction
from tests.simulation.control_plane import ControlPlane, node_work


class FailingDatabase:
    """The real database, of which units of work fail from the n-th on until it is mended."""

    def __init__(self, database: Database, error: RefloatError, good: int, *, stored: bool) -> None:
        self._database = database
        self._error = error
        self._good = good
        self._stored = stored
        self.failed = asyncio.Event()
        self.mended = False
        self.read: Reader = database.read

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        self._good -= 1
        broken = self._good < 0 and not self.mended
        if broken and not (self._stored and not self.failed.is_set()):
            self.failed.set()
            raise self._error
        async with self._database.transaction() as tx:
            yield tx
        if broken:  # stored, and the answer was lost
            self.failed.set()
            raise self._error

    def snapshot(self) -> contextlib.AbstractAsyncContextManager[Reader]:
        return self._database.snapshot()

    async def close(self) -> None: ...


UNITS = 9
"""As many as the deployment below has; there is none after that to fail."""


@pytest.mark.parametrize("good", range(UNITS))
@pytest.mark.parametrize(
    ("error", "stored"),
    [
        (StorageFull("no space"), False),
        (StorageLost("the connection broke"), False),
        (StorageLost("the connection broke"), True),
    ],
    ids=["full", "lost", "lost after the commit"],
)
async def test_a_deployment_goes_on_when_the_database_is_back(
    error: RefloatError, stored: bool, good: int, tmp_path: Path
) -> None:
    plane = ControlPlane(tmp_path)
    await plane.start()
    environment = await plane.environment()
    service = await plane.application(environment, "api")
    await plane.roll(environment)
    await plane.stop()
    await plane.call("PUT", f"/application/{service}", {"healthchecks": {}, "cpu": 20})
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    database = FailingDatabase(plane.database, error, good, stored=stored)
    plane.worker = Worker(database, plane.sealer, plane.clock, plane.platforms, domain="localhost")
    plane.task = asyncio.create_task(plane.worker.run())
    async with asyncio.timeout(20):
        await database.failed.wait()
    await plane.eventually(lambda: _idle(plane))
    database.mended = True
    plane.worker.wake()
    statuses = await plane.ended(environment)
    assert statuses["environment"]["state"] == "DEPLOYED"
    assert plane.world.routes[service][0] == f"{service}.2"
    steps = (await plane.call("GET", f"/refloat/environment/{environment}/journal"))["results"]
    assert {s["outcome"] for s in steps} == {"done"}
    assert sum(s["attempt"] - 1 for s in steps) <= 1
    await plane.eventually(lambda: _idle(plane))
    await plane.close()


async def test_a_deployment_that_a_full_disk_holds_up_says_so_and_goes_on(tmp_path: Path) -> None:
    plane = ControlPlane(tmp_path)
    await plane.start()
    environment = await plane.environment()
    await plane.application(environment, "api")
    await plane.stop()
    database = FailingDatabase(plane.database, StorageFull("no space", hint="make room"), 3, stored=False)
    work = node_work(plane, database, room=lambda: "0 MB are free")
    plane.context = dataclasses.replace(plane.context, halt=work.halt)
    plane.api = plane.client("rf_admin")
    body = await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    explain = f"/refloat/deployment/{body['deployment_request_id']}/explain"
    plane.task = asyncio.create_task(work.alone())
    await plane.eventually(lambda: _situation(plane, explain, "halted"))
    told = await plane.call("GET", explain)
    assert told["reason"] == "no space; 0 MB are free; make room" and told["ends_by"] is None
    assert told["reason"] in told["words"][0] and "goes on by itself" in told["words"][-1]
    assert work.complaint() == "no space", "anybody may ask whether the server is ready"
    database.mended = True
    assert (await plane.ended(environment))["environment"]["state"] == "DEPLOYED"
    await plane.eventually(lambda: _situation(plane, explain, "ended"))
    await plane.close()


async def test_a_node_whose_disk_is_full_stops_no_other_work_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The router writes files, too: that it cannot is no defect, for which the work would be begun anew."""
    plane, room = ControlPlane(tmp_path), asyncio.Event()
    await plane.start()
    environment = await plane.environment()
    await plane.application(environment, "api")
    reserve = SimulatedRouter.reserve

    async def reserved(self: SimulatedRouter, service_id: str, hosts: tuple[str, ...]) -> Address:
        if not room.is_set():
            raise OSError(errno.ENOSPC, "No space left on device", "/node/edge/hosts")
        return await reserve(self, service_id, hosts)

    monkeypatch.setattr(SimulatedRouter, "reserve", reserved)
    told = await plane.call("POST", f"/environment/{environment}/redeploy", expect=507)
    assert told["message"] == "there is no space left for /node/edge/hosts"
    await plane.eventually(lambda: _refused(plane, "there is no space left for /node/edge/hosts"))
    assert plane.task is not None and not plane.task.done()
    room.set()
    assert (await plane.ended(environment))["environment"]["state"] == "DEPLOYED"
    await plane.eventually(lambda: _refused(plane, ""))
    await plane.close()


async def _refused(plane: ControlPlane, why: str) -> bool:
    assert plane.worker is not None
    return (plane.worker.refusal.message if plane.worker.refusal else "") == why


async def _situation(plane: ControlPlane, path: str, situation: str) -> bool:
    return bool((await plane.call("GET", path))["situation"] == situation)


async def _idle(plane: ControlPlane) -> bool:
    return plane.worker is not None and plane.worker.idle
