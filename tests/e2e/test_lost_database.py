"""The database is lost while applications serve: it is put back, and nothing restarts."""

import asyncio
import subprocess
from pathlib import Path
from typing import Any

from refloat.supervisor.base import LIVE
from refloat.supervisor.processes import LocalSupervisor
from tests.e2e.installation import Installation, Repository


def command(installation: Installation, *words: str) -> str:
    """What `refloat` answers with the server's settings."""
    done = subprocess.run(
        [installation.command[0], *words], env=installation.environ(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def processes(installation: Installation) -> dict[str, int | None]:
    """Every process tree that lives, with its pid."""
    states = asyncio.run(LocalSupervisor(installation.node).states())
    return {state.id: state.pid for state in states if state.status in LIVE}


def lose_database(installation: Installation) -> None:
    for file in installation.data.glob("refloat.db*"):
        file.unlink()


def deployed(installation: Installation, folder: Path) -> tuple[str, str, Repository]:
    repository = Repository(folder / "shop")
    environment = installation.environment()
    application = installation.application(environment, "web", repository.url)
    assert installation.roll(environment)["state"] == "DEPLOYED"
    return environment, application, repository


def test_after_a_restore_the_same_processes_serve(installation: Installation, folder: Path) -> None:
    environment, application, _ = deployed(installation, folder)
    before = processes(installation)
    command(installation, "backup", str(folder / "backup.zip"))
    installation.kill()
    lose_database(installation)
    (installation.data / "secret.key").unlink()
    command(installation, "restore", str(folder / "backup.zip"))
    installation.start()
    status: dict[str, Any] = installation.status(environment)
    assert (status["state"], status["deployment_status"]) == ("DEPLOYED", "UP_TO_DATE")
    assert installation.get(application).text == "hello"
    assert processes(installation) == before
