"""Every replica is dead for a while, under load, and then they come back.

Behind the edge: an application that counts its visits in a Redis beside it, another whose process is killed
over and over, a third whose supervision is killed with it, and a job of every minute. What has to hold is
said in `Figures.complaints`; `test_static_stability.py` asks for a short outage, `make static` for an hour.
"""

import asyncio
import http.client
import json
import os
import signal
import threading
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from refloat.routers.caddy import CaddyRouter
from refloat.supervisor.processes import LocalSupervisor
from tests.databases import PostgresServer
from tests.e2e.installation import APP, Installation, Repository, eventually
from tests.e2e.replicas import Pair

COUNTER = (
    """
import socket
from urllib.parse import urlsplit

def visit():
    url, last = urlsplit(os.environ["CACHE"]), time.monotonic() + 15
    while time.monotonic() < last:
        try:
            with socket.create_connection((url.hostname, url.port), timeout=5) as cache:
                answers = cache.makefile("rb")
                cache.sendall(f"AUTH {url.password}\\r\\nINCR visits\\r\\n".encode())
                answers.readline()
                if (answer := answers.readline()).startswith(b":"):
                    return int(answer[1:])
        except OSError:
            pass
        time.sleep(0.05)
    raise TimeoutError("the cache does not answer")
"""
    + APP
).replace('os.environ.get("GREETING", "hello")', "f\"{os.environ.get('GREETING')} {visit()}\"")
TICK = (
    'import os, time\nwith open(os.environ["LEDGER"], "a") as ledger:\n    print(time.time(), file=ledger)\n'
)
KILL_SECONDS = (12.0, 60.0)
"""Between two deaths of one application, at least and at most: it counts as well after 10 s."""


