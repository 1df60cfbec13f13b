"""A whole control plane in this process on the simulated cluster, spoken to through its public API."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from refloat.api.asgi import create_app
from refloat.clock import Clock, SystemClock
from refloat.control.context import Context
from refloat.control.organizations import bootstrap
from refloat.domain.resources import ClusterKind
from refloat.execution.capacity import Capacity
from refloat.execution.crash import CrashPoints, NoCrash
from refloat.execution.node import NodeWork
from refloat.execution.platform import Platform
from refloat.execution.worker import Worker
from refloat.metrics import Metrics
from refloat.settings import Settings
from refloat.simulated.builder import SimulatedBuilder
from refloat.simulated.engine import SimulatedEngine
from refloat.simulated.router import SimulatedRouter
from refloat.simulated.world import World
from refloat.store.database import Database
from refloat.store.sealing import Sealer
from tests.databases import Store, sqlite_store

PATIENCE = 30.0
ENDED = ("DEPLOYED", "STOPPED", "RESTARTED", "CANCELED", "DELETED", "READY")


KINDS = ("applications", "containers", "databases", "jobs")


def shown_states(statuses: dict[str, Any]) -> set[str]:
    """The states of all services."""
    return {s["state"] for kind in KINDS for s in statuses[kind]}


class ControlPlane:
    """Database and simulated world stay; the worker can die and another one take over."""

    def __init__(self, folder: Path, clock: Clock | None = None, store: Store | None = None) -> None:
        self.clock = clock or SystemClock()
        self.world = World()
        self.database = (store or sqlite_store(folder)).open()
        self.platforms = {kind: self._platform() for kind in ClusterKind}
        self.sealer = Sealer(b"k" * 32)
        settings = Settings(data_dir=folder, node_dir=folder / "node", admin_token="rf_admin")
        self.capacity = Capacity()
        self.metrics = Metrics()
        self.worker: Worker | None = None
        self.task: asyncio.Task[None] | None = None
        self.context = Context(
            settings=settings,
            database=self.database,
            sealer=self.sealer,
            clock=self.clock,
            entropy=os.urandom,
            platforms=self.platforms,
            wake=lambda: self.worker.wake() if self.worker else None,
            telemetry=self.metrics,
            exposition=self.metrics,
        )
        self.api = self.client("rf_admin")
        self.seen: set[str] = set()

    def _platform(self) -> Platform:
        return Platform(
            engine=SimulatedEngine(self.world, self.clock),
            router=SimulatedRouter(self.world, self.clock),
            builder=SimulatedBuilder(self.world, self.clock),
            rewrite=self.world.rewrite,
        )

    def client(self, token: str) -> httpx.AsyncClient:
        headers = {"Authorization": f"Token {token}"} if token else {}
        transport = httpx.ASGITransport(create_app(self.context), raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://refloat", headers=headers)

    async def start(self, crash: CrashPoints | None = None) -> None:
        """A worker of its own; a former one must have ended."""
        await bootstrap(self.context)
        self.worker = Worker(
            self.database,
            self.sealer,
            self.clock,
            self.platforms,
            domain="localhost",
            capacity=self.capacity,
            crash=crash,
            telemetry=self.metrics,
        )
        self.task = asyncio.create_task(self.worker.run())

    async def stop(self) -> None:
        if self.task:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        self.task = self.worker = None

    async def close(self) -> None:
        await self.stop()
        await self.database.close()

    # -- the API

    async def call(self, method: str, path: str, body: Any = None, expect: int | None = None) -> Any:
        answer = await self.api.request(method, path, json=body)
        assert answer.status_code == expect if expect else answer.status_code < 400, answer.text
        return answer.json() if answer.content else None

    async def organization(self) -> str:
        return str((await self.call("GET", "/organization"))["results"][0]["id"])

    async def project(self) -> str:
        path = f"/organization/{await self.organization()}/project"
        return str((await self.call("GET", path))["results"][0]["id"])

    async def environment(self, name: str = "shop") -> str:
        path = f"/project/{await self.project()}/environment"
        return str((await self.call("POST", path, {"name": name}))["id"])

    async def application(self, environment: str, name: str, script: str = "", stage: str = "") -> str:
        body = {
            "name": name,
            "git_repository": {"url": f"https://example.org/{name}.git#{script}"},
            "ports": [{"internal_port": 8000, "publicly_accessible": True}],
            "healthchecks": {},
        }
        made = str((await self.call("POST", f"/environment/{environment}/application", body))["id"])
        if stage:
            await self.call("PUT", f"/deploymentStage/{await self.stage(environment, stage)}/service/{made}")
        return made

    async def job(self, environment: str, name: str, script: str = "", **more: Any) -> str:
        body = {
            "name": name,
            "source": {"docker": {"git_repository": {"url": f"https://example.org/{name}.git#{script}"}}},
            "schedule": {"on_start": {"entrypoint": "run"}},
            "healthchecks": {},
            **more,
        }
        return str((await self.call("POST", f"/environment/{environment}/job", body, expect=201))["id"])

    async def database_service(self, environment: str, name: str = "db", **more: Any) -> str:
        body = {"name": name, "type": "POSTGRESQL", "version": "16", "mode": "CONTAINER", **more}
        return str((await self.call("POST", f"/environment/{environment}/database", body, expect=201))["id"])

    async def stage(self, environment: str, name: str) -> str:
        stages = (await self.call("GET", f"/environment/{environment}/deploymentStage"))["results"]
        for stage in stages:
            if stage["name"] == name:
                return str(stage["id"])
        made = await self.call("POST", f"/environment/{environment}/deploymentStage", {"name": name})
        return str(made["id"])

    async def statuses(self, environment: str) -> dict[str, Any]:
        """All statuses; every state shown is remembered in `seen`, the environment's with a prefix."""
        found = await self.call("GET", f"/environment/{environment}/statuses")
        own = found["environment"]
        self.seen |= {f"environment {own['state']}", f"environment {own['last_deployment_state']}"}
        self.seen |= shown_states(found)
        return dict(found)

    async def until(self, environment: str, *states: str) -> dict[str, Any]:
        """Statuses once a service or the environment shows one of the states."""
        async with asyncio.timeout(PATIENCE):
            while True:
                found = await self.statuses(environment)
                own = found["environment"]
                if {own["state"], own["last_deployment_state"], *shown_states(found)} & set(states):
                    return found
                await asyncio.sleep(0.005)

    async def ended(self, environment: str) -> dict[str, Any]:
        """Statuses once nothing is under way or waiting."""
        async with asyncio.timeout(PATIENCE):
            while True:
                found = await self.statuses(environment)
                state = found["environment"]["last_deployment_state"]
                if state in ENDED or state.endswith("ERROR"):
                    return found
                await asyncio.sleep(0.005)

    async def eventually(self, look: Callable[[], Awaitable[bool]]) -> None:
        """Until the look is true; fails when it is not in time."""
        async with asyncio.timeout(PATIENCE):
            while not await look():  # noqa: ASYNC110 - a client can only look
                await asyncio.sleep(0.005)

    async def at_rest(self) -> None:
        """Once the worker has told and counted what it did too: it does so after the commit others see."""
        worker = self.worker
        assert worker is not None

        async def look() -> bool:
            return worker.idle

        await self.eventually(look)

    async def roll(self, environment: str, verb: str = "redeploy") -> dict[str, Any]:
        await self.call("POST", f"/environment/{environment}/{verb}", expect=202)
        return await self.ended(environment)


async def _nothing() -> None: ...


def node_work(plane: ControlPlane, database: Database | None = None, **more: Any) -> NodeWork:
    """What a server does for the node of this plane; `database` in place of the plane's."""
    return NodeWork(
        database or plane.database,
        plane.sealer,
        plane.clock,
        plane.platforms,
        domain="localhost",
        drain_seconds=1,
        capacity=Capacity(),
        crash=NoCrash(),
        prepare=_nothing,
        **more,
    )
