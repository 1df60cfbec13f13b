"""The HTTP interface on a real database, without a worker: what is accepted stays where it is."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from tests.databases import sqlite_store

from refloat.api.asgi import create_app
from refloat.clock import SystemClock
from refloat.control.context import Context
from refloat.control.organizations import bootstrap
from refloat.domain.resources import ClusterKind
from refloat.execution.platform import Platform
from refloat.settings import Settings
from refloat.simulated.builder import SimulatedBuilder
from refloat.simulated.engine import SimulatedEngine
from refloat.simulated.router import SimulatedRouter
from refloat.simulated.world import World
from refloat.store.sealing import Sealer

UNKNOWN = "00000000-0000-4000-8000-00000000abcd"
ADMIN = "rf_admin"


class Api:
    """One installation with its organization, project and environment."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.app = create_app(context)
        self.client = self.as_(ADMIN)
        self.organization = self.project = self.environment = ""

    def as_(self, token: str) -> httpx.AsyncClient:
        """A client with this token; "" sends none."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        headers = {"Authorization": f"Token {token}"} if token else {}
        return httpx.AsyncClient(transport=transport, base_url="http://refloat", headers=headers)

    async def __call__(self, method: str, path: str, body: Any = None, *, expect: int | None = None) -> Any:
        answer = await self.client.request(method, path, json=body)
        assert answer.status_code == expect if expect else answer.status_code < 400, answer.text
        return answer.json() if answer.content else None

    async def results(self, path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self("GET", path, expect=200))["results"]
        return found

    async def refused(
        self, method: str, path: str, body: Any = None, *, status: int = 400, words: str = ""
    ) -> str:
        """The message of a refusal, which keeps the rules of every error body."""
        answer = await self.client.request(method, path, json=body)
        error = answer.json()
        assert answer.status_code == status, error
        assert answer.headers["content-type"] == "application/json"
        assert {"status", "error", "message", "detail", "timestamp", "path"} <= set(error)
        assert error["status"] == status
        assert words in error["message"], error["message"]
        if status == 400:
            assert "exist" not in error["detail"]  # clients take such a 400 for "not found"
        return str(error["message"])

    # -- things

    async def make_environment(self, name: str, project: str = "") -> str:
        made = await self("POST", f"/project/{project or self.project}/environment", {"name": name})
        return str(made["id"])

    async def make_application(
        self, name: str, environment: str = "", changes: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        path = f"/environment/{environment or self.environment}/application"
        made: dict[str, Any] = await self("POST", path, {**application(name), **(changes or {})}, expect=201)
        return made

    async def make_token(self, name: str, role: str = "", organization: str = "") -> str:
        """A new token with a role by its name; "" is the default."""
        place = f"/organization/{organization or self.organization}"
        roles = {r["name"]: r["id"] for r in await self.results(f"{place}/availableRole")}
        made = await self("POST", f"{place}/apiToken", {"name": name, "role_id": roles.get(role)}, expect=201)
        return str(made["token"])

    async def stages(self, environment: str = "") -> list[dict[str, Any]]:
        return await self.results(f"/environment/{environment or self.environment}/deploymentStage")


def application(name: str) -> dict[str, Any]:
    """The smallest body that makes one."""
    return {
        "name": name,
        "git_repository": {"url": "https://example.org/team/shop.git"},
        "healthchecks": {},
    }


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Api]:
    """An installation in this folder; another one later finds the same data."""
    clock, world, database = SystemClock(), World(), sqlite_store(folder).open()
    platform = Platform(
        engine=SimulatedEngine(world, clock),
        router=SimulatedRouter(world, clock),
        builder=SimulatedBuilder(world, clock),
    )
    context = Context(
        settings=Settings(data_dir=folder, node_dir=folder / "node", admin_token=ADMIN),
        database=database,
        sealer=Sealer(b"k" * 32),
        clock=clock,
        entropy=os.urandom,
        platforms=dict.fromkeys(ClusterKind, platform),
    )
    await bootstrap(context)
    api = Api(context)
    api.organization = (await api.results("/organization"))[0]["id"]
    api.project = (await api.results(f"/organization/{api.organization}/project"))[0]["id"]
    known = await api.results(f"/project/{api.project}/environment")
    api.environment = known[0]["id"] if known else await api.make_environment("shop")
    yield api
    await database.close()