@dataclass
class Figures:
    """What was counted."""

    outage_seconds: float
    requests: int
    failed: int
    edge_counted: int
    edge_failed: int
    visits_behind: int
    """How many answered visits the Redis does not know of."""
    killed: int
    started_again: int
    requests_to_the_killed: int
    failed_of_the_killed: int
    disturbed: int
    """Processes that nobody killed and that are not the same any more."""
    ticks_meanwhile: int
    ticks_caught_up: int
    repaired_at_return: bool
    redeploy: str
    requests_in_the_redeploy: int
    failed_in_the_redeploy: int

    def complaints(self) -> list[str]:
        """What did not hold; empty when all did."""
        held = {
            "a request of an application that nobody killed failed": self.failed == 0,
            "the edge counted otherwise than the client": self.edge_counted == self.requests,
            "the edge counted a failure": self.edge_failed == 0,
            "the database forgot a visit": self.visits_behind == 0,
            "what died was not started again": self.started_again == self.killed > 0,
            "more failed than was in flight at a death": self.failed_of_the_killed <= self.killed,
            "something that nobody killed was started again": self.disturbed == 0,
            "a job ran while no server was there": self.ticks_meanwhile == 0,
            "more than the newest instant was caught up with": self.ticks_caught_up <= 1,
            "the newest instant was not caught up with": self.outage_seconds < 61
            or self.ticks_caught_up == 1,
            "what had lost its supervision does not run again": self.repaired_at_return,
            "the redeploy did not succeed": self.redeploy == "DEPLOYED",
            "nothing was asked in the redeploy": self.requests_in_the_redeploy > 0,
            "a request failed in the redeploy": self.failed_in_the_redeploy == 0,
        }
        return [words for words, holds in held.items() if not holds]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Visitor(threading.Thread):
    """One client on a kept connection, at most ten requests a second, none sent again."""

    def __init__(self, port: int, host: str) -> None:
        super().__init__(daemon=True)
        self._port, self._host = port, host
        self.over = threading.Event()
        self.sent, self.failures, self.last = 0, list[str](), ""

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        while not self.over.wait(0.1):
            self.sent += 1
            try:
                connection.request("GET", "/", headers={"Host": self._host})
                answer = connection.getresponse()
                text = answer.read().decode()
                if answer.status == 200:
                    self.last = text
                else:
                    self.failures.append(f"{answer.status} {text[:100]}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
        connection.close()


class Shop:
    """The environment, and what is known of its processes."""

    def __init__(self, installation: Installation, folder: Path) -> None:
        self.installation, self.node = installation, installation.node
        self.environment = installation.environment()
        self.ledger = folder / "ledger"
        self.ledger.touch()
        self.ledger.chmod(0o666)
        body = {"name": "cache", "type": "REDIS", "version": "7", "mode": "CONTAINER"}
        self.cache = self._make("database", body)
        plain = Repository(folder / "plain").url
        counting = {"app.py": COUNTER, "Procfile": "web: python app.py\n"}
        self.calm = installation.application(
            self.environment, "calm", Repository(folder / "counting", counting).url
        )
        self.mortal = installation.application(self.environment, "mortal", plain)
        self.orphan = installation.application(self.environment, "orphan", plain)
        self.job = self._make("job", _every_minute(Repository(folder / "job", {"tick.py": TICK}).url))
        short = self.cache.replace("-", "")[-8:].upper()
        url = f"{{{{QOVERY_REDIS_Z{short}_DATABASE_URL}}}}"
        installation.variable(self.calm, "APPLICATION", "CACHE", url)
        installation.variable(self.job, "JOB", "LEDGER", str(self.ledger))
        self.greetings = [
            installation.variable(service, "APPLICATION", "GREETING", "morning")
            for service in (self.calm, self.mortal)
        ]
        assert installation.roll(self.environment)["state"] == "DEPLOYED", installation.log_text(
            self.environment
        )
        self.hosts = {it: self._host(it) for it in (self.calm, self.mortal, self.orphan)}

    def _make(self, kind: str, body: dict[str, Any]) -> str:
        return str(self.installation.call("POST", f"/environment/{self.environment}/{kind}", body)["id"])

    def _host(self, service: str) -> str:
        link = self.installation.call("GET", f"/application/{service}/link")["results"][0]["url"]
        return str(link).removeprefix("http://")

    def state(self, service: str) -> dict[str, Any]:
        """What the shim of its first revision says; read without any server."""
        return dict(json.loads((self.node / "run" / f"app.{service}.1.0" / "state.json").read_text()))

    def visitor(self, service: str) -> Visitor:
        return Visitor(self.installation.http_port, self.hosts[service])

    def kill(self, service: str, *, shim: bool = False) -> None:
        state = self.state(service)
        if shim:
            os.kill(state["shim"], signal.SIGKILL)
        os.kill(state["pid"], signal.SIGKILL)

    def ticks(self, since: float, until: float) -> int:
        return sum(since <= float(at) <= until for at in self.ledger.read_text().split())

    def router(self) -> CaddyRouter:
        return CaddyRouter(
            self.node,
            LocalSupervisor(self.node),
            http_port=self.installation.http_port,
            domain="localhost",
        )


def _every_minute(url: str) -> dict[str, Any]:
    return {
        "name": "tick",
        "source": {"docker": {"git_repository": {"url": url}}},
        "schedule": {"cronjob": {"scheduled_at": "* * * * *", "entrypoint": "python tick.py"}},
        "healthchecks": {},
    }


async def measure(folder: Path, postgres: PostgresServer, seconds: float) -> Figures:
    """Both servers dead for so many seconds; then both are back, and everything is rolled."""
    pair = Pair(folder, postgres.database(migrated=False), REFLOAT_HOLD_SECONDS="10")
    try:
        pair.start()
        return await _measure(pair, Shop(pair.leader, folder), seconds)
    finally:
        await pair.remove()


async def _measure(pair: Pair, shop: Shop, seconds: float) -> Figures:
    settled = {service: shop.state(service)["pid"] for service in (shop.calm,)}
    pair.leader.kill()
    pair.other.kill()
    down = time.time()
    router = shop.router()
    await router.start()
    mark = await router.mark(shop.calm)
    calm, mortal = shop.visitor(shop.calm), shop.visitor(shop.mortal)
    calm.start()
    mortal.start()
    shop.kill(shop.orphan, shim=True)
    killed = await asyncio.to_thread(_pass, shop, seconds)
    restarts = shop.state(shop.mortal)["restarts"]
    disturbed = sum(shop.state(service)["pid"] != pid for service, pid in settled.items())
    disturbed += shop.state(shop.cache)["restarts"] != 1
    failed = len(mortal.failures)
    up = time.time()
    pair.leader.start()
    pair.other.start()
    eventually(lambda: pair.leader.get(shop.orphan).status_code == 200)
    if up - down > 61:
        eventually(lambda: _caught_up(pair.leader, shop.job, down, up))
    asked = calm.sent + mortal.sent, len(calm.failures) + len(mortal.failures)
    for greeting in shop.greetings:
        pair.other.edit_variable(greeting, "GREETING", "evening")
    ended = pair.leader.roll(shop.environment)["state"]
    eventually(lambda: calm.last.startswith("evening") and mortal.last == "evening")
    for visitor in (calm, mortal):
        visitor.over.set()
        visitor.join()
    counts = await router.counts(shop.calm, mark)
    assert counts is not None
    return Figures(
        outage_seconds=round(up - down, 1),
        requests=calm.sent,
        failed=len(calm.failures),
        edge_counted=counts.served,
        edge_failed=counts.failed,
        visits_behind=max(0, calm.sent - len(calm.failures) - int(calm.last.split()[1])),
        killed=killed,
        started_again=restarts,
        requests_to_the_killed=mortal.sent,
        failed_of_the_killed=failed,
        disturbed=disturbed,
        ticks_meanwhile=shop.ticks(down + 5, up),
        ticks_caught_up=_caught_up(pair.leader, shop.job, down, up),
        repaired_at_return=_noticed(pair),
        redeploy=ended,
        requests_in_the_redeploy=calm.sent + mortal.sent - asked[0],
        failed_in_the_redeploy=len(calm.failures) + len(mortal.failures) - asked[1],
    )


def _pass(shop: Shop, seconds: float) -> int:
    """Let the time pass; how often an application was killed meanwhile. The Redis is killed once."""
    begin, deaths, cached = time.monotonic(), 0, False
    every = min(max(KILL_SECONDS[0], seconds / 60), KILL_SECONDS[1])
    while (passed := time.monotonic() - begin) < seconds:
        if passed >= 2 + deaths * every:
            shop.kill(shop.mortal)
            deaths += 1
            eventually(lambda wanted=deaths: shop.state(shop.mortal)["restarts"] == wanted)
            eventually(lambda: shop.state(shop.mortal)["status"] == "running")
        if not cached and passed >= seconds / 2:
            shop.kill(shop.cache)
            cached = True
        time.sleep(0.1)
    return deaths


def _caught_up(installation: Installation, job: str, down: float, up: float) -> int:
    """Runs that were begun after the return for an instant of the outage."""
    since, until = datetime.fromtimestamp(down, UTC), datetime.fromtimestamp(up, UTC)
    runs = installation.call("GET", f"/refloat/service/{job}/runs")["results"]
    found = [it for it in runs if since < datetime.fromisoformat(it["scheduled_at"]) <= until]
    return len([it for it in found if it["outcome"] != "missed"])


def _noticed(pair: Pair) -> bool:
    """Whether a server says that it started the orphan again."""
    words = "starting what should run and does not"
    return any(words in server.log.read_text() for server in (pair.leader, pair.other))
