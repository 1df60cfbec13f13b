"""Credentials in the URL of a git source appear in nothing that a deployment leaves."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.e2e.installation import Installation

_USER, _PASSWORD = "deployer", "hunter2-hunter2"


class Refusing(BaseHTTPRequestHandler):
    """A git host that knows nobody."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="git"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def git_host() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("port", ["of a host that refuses them", "1"])
def test_credentials_of_a_source_that_cannot_be_read_are_in_no_log(
    port: str, git_host: str, cleared: Installation
) -> None:
    host = git_host if " " in port else f"127.0.0.1:{port}"
    environment = cleared.environment()
    url = f"http://{_USER}:{_PASSWORD}@{host}/team/app.git"
    application = cleared.application(environment, "api", url)
    assert cleared.roll(environment)["state"] == "BUILD_ERROR"
    reason = cleared.last(environment)["stages"][0]["services"][0]["reason"]
    assert f"{host}/team/app.git" in reason, "it says which address"
    told = [
        cleared.call("GET", path)
        for path in (
            f"/environment/{environment}/logs",
            f"/environment/{environment}/deploymentHistoryV2",
            f"/environment/{environment}/deploymentHistory",
            f"/refloat/environment/{environment}/journal",
            f"/refloat/environment/{environment}/plan",
            f"/environment/{environment}/statusesWithStages",
            f"/application/{application}",
        )
    ]
    assert told[0], "there is a log"
    for text in (json.dumps(told), cleared.log.read_text()):
        assert _PASSWORD not in text and _USER not in text
