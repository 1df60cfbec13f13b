"""An installation with a domain: the published call with another host, links, redirects, certificates."""

import asyncio
import json
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.routers_support import ROOTS, Load
from tests.e2e.installation import APP, TOKEN, Installation, Repository, eventually, free_port
from tests.programs import needs

DOMAIN = "shop.localhost"
POSTING = """    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()
    def log_message"""


class Secure(Installation):
    """One that serves HTTPS under a domain of this machine, by certificates of its own."""

    def __init__(self, folder: Path, **more: str) -> None:
        self.https_port = free_port()
        settings = {"REFLOAT_DOMAIN": DOMAIN, "REFLOAT_TLS": "internal"}
        super().__init__(folder, REFLOAT_HTTPS_PORT=str(self.https_port), **settings, **more)
        self.root = self.node / "edge" / "storage" / "pki" / "authorities" / "local" / "root.crt"
        ROOTS[self.https_port] = self.root

    def curl(self, url: str, *options: str, port: int = 0) -> str:
        """What curl prints, given the root, and told that the host is this machine."""
        host = url.split("/")[2].partition(":")[0]
        resolved = f"{host}:{port or self.https_port}:127.0.0.1"
        done = subprocess.run(
            ["curl", "--silent", "--show-error", "--cacert", self.root, "--resolve", resolved, *options, url],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def published(self, method: str, path: str) -> Any:
        """The call as it is published, with the host changed."""
        url = f"https://api.{DOMAIN}:{self.https_port}{path}"
        said = self.curl(url, "--request", method, "--header", f"Authorization: Token {TOKEN}")
        return json.loads(said)


@pytest.fixture
async def secure(folder: Path) -> AsyncIterator[Secure]:
    made = Secure(folder)
    made.start()
    yield made
    await made.remove()


@needs("curl")
async def test_the_published_curl_redeploys_under_https_load_and_no_request_is_lost(
    secure: Secure, folder: Path
) -> None:
    repository = Repository(folder / "git", {"app.py": APP.replace("    def log_message", POSTING)})
    repository.commit({"Procfile": "web: python app.py\n"})
    environment = secure.environment()
    application = secure.application(environment, "web", repository.url)
    greeting = secure.variable(application, "APPLICATION", "GREETING", "morning")
    assert (await asyncio.to_thread(secure.roll, environment))["state"] == "DEPLOYED"
    [link] = secure.call("GET", f"/application/{application}/link")["results"]
    assert link["url"].startswith("https://web-") and link["external_port"] == secure.https_port
    host = link["url"].removeprefix("https://").partition(":")[0]
    secure.edit_variable(greeting, "GREETING", "evening")
    async with Load(secure.https_port, host, 4) as load:
        path = f"/environment/{environment}/redeploy"
        accepted = await asyncio.to_thread(secure.published, "POST", path)
        assert (accepted["id"], accepted["state"]) == (environment, "DEPLOYMENT_QUEUED")
        assert (await asyncio.to_thread(secure.ended, environment))["state"] == "DEPLOYED"
    assert load.lost == {}
    assert await asyncio.to_thread(secure.curl, link["url"]) == "evening"
    swap = secure.last(environment)["stages"][0]["services"][0]["swap"]
    assert swap["served"] > 0 and swap["failed"] == 0


@needs("curl")
def test_every_address_says_https_and_plain_http_leads_there(secure: Secure, folder: Path) -> None:
    repository = Repository(folder / "git")
    environment = secure.environment()
    application = secure.application(environment, "web", repository.url)
    assert secure.roll(environment)["state"] == "DEPLOYED"
    [link] = secure.call("GET", f"/environment/{environment}/link")["results"]
    plain = link["url"].replace("https://", "http://").replace(str(secure.https_port), str(secure.http_port))
    head = secure.curl(f"{plain}/cart?id=1", "--head", port=secure.http_port)
    assert " 308 " in head.splitlines()[0] and f"Location: {link['url']}/cart?id=1" in head
    variables = secure.call("GET", f"/application/{application}/environmentVariable")["results"]
    external = [v["value"] for v in variables if v["key"].endswith("_HOST_EXTERNAL")]
    assert external == [link["url"].removeprefix("https://")]
    assert secure.published("GET", "/organization") == secure.call("GET", "/organization")
    bare = secure.curl(f"https://{DOMAIN}:{secure.https_port}/healthz")
    assert json.loads(bare)["status"] == "ok"
    assert "own address only" in secure.curl(f"https://{DOMAIN}:{secure.https_port}/metrics")
    counted = 'refloat_deployments_ended_total{action="redeploy",outcome="done"} 1.0'
    eventually(lambda: counted in secure.api.get("/metrics").text)
    assert secure.api.get("/readyz").json()["status"] == "ready"


async def test_certificates_are_made_while_the_server_is_down(secure: Secure) -> None:
    secure.kill()

    def shown(host: str) -> str:
        trusting = ssl.create_default_context(cafile=secure.root)
        with (
            socket.create_connection(("127.0.0.1", secure.https_port)) as plain,
            trusting.wrap_socket(plain, server_hostname=host) as connection,
        ):
            return str(connection.getpeercert()["subjectAltName"])

    assert DOMAIN in await asyncio.to_thread(shown, DOMAIN)
    with pytest.raises(ssl.SSLError):
        await asyncio.to_thread(shown, f"nobody.{DOMAIN}")


def test_a_certificate_file_that_is_no_use_ends_the_start_with_its_setting(folder: Path) -> None:
    nowhere = str(folder / "nowhere.pem")
    made = Secure(folder, REFLOAT_TLS_CERT=nowhere, REFLOAT_TLS_KEY=nowhere)
    assert made.spawn().wait(60) == 1
    said = made.log.read_text()
    assert f"REFLOAT_TLS_CERT: {nowhere} cannot be read: No such file or directory" in said
    assert "Traceback" not in said


async def test_an_api_that_listens_beyond_loopback_without_tls_warns_in_one_line(folder: Path) -> None:
    made = Installation(folder, REFLOAT_HOST="127.0.0.2", REFLOAT_ALLOW_UNISOLATED="true")
    try:
        made.process = made.spawn()
        eventually(lambda: "refloat serves" in made.log.read_text())
        warnings = [line for line in made.log.read_text().splitlines() if "warning" in line]
        assert len(warnings) == 1 and "REFLOAT_HOST is '127.0.0.2'" in warnings[0]
        assert "without TLS" in warnings[0]
    finally:
        await made.remove()
