"""A full disk: writes are refused with 507, reads go on, and a deployment under way is finished later."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.installation import APP, Installation, Repository, eventually
from tests.e2e.machine import Machine
from tests.e2e.test_cli import Shell

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")


@pytest.fixture
def disk(folder: Path) -> Iterator[Path]:
    """A disk of 6 MB."""
    path = folder / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m,mode=755", "tmpfs", path])
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def _waiting_for(gate: Path) -> str:
    """An application that listens only once this file is there."""
    wait = f"while not os.path.exists({str(gate)!r}):\n    time.sleep(0.05)"
    return APP.replace('print("app starts", flush=True)', wait)


def _fill(disk: Path) -> Path:
    """The file that takes all that is left."""
    path = disk / "filling"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            return path


async def test_while_the_disk_is_full_reads_go_on_writes_are_507_and_nothing_is_lost(
    disk: Path, folder: Path
) -> None:
    installation = Installation(folder, REFLOAT_NODE_DIR=str(folder / "node"))
    installation.data = disk / "data"
    installation.node = folder / "node"
    installation.start()
    try:
        repository = Repository(folder / "git")
        environment = installation.environment()
        application = installation.application(environment, "api", repository.url)
        installation.roll(environment)
        commit = repository.commit({"app.py": _waiting_for(gate := folder / "gate")})
        body = {"applications": [{"application_id": application, "git_commit_id": commit}]}
        installation.call("POST", f"/environment/{environment}/service/deploy", body, expect=202)
        eventually(lambda: installation.status(environment)["state"] == "DEPLOYING")
        filling = _fill(disk)

        refusal = eventually(lambda: _refusal(installation, application))
        assert refusal["status"] == 507 and refusal["error"] == "Insufficient Storage"
        assert "free disk space" in refusal["hint"]
        assert installation.status(environment)["state"] == "DEPLOYING"
        assert installation.get(application).text == "hello"
        gate.touch()
        eventually(lambda: "a deployment waits for the database" in installation.log.read_text())
        assert installation.status(environment)["state"] == "DEPLOYING"
        _is_told_why(installation, disk)

        filling.unlink()
        assert installation.ended(environment)["state"] == "DEPLOYED", installation.log_text(environment)
        assert installation.get(application).text == "hello"
        assert {step["outcome"] for step in installation.journal(environment)} == {"done"}
        assert installation.roll(environment)["state"] == "DEPLOYED"
    finally:
        await installation.remove()


def _is_told_why(installation: Installation, disk: Path) -> None:
    """Whoever asks, and whoever watches."""
    why = f"nothing can be stored: database or disk is full; 0.0 of 6.3 MB are free at {disk}/data; free disk"
    shell = Shell(installation)
    try:
        watched = shell.start("logs", "shop", "--follow", "--timeout", "60")
        assert why in shell("explain", "shop") and why in shell("status", "shop")
        assert watched.stdout is not None
        assert next(line for line in watched.stdout if "still api DEPLOYING: " in line and why in line)
    finally:
        shell.end()


def test_down_is_a_way_out_of_a_full_disk(disk: Path, folder: Path) -> None:
    machine = Machine(folder)
    machine.data = disk / "data"
    machine.environ |= {**machine.settings, "REFLOAT_NODE_DIR": str(folder / "node")}
    app = folder / "web"
    app.mkdir()
    (app / "index.html").write_text("hello")
    try:
        machine("up", cwd=app)
        _fill(disk)
        (app / "index.html").write_text("hello again")
        refused = machine("up", cwd=app, expect=1)
        assert f"{machine.data}: No space left on device" in refused and "refloat clean" in refused
        told = machine("down", "--purge", "--yes")
        assert "ended    the edge" in told and f"deleted  {machine.data}" in told
        assert not machine.data.exists()
    finally:
        machine.clean()


def _refusal(installation: Installation, application: str) -> dict[str, object] | None:
    """Write until it is refused: what fitted into the last free page still fits."""
    path = f"/application/{application}/environmentVariable"
    key = f"A{os.urandom(4).hex()}"
    answer = installation.api.post(path, json={"key": key, "value": "x" * 5000})
    return dict(answer.json()) if answer.status_code != 201 else None
