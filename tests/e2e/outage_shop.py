"""The environment that an outage of all servers is looked at with: each service is treated otherwise."""

import json
import os
import signal
from pathlib import Path
from typing import Any

from refloat.routers.caddy import CaddyRouter
from refloat.supervisor.processes import LocalSupervisor
from tests.e2e.installation import APP, Installation, Repository
from tests.e2e.visitors import Visitor

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
