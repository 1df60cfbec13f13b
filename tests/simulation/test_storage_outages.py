"""A database that is away or full in the middle of a deployment delays it, and changes nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from refloat.domain.errors import RefloatError, StorageFull, StorageLost
from refloat.execution.worker import Worker
from refloat.store.database import Database, Reader, Transaction
from tests.simulation.control_plane import ControlPlane


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


UNITS = 11
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


async def _idle(plane: ControlPlane) -> bool:
    return plane.worker is not None and plane.worker.idle
