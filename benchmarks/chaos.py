"""Real servers on one PostgreSQL, killed, frozen and restarted at random, under load.

Three servers share a node and a database. Six environments, each with a job that runs at every deployment
and an application under a client that never retries, are redeployed all the time through whichever server
answers. Meanwhile servers are killed with -9, frozen and thawed, or restarted in order; PostgreSQL crashes;
the edge is killed. Then everything goes well again, and the accounts are made up:

- lost: a request that was answered by 202 and is not in the history
- stuck: one that has not ended two minutes after the last fault
- doubled: a job that ran more often than its step was begun in the journal
- failed requests, apart from those in the moment after the edge itself was killed
- wrong: an application that does not serve its last configuration, or processes that nothing accounts for

Exits 1 unless all of them are 0.

    python benchmarks/chaos.py [--minutes N] [--seed N] [--write]
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from refloat.supervisor.processes import LocalSupervisor

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.databases import PostgresServer, binaries
from tests.e2e.installation import TOKEN, Installation, Repository

SERVERS, ENVIRONMENTS = 3, 6
CALM_SECONDS = 120.0
EDGE_SECONDS = 2.0
"""How long after the edge was killed a refused request counts as its doing."""
JOB = 'import os\nwith open(os.environ["LEDGER"], "a") as ledger:\n    ledger.write(".")\n'
RESULT = Path(__file__).parent / "chaos.json"


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


class Faults:
    """What goes wrong, one thing after the other."""

    def __init__(self, site: Site, dice: random.Random) -> None:
        self._site, self._dice = site, dice
        self.count: Counter[str] = Counter()
        self.edge_killed: list[float] = []

    def one(self) -> None:
        kinds: list[tuple[Callable[[], None], int]] = [
            (self._kill, 40),
            (self._freeze, 20),
            (self._restart, 15),
            (self._crash_database, 15),
            (self._kill_edge, 10),
        ]
        fault = self._dice.choices([f for f, _ in kinds], [w for _, w in kinds])[0]
        self.count[fault.__name__.strip("_").replace("_", " ")] += 1
        fault()

    def _kill(self) -> None:
        server = self._dice.choice(self._site.servers)
        server.kill()
        time.sleep(self._dice.uniform(0, 2))
        server.start()

    def _freeze(self) -> None:
        process = self._dice.choice(self._site.servers).process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        time.sleep(self._dice.uniform(0.5, 8))
        process.send_signal(signal.SIGCONT)

    def _restart(self) -> None:
        server = self._dice.choice(self._site.servers)
        assert server.process is not None
        server.process.terminate()
        server.process.wait(60)
        server.start()

    def _crash_database(self) -> None:
        self._site.postgres.crash()
        time.sleep(self._dice.uniform(0, 1))
        self._site.postgres.start()

    def _kill_edge(self) -> None:
        states = asyncio.run(LocalSupervisor(self._site.servers[0].node).states())
        edges = [s.pid for s in states if s.id.startswith("edge") and s.pid]
        self.edge_killed.append(time.monotonic())
        for pid in edges:
            os.kill(pid, signal.SIGKILL)


async def accounts(site: Site, environments: list[Environment]) -> dict[str, Any]:
    """What the database says of all deployments, beside what was asked and what was really done."""
    connection = await asyncpg.connect(site.url)
    deployments = await connection.fetch("SELECT id, phase, ended FROM deployment")
    begun = await connection.fetch("SELECT service_id, outcome FROM step WHERE name = 'execute'")
    again = await connection.fetchval("SELECT count(*) FROM step WHERE attempt > 1")
    await connection.close()
    known = {row["id"] for row in deployments}
    phases = Counter(row["phase"] for row in deployments)
    doubled = 0
    for it in environments:
        mine = [row for row in begun if row["service_id"] == it.job]
        ran = len(it.ledger.read_text())
        done = sum(row["outcome"] == "done" for row in mine)
        doubled += max(0, ran - len(mine)) + max(0, done - ran)
    return {
        "deployments": len(deployments),
        "ended": dict(sorted(phases.items())),
        "accepted": sum(len(it.accepted) for it in environments),
        "without_an_answer": sum(it.unanswered for it in environments),
        "jobs_run": sum(len(it.ledger.read_text()) for it in environments),
        "steps_begun_again": again,
        "lost": sum(id not in known for it in environments for id in it.accepted),
        "stuck": sum(not row["ended"] for row in deployments),
        "doubled": doubled,
    }


def wrong(site: Site, environments: list[Environment]) -> int:
    """After a last redeploy of everything: who does not serve what is configured, and what is left over."""
    bad = 0
    for it in environments:
        site.ask("POST", f"/environment/{it.id}/redeploy")
    for it in environments:
        while not ended(site, it):
            time.sleep(0.1)
        state = site.ask("GET", f"/environment/{it.id}/status")["state"]
        port = site.servers[0].http_port
        answer = httpx.get(f"http://127.0.0.1:{port}/", headers={"Host": it.host}, timeout=10)
        bad += state != "DEPLOYED" or answer.text != str(it.round)
    time.sleep(10)  # old revisions drain, what is left over is ended
    states = asyncio.run(LocalSupervisor(site.servers[0].node).states())
    live = [s.id for s in states if s.status in ("running", "starting") and s.id.startswith("app.")]
    return bad + abs(len(live) - len(environments))


def measure(folder: Path, minutes: float, seed: int) -> dict[str, Any]:
    programs = binaries()
    if programs is None:
        raise SystemExit("PostgreSQL is missing: apt-get install postgresql")
    postgres = PostgresServer(programs)
    postgres.start()
    dice = random.Random(seed)
    site = Site(folder, postgres, random.Random(seed + 1))
    try:
        site.start()
        environments = [make_environment(site, n) for n in range(ENVIRONMENTS)]
        clients = [Client(site.servers[0].http_port, it.host) for it in environments]
        deployers = [Deployer(site, environments[n::3], seed + n) for n in range(3)]
        faults = Faults(site, dice)
        for thread in (*clients, *deployers):
            thread.start()
        until = time.monotonic() + minutes * 60
        while time.monotonic() < until:
            time.sleep(dice.uniform(1, 6))
            faults.one()
        for deployer in deployers:
            deployer.over.set()
            deployer.join(90)
        calm = time.monotonic() + CALM_SECONDS
        while time.monotonic() < calm and not all(ended(site, it) for it in environments):
            time.sleep(0.5)
        found = asyncio.run(accounts(site, environments))
        found["wrong"] = wrong(site, environments)
        for client in clients:
            client.over.set()
            client.join()
        errors = [repr(d.error) for d in deployers if d.error]
        return {**found, **requests(clients, faults), "faults": dict(faults.count), "errors": errors}
    finally:
        asyncio.run(site.remove())
        postgres.remove()


def requests(clients: list[Client], faults: Faults) -> dict[str, Any]:
    failures = [failure for client in clients for failure in client.failures]
    of_edge = [f for f in failures if any(0 <= f[0] - at + 0.5 <= EDGE_SECONDS for at in faults.edge_killed)]
    failed = [words for at, words in failures if (at, words) not in of_edge]
    for words in failed[:10]:
        print("failed:", words)
    return {
        "requests": sum(client.sent for client in clients),
        "failed_while_the_edge_was_dead": len(of_edge),
        "failed": len(failed),
    }


def commit() -> str:
    words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def main() -> int:
    words = argparse.ArgumentParser()
    words.add_argument("--minutes", type=float, default=10)
    words.add_argument("--seed", type=int, default=int(time.time()))
    words.add_argument("--write", action="store_true", help=f"keep the result in {RESULT.name}")
    given = words.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="refloat-chaos-"))
    folder.chmod(0o755)
    try:
        found = measure(folder, given.minutes, given.seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found = {"commit": commit(), "seed": given.seed, "minutes": given.minutes, **found}
    print(json.dumps(found, indent=2))
    if given.write:
        RESULT.write_text(json.dumps(found, indent=2) + "\n")
    green = not any(found[name] for name in ("lost", "stuck", "doubled", "failed", "wrong", "errors"))
    print("green" if green else "RED")
    return 0 if green else 1


if __name__ == "__main__":
    sys.exit(main())
