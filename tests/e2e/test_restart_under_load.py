"""Restarting and upgrading the server, as `systemctl restart` does it, loses no request."""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import refloat
from refloat.routers.base import Counts
from refloat.routers.caddy import CaddyRouter
from refloat.supervisor.processes import LocalSupervisor
from tests.contract.routers_support import Load
from tests.e2e.installation import APP, Installation, Repository, eventually

CLIENTS = 2
_POST = """    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()
    def log_message"""
_STARTS = 'print("app starts", flush=True)'
_GATE = f"""{_STARTS}
while os.environ.get("GREETING") == "evening" and not os.path.exists(os.environ["GATE"]):
    time.sleep(0.02)
"""
FILES = {
    "app.py": APP.replace("    def log_message", _POST).replace(_STARTS, _GATE),
    "Procfile": "web: python app.py\n",
}


class Counted:
    """One deployed application under load, its requests counted by the clients and by the edge."""

    def __init__(self, installation: Installation, folder: Path) -> None:
        self.installation = installation
        self.environment = installation.environment()
        url = Repository(folder / "git", FILES).url
        self.application = installation.application(self.environment, "web", url)
        self.greeting = installation.variable(self.application, "APPLICATION", "GREETING", "morning")
        self.gate = folder / "gate"
        installation.variable(self.application, "APPLICATION", "GATE", str(self.gate))
        assert installation.roll(self.environment)["state"] == "DEPLOYED"
        link = installation.call("GET", f"/application/{self.application}/link")["results"][0]
        self.host = link["url"].removeprefix("http://").partition(":")[0]

    @asynccontextmanager
    async def loaded(self) -> AsyncIterator[Load]:
        """Load while the body runs; afterwards both counts must agree, and none may have failed."""
        router = CaddyRouter(
            self.installation.node,
            LocalSupervisor(self.installation.node),
            http_port=self.installation.http_port,
            domain="localhost",
        )
        await router.start()
        mark = await router.mark(self.application)
        async with Load(self.installation.http_port, self.host, CLIENTS) as load:
            await self.answered(load)
            yield load
            await self.answered(load)
        assert load.lost == {}
        assert await router.counts(self.application, mark) == Counts(served=load.total, failed=0)

    async def answered(self, load: Load) -> None:
        """Until a hundred more requests were answered."""
        wanted = load.total + 100
        async with asyncio.timeout(30):
            while load.total < wanted:  # noqa: ASYNC110 - a client only counts
                await asyncio.sleep(0.01)

    def redeploy_in_flight(self) -> None:
        """A changed variable is being rolled: the new revision waits for its gate to open."""
        self.installation.edit_variable(self.greeting, "GREETING", "evening")
        redeploy = f"/environment/{self.environment}/redeploy"
        asked = self.installation.call("POST", redeploy, expect=202)["deployment_request_id"]
        journal = f"/refloat/environment/{self.environment}/journal?version={asked}"
        eventually(
            lambda: "ready" in {it["step"] for it in self.installation.call("GET", journal)["results"]}
        )

    def finish(self) -> None:
        """The new revision may start."""
        self.gate.touch()
        assert self.installation.ended(self.environment)["state"] == "DEPLOYED"


def restart(installation: Installation, **settings: str) -> None:
    """What systemd does with KillMode=process: TERM to the server alone, and start it when it has ended."""
    assert installation.process is not None
    installation.process.terminate()
    assert installation.process.wait(30) == 0
    installation.start(**settings)


async def test_restarts_of_the_server_lose_no_request_with_or_without_a_deployment_in_flight(
    breakable: Installation, folder: Path
) -> None:
    counted = await asyncio.to_thread(Counted, breakable, folder)
    async with counted.loaded() as load:
        assert breakable.process is not None
        breakable.process.terminate()
        assert await asyncio.to_thread(breakable.process.wait, 30) == 0
        await counted.answered(load)
        await asyncio.to_thread(breakable.start)
        assert breakable.status(counted.environment)["state"] == "DEPLOYED"
        await asyncio.to_thread(counted.redeploy_in_flight)
        await asyncio.to_thread(restart, breakable)
        await asyncio.to_thread(counted.finish)
    assert breakable.get(counted.application).text == "evening"
    attempts = {it["step"]: it["attempt"] for it in breakable.journal(counted.environment)}
    assert attempts["ready"] == 2 and attempts["prepare"] == attempts["switch"] == 1


def test_who_follows_an_environment_is_let_go_when_the_server_ends_and_its_log_complains_of_nothing(
    breakable: Installation,
) -> None:
    path = f"/refloat/environment/{breakable.environment()}/events"
    with breakable.api.stream("GET", path) as following:
        assert following.status_code == 200 and breakable.process is not None
        breakable.process.terminate()
        assert following.read() == b""
    assert breakable.process.wait(30) == 0
    assert "Traceback" not in breakable.log.read_text()


async def test_an_upgrade_of_the_server_in_a_deployment_loses_no_request(
    breakable: Installation, folder: Path
) -> None:
    """The newer one has another shim and configures the edge otherwise: a second edge takes over."""
    counted = await asyncio.to_thread(Counted, breakable, folder)
    newer = newer_release(folder / "newer")
    async with counted.loaded():
        await asyncio.to_thread(counted.redeploy_in_flight)
        breakable.command = (sys.executable, "-P", "-m", "refloat", "serve")
        settings = {"PYTHONPATH": str(newer), "REFLOAT_HOLD_SECONDS": "3"}
        await asyncio.to_thread(restart, breakable, **settings)
        await asyncio.to_thread(counted.finish)
    assert breakable.get(counted.application).text == "evening"
    assert breakable.api.get("/healthz").json()["version"] == "99.0.0"
    state = await LocalSupervisor(breakable.node).state("edge-b")
    assert state is not None and state.pid, "the edge was replaced"


def newer_release(folder: Path) -> Path:
    """This code under another version and with another shim; the folder to put on the path."""
    package = folder / "refloat"
    shutil.copytree(Path(refloat.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "__init__.py").write_text('"""A newer one."""\n\n__version__ = "99.0.0"\n')
    with (package / "supervisor/shim.py").open("a") as shim:
        shim.write("# of a newer release\n")
    return folder


def test_a_job_in_flight_goes_on_while_the_server_is_restarted_and_runs_once(
    breakable: Installation, folder: Path
) -> None:
    marks = folder / "marks"
    marks.mkdir()
    marks.chmod(0o777)
    script = f"cd {marks}; echo begun >>log; while [ ! -e gate ]; do sleep 0.02; done; echo ended >>log\n"
    environment = breakable.environment()
    body = {
        "name": "migrate",
        "source": {"docker": {"git_repository": {"url": Repository(folder / "git", {"job.sh": script}).url}}},
        "schedule": {"on_start": {"entrypoint": "sh job.sh"}},
        "healthchecks": {},
    }
    breakable.call("POST", f"/environment/{environment}/job", body, expect=201)
    breakable.call("POST", f"/environment/{environment}/redeploy", expect=202)
    log = marks / "log"
    eventually(log.exists)
    restart(breakable)
    (marks / "gate").touch()
    assert breakable.ended(environment)["state"] == "DEPLOYED"
    assert log.read_text() == "begun\nended\n"
