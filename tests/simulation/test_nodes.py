"""Two nodes on one database: each works on its own clusters, and what belongs to a dead one waits."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from refloat.domain.replicas import Replica
from refloat.execution.leadership import lead
from refloat.execution.places import NodePlatforms
from refloat.store.replicas import ReplicaSession
from tests.databases import PostgresServer, Store
from tests.simulation.control_plane import ControlPlane, node_work


class Node(ControlPlane):
    """A control plane that is a server of one node; it sees nothing of the other's cluster."""

    def __init__(self, folder: Path, store: Store, name: str) -> None:
        super().__init__(folder, store=store)
        self.platforms = NodePlatforms(self.platforms, name)
        self.context = self.context.__class__(
            **{**vars(self.context), "platforms": self.platforms, "wake": lambda: self.work.wake()}
        )
        self.api = self.client("rf_admin")

        self.work = node_work(self)
        self.url, self.name = store.url, name
        self.tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        session = ReplicaSession(self.url, secrets.token_hex(8), self.name, self.work.wake)
        self.tasks = [
            asyncio.create_task(session.run()),
            asyncio.create_task(lead(session, self.work.during)),
        ]
        assert await session.leads_at_first()

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks = []

    async def local_cluster(self, name: str) -> str:
        """A cluster of this node, made through its own API."""
        body = {"name": name, "region": "here", "cloud_provider": "ON_PREMISE", "kubernetes": "SELF_MANAGED"}
        path = f"/organization/{await self.organization()}/cluster"
        return str((await self.call("POST", path, {**body, "refloat_kind": "local"}))["id"])

    async def environment_on(self, name: str, cluster: str) -> str:
        path = f"/project/{await self.project()}/environment"
        return str((await self.call("POST", path, {"name": name, "cluster": cluster}))["id"])

    async def waiting_reason(self, environment: str) -> Any:
        return (await self.call("GET", f"/refloat/environment/{environment}/journal"))["waiting_reason"]


@pytest.fixture
async def nodes(tmp_path: Path, postgres: PostgresServer) -> AsyncIterator[tuple[Node, Node]]:
    store = Store(postgres.database())
    async with AsyncExitStack() as stack:
        yield (
            await stack.enter_async_context(_started(tmp_path / "one", store, "one")),
            await stack.enter_async_context(_started(tmp_path / "two", store, "two")),
        )


@asynccontextmanager
async def _started(folder: Path, store: Store, name: str) -> AsyncIterator[Node]:
    from refloat.control.organizations import bootstrap

    node = Node(folder, store, name)
    await bootstrap(node.context)
    await node.begin()
    try:
        yield node
    finally:
        await node.end()
        await node.close()


async def test_each_node_runs_what_belongs_to_it_whoever_was_asked(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    here = await one.environment("here")
    first = await one.application(here, "api")
    there = await one.environment_on("there", await two.local_cluster("second machine"))
    second = await one.application(there, "api")
    for environment in (here, there):
        await one.call("POST", f"/environment/{environment}/redeploy", expect=202)
        assert (await one.ended(environment))["environment"]["state"] == "DEPLOYED"
        assert await one.statuses(environment) == await two.statuses(environment)
    assert set(one.world.routes) == {first}
    assert set(two.world.routes) == {second}


async def test_what_belongs_to_a_dead_node_waits_with_its_reason_and_goes_on_when_it_is_back(
    nodes: tuple[Node, Node],
) -> None:
    one, two = nodes
    there = await one.environment_on("there", await two.local_cluster("second machine"))
    await one.application(there, "api", "boot_seconds=0.3")
    await one.call("POST", f"/environment/{there}/redeploy", expect=202)
    await one.until(there, "DEPLOYING")
    await two.end()
    stopped = await one.statuses(there)
    assert "node two" in await one.waiting_reason(there)
    newest = (await one.call("GET", f"/environment/{there}/status"))["deployment_request_id"]
    explained = await one.call("GET", f"/refloat/deployment/{newest}/explain")
    assert explained["situation"] == "waits_for_node" and "node two" in explained["words"][0]
    (left,) = explained["next"]
    assert left["steps"][0] in ("prepare", "ready") and explained["ends_by"] is None
    here = await one.environment("here")
    await one.application(here, "api")
    await one.roll(here)
    assert (await one.statuses(there))["environment"]["state"] == stopped["environment"]["state"]
    await two.begin()
    assert (await one.ended(there))["environment"]["state"] == "DEPLOYED"
    assert await one.waiting_reason(there) is None


async def test_a_plan_for_another_node_is_refused_with_its_name(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    there = await one.environment_on("there", await two.local_cluster("second machine"))
    answer = await one.api.get(f"/refloat/environment/{there}/plan")
    assert answer.status_code == 503
    assert "node two" in answer.json()["message"]
    assert (await two.api.get(f"/refloat/environment/{there}/plan")).status_code == 200


async def test_a_node_is_one_local_cluster(nodes: tuple[Node, Node]) -> None:
    _, two = nodes
    await two.local_cluster("second machine")
    body = {"name": "again", "region": "here", "cloud_provider": "ON_PREMISE", "refloat_kind": "local"}
    answer = await two.api.post(f"/organization/{await two.organization()}/cluster", json=body)
    assert answer.status_code == 400
    assert "'second machine' already" in answer.json()["message"]


def test_a_server_is_dead_after_a_lease_of_silence() -> None:
    assert Replica(id="a", node="n", leads=True, silent_seconds=2).alive
    assert not Replica(id="a", node="n", leads=True, silent_seconds=11).alive
