"""What `chaos.py` breaks: servers that share a node, their environments, and the people who use them."""

import contextlib
import http.client
import random
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tests.databases import PostgresServer
from tests.e2e.installation import TOKEN, Installation, Repository

SERVERS = 3
JOB = 'import os\nwith open(os.environ["LEDGER"], "a") as ledger:\n    ledger.write(".")\n'
"""What each deployment runs once, and how that is counted."""


class Site:
    """Servers that share a node; asked at random, as a load balancer would."""

    def __init__(self, folder: Path, postgres: PostgresServer, dice: random.Random) -> None:
        self.folder, self.postgres, self.dice = folder, postgres, dice
        self.url = postgres.database(migrated=False)
        first = self._server("0")
        shared = {
            "REFLOAT_NODE_DIR": str(first.node),
            "REFLOAT_HTTP_PORT": str(first.http_port),
            "REFLOAT_SECRET_KEY_FILE": str(first.data / "secret.key"),
        }
        self.servers = [first, *(self._server(str(n), **shared) for n in range(1, SERVERS))]
        for server in self.servers[1:]:
            server.node, server.http_port = first.node, first.http_port

    def _server(self, name: str, **settings: str) -> Installation:
        (self.folder / name).mkdir()
        own = {"REFLOAT_DATABASE_URL": self.url, "REFLOAT_DRAIN_SECONDS": "3", **settings}
        return Installation(self.folder / name, **own)

    def start(self) -> None:
        for server in self.servers:
            server.start()

    def ask(self, method: str, path: str, body: Any = None, *, patience: float = 60.0) -> Any:
        """Whatever server answers; asked again until one does."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if (answer := self.try_once(method, path, body)) is not None:
                return answer
            time.sleep(0.2)
        raise TimeoutError(f"{method} {path} was not answered")

    def try_once(self, method: str, path: str, body: Any = None) -> Any:
        """None when the server asked is dead, frozen, or without its database."""
        server = self.dice.choice(self.servers)
        try:
            answer = httpx.request(
                method,
                f"http://127.0.0.1:{server.port}{path}",
                json=body,
                headers={"Authorization": f"Token {TOKEN}"},
                timeout=5,
            )
        except httpx.TransportError:
            return None
        if answer.status_code >= 500:
            return None
        if answer.status_code >= 400:
            raise AssertionError(f"{method} {path}: {answer.text}")
        return answer.json() if answer.content else {}

    async def remove(self) -> None:
        for server in self.servers:
            if server.process and server.process.poll() is None:
                server.process.send_signal(signal.SIGCONT)
        for server in reversed(self.servers):
            await server.remove()


@dataclass
class Environment:
    """One environment, and what was asked of it."""

    id: str
    job: str
    variable: str
    host: str
    ledger: Path
    round: int = 0
    accepted: list[str] = field(default_factory=list)
    unanswered: int = 0


def make_environment(site: Site, number: int) -> Environment:
    server = site.servers[0]
    folder = site.folder / f"git{number}"
    ledger = site.folder / f"ledger{number}"
    ledger.touch()
    ledger.chmod(0o666)
    made = server.environment(f"e{number}")
    job = Repository(folder / "job", {"job.py": JOB, "Procfile": "web: python job.py\n"})
    body = {
        "name": "count",
        "source": {"docker": {"git_repository": {"url": job.url}}},
        "schedule": {"on_start": {"arguments": ["python", "job.py"]}},
        "healthchecks": {},
    }
    job_id = server.call("POST", f"/environment/{made}/job", body)["id"]
    server.variable(job_id, "JOB", "LEDGER", str(ledger))
    application = server.application(made, "api", Repository(folder / "api").url)
    variable = server.variable(application, "APPLICATION", "GREETING", "0")
    assert server.roll(made)["state"] == "DEPLOYED", server.log_text(made)
    link = server.call("GET", f"/application/{application}/link")["results"][0]["url"]
    return Environment(made, job_id, variable, link.removeprefix("http://"), ledger)


class Client(threading.Thread):
    """Requests of the public, one after the other on a kept connection, never sent again."""

    def __init__(self, port: int, host: str) -> None:
        super().__init__(daemon=True)
        self._port, self._host = port, host
        self.over = threading.Event()
        self.sent = 0
        self.failures: list[tuple[float, str]] = []

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        while not self.over.wait(0.05):
            self.sent += 1
            began = time.monotonic()
            try:
                connection.request("GET", "/", headers={"Host": self._host})
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    self.failures.append((began, str(answer.status)))
            except (OSError, http.client.HTTPException) as error:
                self.failures.append((began, repr(error)))
                connection.close()
        connection.close()


class Deployer(threading.Thread):
    """Redeploys its environments over and over, at times twice in a row, at times cancelling."""

    def __init__(self, site: Site, environments: list[Environment], seed: int) -> None:
        super().__init__(daemon=True)
        self._site, self._environments = site, environments
        self._dice = random.Random(seed)
        self.over = threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            while not self.over.is_set():
                it = self._dice.choice(self._environments)
                for _ in range(self._dice.choice((1, 1, 2))):
                    self._ask(it)
                if self._dice.random() < 0.1:
                    time.sleep(self._dice.random())
                    self._cancel(it)
                self._wait(it)
        except Exception as error:
            self.error = error

    def _ask(self, it: Environment) -> None:
        it.round += 1
        body = {"key": "GREETING", "value": str(it.round)}
        self._site.ask("PUT", f"/variable/{it.variable}", body)
        answer = self._site.try_once("POST", f"/environment/{it.id}/redeploy")
        if answer is None:
            it.unanswered += 1  # it may have been accepted, or not
        else:
            it.accepted.append(answer["deployment_request_id"])

    def _cancel(self, it: Environment) -> None:
        with contextlib.suppress(AssertionError):  # it has ended
            self._site.ask("POST", f"/environment/{it.id}/cancelDeployment", {})

    def _wait(self, it: Environment) -> None:
        while not self.over.is_set() and not ended(self._site, it):
            time.sleep(0.2)


def ended(site: Site, it: Environment) -> bool:
    state = site.ask("GET", f"/environment/{it.id}/status")["last_deployment_state"]
    return state.endswith("ERROR") or state in ("DEPLOYED", "CANCELED", "READY")
