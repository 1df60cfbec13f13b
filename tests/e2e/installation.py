"""A real installation for a test: its own data directory, server process, edge and applications."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from refloat.supervisor.processes import LocalSupervisor
from tests.databases import free_port

TOKEN = "rf_test_token"
PATIENCE = 60.0

APP = """
import os, signal, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = os.environ.get("GREETING", "hello").encode()
        self.send_response(int(os.environ.get("STATUS", "200")))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass

print("app starts", flush=True)
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def eventually(what: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """The first true answer; fails when there is none in time."""
    deadline = time.monotonic() + patience
    while True:
        if answer := what():
            return answer
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.03)


class Installation:
    """Starts, kills and removes a server; speaks to its API."""

    command: tuple[str, ...] = (str(Path(sys.executable).parent / "refloat"), "serve")

    def __init__(self, folder: Path, **settings: str) -> None:
        folder.chmod(0o755)
        self.data = folder / "data"
        self.node = self.data / "node"
        self.port, self.http_port = free_port(), free_port()
        self.settings = settings
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / "server.log"
        self.api = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"Authorization": f"Token {TOKEN}"},
            timeout=30,
        )

    def environ(self, **more: str) -> dict[str, str]:
        own = {
            "REFLOAT_DATA_DIR": str(self.data),
            "REFLOAT_PORT": str(self.port),
            "REFLOAT_HTTP_PORT": str(self.http_port),
            "REFLOAT_ADMIN_TOKEN": TOKEN,
            "REFLOAT_DRAIN_SECONDS": "5",
        }
        kept = {k: v for k, v in os.environ.items() if not k.startswith("REFLOAT_")}
        return {**kept, **own, **self.settings, **more}

    def spawn(self, **more: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.command,
                env=self.environ(**more),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start(self, **more: str) -> None:
        self.process = self.spawn(**more)
        eventually(self._answers)

    def _answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, self.log.read_text()
        try:
            return self.api.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    async def remove(self) -> None:
        """End the server, then everything it left running, by what was recorded of it."""
        self.api.close()
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait()
        supervisor = LocalSupervisor(self.node)
        for state in await supervisor.states():
            await supervisor.stop(state.id, 0.5)

    # -- the API

    def call(self, method: str, path: str, body: Any = None, expect: int | None = None) -> Any:
        answer = self.api.request(method, path, json=body)
        if expect is None:
            assert answer.status_code < 400, answer.text
        else:
            assert answer.status_code == expect, answer.text
        return answer.json() if answer.content else None

    def environment(self, name: str = "shop") -> str:
        organization = self.call("GET", "/organization")["results"][0]["id"]
        project = self.call("GET", f"/organization/{organization}/project")["results"][0]["id"]
        return str(self.call("POST", f"/project/{project}/environment", {"name": name})["id"])

    def application(self, environment: str, name: str, url: str, **more: Any) -> str:
        body = {
            "name": name,
            "git_repository": {"url": url},
            "ports": [{"internal_port": 8000, "publicly_accessible": True}],
            "healthchecks": {},
            **more,
        }
        return str(self.call("POST", f"/environment/{environment}/application", body)["id"])

    def variable(self, parent: str, scope: str, key: str, value: str, secret: bool = False) -> str:
        body = {
            "key": key,
            "value": value,
            "is_secret": secret,
            "variable_scope": scope,
            "variable_parent_id": parent,
        }
        return str(self.call("POST", "/variable", body)["id"])

    def edit_variable(self, variable: str, key: str, value: str) -> None:
        self.call("PUT", f"/variable/{variable}", {"key": key, "value": value})

    def status(self, environment: str) -> dict[str, Any]:
        return dict(self.call("GET", f"/environment/{environment}/status"))

    def ended(self, environment: str) -> dict[str, Any]:
        """The status once nothing is under way any more."""

        def look() -> dict[str, Any] | None:
            status = self.status(environment)
            state = status["last_deployment_state"]
            over = state in ("DEPLOYED", "STOPPED", "RESTARTED", "CANCELED", "DELETED", "READY")
            return status if over or state.endswith("ERROR") else None

        return dict(eventually(look))

    def roll(self, environment: str, verb: str = "redeploy") -> dict[str, Any]:
        self.call("POST", f"/environment/{environment}/{verb}", expect=202)
        return self.ended(environment)

    def last(self, environment: str) -> dict[str, Any]:
        """The newest entry of history."""
        return dict(self.call("GET", f"/environment/{environment}/deploymentHistoryV2")["results"][0])

    def journal(self, environment: str) -> list[dict[str, Any]]:
        return list(self.call("GET", f"/refloat/environment/{environment}/journal")["results"])

    def get(self, application: str, path: str = "/") -> httpx.Response:
        """One request as the public makes it."""
        link = self.call("GET", f"/application/{application}/link")["results"][0]
        host = link["url"].removeprefix("http://")
        return httpx.get(f"http://127.0.0.1:{self.http_port}{path}", headers={"Host": host}, timeout=10)

    def log_text(self, environment: str) -> str:
        lines = self.call("GET", f"/environment/{environment}/logs")
        return "\n".join(line["message"]["safe_message"] for line in lines)


class Repository:
    """A git repository that a test writes to."""

    def __init__(self, folder: Path, files: dict[str, str] | None = None) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self._git("init", "-q", "-b", "main")
        self.commit(files or {"app.py": APP, "Procfile": "web: python app.py\n"})

    @property
    def url(self) -> str:
        return self.folder.as_uri()

    def commit(self, files: dict[str, str]) -> str:
        for name, text in files.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text)
        self._git("add", "-A")
        self._git("-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "change")
        return self._git("rev-parse", "HEAD").strip()

    def branch(self, name: str, files: dict[str, str]) -> str:
        """A commit on a new branch; the former one is the current one again."""
        self._git("checkout", "-q", "-b", name)
        commit = self.commit(files)
        self._git("checkout", "-q", "-")
        return commit

    def _git(self, *words: str) -> str:
        done = subprocess.run(["git", *words], cwd=self.folder, check=True, capture_output=True, text=True)
        return done.stdout
