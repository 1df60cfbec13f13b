"""DEPLOYED only when the new version answered through its route; else the reason, and the old one serves."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from refloat.supervisor.base import LIVE
from refloat.supervisor.processes import LocalSupervisor
from tests.e2e.installation import APP, Installation, Repository

_QUICK = {
    "readiness_probe": {
        "type": {"http": {"path": "/", "port": 8000}},
        "initial_delay_seconds": 0,
        "period_seconds": 1,
        "timeout_seconds": 1,
        "failure_threshold": 2,
    }
}
_SLEEPER = "import time\nprint('last words', flush=True)\ntime.sleep(600)\n"
_ELSEWHERE = APP.replace('int(os.environ["PORT"])', "0")
_EXITS = "print('last words', flush=True)\nraise SystemExit(3)\n"

CASES = {
    "it starts and never answers": ({"app.py": _SLEEPER}, "DEPLOYMENT_ERROR", "not ready"),
    "it answers on another port": ({"app.py": _ELSEWHERE}, "DEPLOYMENT_ERROR", "; it listens on 127.0.0.1:"),
    "it ends at once": ({"app.py": _EXITS}, "DEPLOYMENT_ERROR", "exit code 3"),
    "its command is not there": ({"Procfile": "web: no-such-command\n"}, "DEPLOYMENT_ERROR", "127"),
    "its build fails": ({"requirements.txt": "no-such-package-of-this-test==9\n"}, "BUILD_ERROR", ""),
    "there is nothing to run": ({"Procfile": "release: true\n"}, "BUILD_ERROR", "Procfile"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_version_that_does_not_serve_is_an_error_and_the_old_one_goes_on(
    case: str, installation: Installation, folder: Path
) -> None:
    files, state, words = CASES[case]
    repository = Repository(folder / "git")
    environment = installation.environment()
    application = installation.application(environment, "api", repository.url, healthchecks=_QUICK)
    assert installation.roll(environment)["state"] == "DEPLOYED"
    commit = repository.commit(files)
    body = {"applications": [{"application_id": application, "git_commit_id": commit}]}
    installation.call("POST", f"/environment/{environment}/service/deploy", body, expect=202)
    assert installation.ended(environment)["state"] == state
    service: dict[str, Any] = installation.last(environment)["stages"][0]["services"][0]
    assert words in service["reason"]
    assert service["serving"] == f"{application}.1"
    assert installation.get(application).text == "hello"
    assert installation.status(environment)["deployment_status"] == "OUT_OF_DATE"
    if "last words" in "".join(files.values()):
        assert "last words" in installation.log_text(environment)


def test_an_application_that_answers_only_errors_is_not_deployed(
    installation: Installation, folder: Path
) -> None:
    environment = installation.environment()
    application = installation.application(environment, "api", Repository(folder / "git").url)
    installation.variable(application, "APPLICATION", "STATUS", "500")
    assert installation.roll(environment)["state"] == "DEPLOYMENT_ERROR"
    assert "it answered 500" in installation.last(environment)["stages"][0]["services"][0]["reason"]
    assert "app starts" in installation.log_text(environment)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"url": "file:///no/such/repository"}, "/no/such/repository"),
        ({"url": "https://127.0.0.1:1/x.git"}, "127.0.0.1"),
        ({"branch": "no-such-branch"}, "no-such-branch"),
        ({"root_path": "/no/such/path"}, "no/such/path"),
    ],
)
def test_a_source_that_cannot_be_read_is_a_build_error_that_names_it(
    source: dict[str, str], words: str, installation: Installation, folder: Path
) -> None:
    url = source.pop("url", Repository(folder / "git").url)
    environment = installation.environment()
    installation.application(environment, "api", url, git_repository={"url": url, **source})
    assert installation.roll(environment)["state"] == "BUILD_ERROR"
    assert words in installation.last(environment)["stages"][0]["services"][0]["reason"]


class StrangerOnThePort:
    """Something that is not our edge answers on the public port, and passes on to one fixed endpoint."""

    def __init__(self, port: int, endpoint: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = httpx.get(f"http://{endpoint}{self.path}")
                self.send_response(answer.status_code)
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


async def test_a_version_that_the_public_route_does_not_lead_to_is_not_deployed(
    installation: Installation, folder: Path
) -> None:
    environment = installation.environment()
    application = installation.application(environment, "api", Repository(folder / "git").url)
    greeting = installation.variable(application, "APPLICATION", "GREETING", "old")
    installation.roll(environment)
    supervisor = LocalSupervisor(installation.node)
    for state in await supervisor.states("edge"):
        await supervisor.stop(state.id, 0)
    old = next(s for s in await supervisor.states(f"app.{application}.1"))
    stranger = StrangerOnThePort(installation.http_port, f"127.0.0.1:{old.labels['port']}")
    try:
        installation.edit_variable(greeting, "GREETING", "new")
        assert installation.roll(environment)["state"] == "DEPLOYMENT_ERROR"
        service = installation.last(environment)["stages"][0]["services"][0]
        assert "not verified through its public route" in service["reason"]
        assert service["serving"] == f"{application}.1"
        assert installation.get(application).text == "old"
        left = [s.id for s in await supervisor.states("app.") if s.status in LIVE]
        assert left == [old.id]
    finally:
        stranger.close()
