"""`refloat service` on a machine that systemd runs: root's unit of the machine, and a user's own."""

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.contract.routers_support import Load
from tests.e2e.installation import APP, eventually
from tests.e2e.systemd_machine import NEEDED, NEWCOMER, SystemdMachine

MUST_RUN = os.environ.get("REFLOAT_TESTS_MUST_NOT_SKIP") == "1"
_POST = """    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()
    def log_message"""
LIKE_PID = ("show", "--property=MainPID", "--value", "refloat")


@pytest.fixture(params=["root", NEWCOMER])
def unit(request: pytest.FixtureRequest, folder: Path) -> Iterator["Unit"]:
    if os.geteuid() != 0:
        pytest.skip("only root can boot a machine inside this one")
    missing = [path for path in NEEDED if not any(Path("/").glob(path))]
    if missing and not MUST_RUN:
        pytest.skip(f"/{missing[0]} is not there: apt-get install systemd dbus libpam-systemd")
    machine = SystemdMachine(folder)
    try:
        yield Unit(machine, str(request.param))
    finally:
        machine.off()


class Unit:
    """The unit that one person installs, with one application behind the server."""

    def __init__(self, machine: SystemdMachine, user: str) -> None:
        self.machine, self.user = machine, user
        self.scope = [] if user == "root" else ["--user"]
        if self.scope:
            machine.run("loginctl", "enable-linger", user)
            eventually((machine.root / f"run/user/{machine.number(user)}/systemd/private").exists)
        self.host = ""

    def refloat(self, *words: str, check: bool = True) -> str:
        return self.machine.refloat(*words, user=self.user, check=check)

    def systemctl(self, *words: str, check: bool = True) -> str:
        return self.machine.run("systemctl", *self.scope, *words, user=self.user, check=check).strip()

    @property
    def pid(self) -> int:
        return int(self.systemctl(*LIKE_PID))

    def deploy(self) -> None:
        """An application from a folder of theirs."""
        home = self.machine.root / ("root" if self.user == "root" else f"home/{self.user}")
        (home / "web").mkdir()
        (home / "web/app.py").write_text(APP.replace("    def log_message", _POST))
        told = self.refloat("up", "web")
        assert "started a server" not in told, told
        self.host = next(w for w in told.split() if ".localhost:" in w).removeprefix("http://")

    def answer(self) -> str:
        headers = {"Host": self.host}
        return httpx.get(f"http://127.0.0.1:{self.machine.http_port}", headers=headers, timeout=10).text

    def version(self) -> str:
        """Of the server that answers; "" when none does."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.machine.port}/healthz", timeout=10)
        except httpx.TransportError:
            return ""
        return str(answer.json()["version"]) if answer.status_code == 200 else ""

    @asynccontextmanager
    async def loaded(self) -> AsyncIterator[Load]:
        """Clients ask all the while, and none of them may notice anything."""
        async with Load(self.machine.http_port, self.host.partition(":")[0], 1) as load:
            yield load
            seen = load.total
            async with asyncio.timeout(30):
                while load.total < seen + 100:  # noqa: ASYNC110 - a client only counts
                    await asyncio.sleep(0.01)
        assert load.lost == {}


async def test_a_unit_is_installed_killed_upgraded_booted_and_removed_and_the_applications_go_on(
    unit: Unit,
) -> None:
    told = unit.refloat("service", "install", *unit.scope)
    assert "is installed and runs" in told, told
    await asyncio.to_thread(unit.deploy)
    async with unit.loaded() as load:
        await asyncio.to_thread(killed_and_upgraded, unit, load)
    assert "active     active" in unit.refloat("service", "status", *unit.scope)
    unit.machine.reboot()
    eventually(unit.version)
    eventually(lambda: unit.answer() == "hello")
    managed = unit.refloat("down", "--purge", "--yes", check=False)
    assert "kept running by systemd" in managed, managed
    assert " ".join(["refloat service uninstall", *unit.scope]) in managed
    assert unit.answer() == "hello"
    assert "is removed" in unit.refloat("service", "uninstall", *unit.scope)
    assert unit.version() == "" and unit.answer() == "hello"
    assert "deleted" in unit.refloat("down", "--purge", "--yes")
    with pytest.raises(httpx.TransportError):
        unit.answer()
    assert unit.systemctl("list-units", "--all", "--no-legend", "refloat*") == ""


def killed_and_upgraded(unit: Unit, load: Load) -> None:
    first = unit.pid
    unit.systemctl("kill", "--kill-who=main", "--signal=KILL", "refloat")
    served = load.total
    assert unit.version() == ""
    eventually(lambda: load.total > served + 50)
    eventually(lambda: unit.version() and unit.pid not in (0, first))
    upgrade(unit.machine.package)
    assert "runs anew" in unit.refloat("service", "restart")
    assert unit.version() == "99.0.0"
    assert "nothing changed" in unit.refloat("up", "web")


def upgrade(package: Path) -> None:
    """Install a release with another version and another shim over this one."""
    (package / "__init__.py").write_text('"""A newer one."""\n\n__version__ = "99.0.0"\n')
    with (package / "supervisor/shim.py").open("a") as shim:
        shim.write("# of a newer release\n")
    for cache in package.rglob("__pycache__"):
        shutil.rmtree(cache)


@pytest.mark.parametrize("unit", [NEWCOMER], indirect=True)
def test_a_server_that_does_not_come_up_under_systemd_is_told_with_its_last_words(unit: Unit) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", unit.machine.port))
        taken.listen()
        told = unit.refloat("service", "install", *unit.scope, check=False)
    assert "does not come up" in told and f"cannot listen on 127.0.0.1:{unit.machine.port}" in told, told
    assert " ".join(["refloat service uninstall", *unit.scope]) in told
