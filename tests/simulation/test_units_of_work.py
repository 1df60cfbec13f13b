"""What a reader can see of a deployment: it is stored in whole units, the first and the last included."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from refloat.domain.deployment import Deployment, Outcome, Step
from refloat.domain.progress import Phase
from refloat.store import deployments as store
from refloat.store.database import Database, Reader, Transaction
from tests.simulation.control_plane import ControlPlane


class Watched:
    """The real database; remembers what of the newest deployment was stored after each unit of work."""

    def __init__(self, database: Database, environment_id: str) -> None:
        self._database = database
        self._environment_id = environment_id
        self.read: Reader = database.read
        self.seen: list[tuple[Deployment, tuple[Step, ...]]] = []

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        async with self._database.transaction() as tx:
            yield tx
        deployment = await store.latest(self.read, self._environment_id)
        assert deployment is not None
        self.seen.append((deployment, await store.steps(self.read, deployment.id)))

    def snapshot(self) -> contextlib.AbstractAsyncContextManager[Reader]:
        return self._database.snapshot()

    async def close(self) -> None: ...


async def test_a_deployment_begins_with_its_first_step_and_ends_with_its_last(tmp_path: Path) -> None:
    """Nobody sees one that runs and does nothing, between its claim and its first step or after its last."""
    plane = ControlPlane(tmp_path)
    await plane.start()
    environment = await plane.environment()
    service = await plane.application(environment, "api")
    await plane.stop()
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    whole = plane.database
    plane.database = watched = Watched(whole, environment)
    for names in (["precheck", "build", "execute", "prepare", "ready", "switch", "verify"], _RESTARTED):
        watched.seen.clear()
        await plane.start()
        await plane.ended(environment)
        await plane.at_rest()
        await plane.stop()
        begun = [(deployment, steps) for deployment, steps in watched.seen if deployment.owner]
        assert [s.name for s in begun[0][1]] == names[:1]
        assert [s.name for s in begun[-1][1]] == names
        for deployment, steps in begun:
            over = len(steps) == len(names) and all(s.outcome is Outcome.DONE for s in steps)
            assert over == deployment.ended == (deployment.phase is Phase.DONE)
        restart = f"/environment/{environment}/service/restart-service"
        await plane.call("POST", restart, {"application_ids": [service]}, expect=202)
    plane.database = whole
    await plane.close()


_RESTARTED = ["prepare", "ready", "switch", "verify", "drain", "stop"]
