"""A deployed service whose servers are killed at places of their choice: on either store, on either engine.

On PostgreSQL each server that dies is followed by another replica of the node, on SQLite by itself.
"""

import contextlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

from tests.databases import PostgresServer
from tests.e2e.installation import APP, Installation, Repository, eventually
from tests.e2e.replicas import Pair

REPLACE = ("build", "execute", "prepare", "ready", "switch", "verify", "drain", "stop")
UNDO = ("revert", "discard")
REMOVE = ("withdraw", "drain", "stop", "destroy")
STEPS = ("precheck", *REPLACE, *UNDO, "withdraw", "destroy")
ENGINES = ("local", "simulated")
_BREAKS = 'if os.environ["GREETING"] == "broken":\n    raise SystemExit(3)\nprint("app starts", flush=True)'
FILES = {
    "app.py": APP.replace('print("app starts", flush=True)', _BREAKS),
    "Procfile": "web: python app.py\nrelease: true\n",
}
_SIMULATED = "release=ok&build_seconds=0.1&release_seconds=0.1&boot_seconds=0.1&stop_seconds=0.1"


def followers(step: str) -> set[str]:
    """Steps that were written down as begun together with the end of this one."""
    orders = (("precheck", *REPLACE), UNDO, REMOVE)
    return {after for order in orders for before, after in pairwise(order) if before == step}


class Stand:
    """One environment with one application, and the server that works now."""

    def __init__(self, folder: Path, postgres: PostgresServer | None, engine: str) -> None:
        self._folder, self._engine = folder, engine
        if postgres:
            pair = Pair(folder, postgres.database(migrated=False))
            self._replicas = [pair.leader, pair.other]
        else:
            self._replicas = [Installation(folder)]
        self.environment = self.application = ""
        self._host = ""
        self._variables: dict[str, str] = {}

    @property
    def server(self) -> Installation:
        """The one that was started last."""
        return self._replicas[0]

    def start(self, place: str = "") -> None:
        """The next server, which dies at this place."""
        self._replicas.append(self._replicas.pop(0))
        self.server.start(REFLOAT_CRASH_AT=place)

    def start_and_die(self, place: str) -> None:
        """The next server goes on with what is under way, and dies at this place of it."""
        self._replicas.append(self._replicas.pop(0))
        self.server.process = self.server.spawn(REFLOAT_CRASH_AT=place)
        self.dies()

    def dies(self) -> None:
        assert self.server.process is not None
        assert self.server.process.wait(60) == -9, self.server.log.read_text()

    async def remove(self) -> None:
        for replica in self._replicas:
            await replica.remove()

    # -- what is deployed

    def make(self) -> None:
        """The environment and its application, not deployed yet."""
        simulated = self._engine == "simulated"
        self.environment = self._on_simulated_cluster() if simulated else self.server.environment()
        url = (
            "https://example.org/api.git" if simulated else Repository(self._folder / "git", dict(FILES)).url
        )
        self.application = self.server.application(self.environment, "api", url)
        script = ("REFLOAT_SIMULATE", _SIMULATED) if simulated else ("UNUSED", "1")
        for key, value in (("GREETING", "morning"), script):
            self._variables[key] = self.server.variable(self.application, "APPLICATION", key, value)

    def _on_simulated_cluster(self) -> str:
        organization = self.server.call("GET", "/organization")["results"][0]["id"]
        project = self.server.call("GET", f"/organization/{organization}/project")["results"][0]["id"]
        body = {"name": "rehearsal", "refloat_kind": "simulated"}
        cluster = self.server.call("POST", f"/organization/{organization}/cluster", body)["id"]
        made = {"name": "shop", "cluster": cluster}
        return str(self.server.call("POST", f"/project/{project}/environment", made)["id"])

    def change(self, greeting: str) -> None:
        """Another greeting is configured; "broken" is one with which nothing starts."""
        if self._engine == "simulated":
            script = _SIMULATED + ("&boot=exit" if greeting == "broken" else "")
            self.server.edit_variable(self._variables["REFLOAT_SIMULATE"], "REFLOAT_SIMULATE", script)
        self.server.edit_variable(self._variables["GREETING"], "GREETING", greeting)

    def ask(self, verb: str) -> None:
        """A server that is to die in the first step may not come to answer. What it accepted goes on."""
        with contextlib.suppress(httpx.TransportError):
            self.server.call("POST", f"/environment/{self.environment}/{verb}", expect=202)

    # -- what is seen of it

    def check_ended(self, state: str, *killed: str) -> None:
        """It ends so, with every step done once; one in which a server was killed may have been begun again.
        Of an undone deployment the steps that failed have failed."""
        assert self.server.ended(self.environment)["state"] == state, self.server.log_text(self.environment)
        for step in self.server.journal(self.environment):
            undone = state == "DEPLOYMENT_ERROR" and step["step"] in ("ready", "verify")
            assert step["outcome"] in (("done", "failed") if undone else ("done",)), step
            assert step["attempt"] == 1 or (step["step"] in killed and step["attempt"] == 2), step

    def check_serves(self, *greetings: str) -> None:
        """One of these, through its public route, whether a server is there or not; "" is none of them.
        What a simulated cluster runs is gone with its server, and nobody can ask for it."""
        if self._engine == "local":
            if not self._host:
                link = self.server.call("GET", f"/application/{self.application}/link")["results"][0]["url"]
                self._host = link.removeprefix("http://")
            assert self._asked() in greetings

    def _asked(self) -> str:
        url, headers = f"http://127.0.0.1:{self.server.http_port}/", {"Host": self._host}
        answer = httpx.get(url, headers=headers, timeout=10)
        return answer.text if answer.status_code == 200 else ""

    def check_one_runs(self, count: int = 1) -> None:
        """So many instances run in the end, and no more."""
        if self._engine == "local":
            eventually(lambda: len(self._running()) == count)

    def _running(self) -> list[Any]:
        states = (self.server.node / "run").glob("app.*/state.json")
        return [it for it in states if '"status": "running"' in it.read_text()]
