"""The database is lost while applications serve: it is put back, and nothing restarts."""

import asyncio
import subprocess
import threading
from pathlib import Path
from typing import Any

import httpx

from refloat.supervisor.base import LIVE
from refloat.supervisor.processes import LocalSupervisor
from tests.e2e.installation import APP, Installation, Repository, eventually


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


def test_after_an_adoption_the_same_processes_serve_and_a_new_version_loses_no_request(
    installation: Installation, folder: Path
) -> None:
    environment, application, repository = deployed(installation, folder)
    inventory = installation.node / "services" / application / "inventory.json"
    eventually(inventory.exists)
    assert inventory.stat().st_mode & 0o777 == 0o600
    before = processes(installation)
    installation.kill()
    lose_database(installation)
    told = command(installation, "adopt")
    assert environment in told and "web" in told and "as deployment 1" in told
    installation.start()
    status: dict[str, Any] = installation.status(environment)
    assert (status["state"], status["deployment_status"]) == ("DEPLOYED", "UP_TO_DATE")
    assert processes(installation) == before
    commit = repository.commit({"app.py": APP.replace("hello", "second")})
    with Load(installation, application) as load:
        body = {"applications": [{"application_id": application, "git_commit_id": commit}]}
        installation.call("POST", f"/environment/{environment}/service/deploy", body, expect=202)
        assert installation.ended(environment)["state"] == "DEPLOYED"
        eventually(lambda: "second" in load.answers)
    assert load.failures == [] and load.answers.keys() == {"hello", "second"}
    assert installation.status(environment)["last_deployment_id"] == f"{environment}-2"
    listed = command(installation, "clean", "--dry-run")
    assert "web: release" in listed and "it runs, or history can go back to it" in listed
    assert installation.get(application).text == "second"


class Load:
    """Requests one after the other for as long as the block lasts."""

    def __init__(self, installation: Installation, application: str) -> None:
        self.answers: dict[str, int] = {}
        self.failures: list[str] = []
        link = installation.call("GET", f"/application/{application}/link")["results"][0]
        self._host = link["url"].removeprefix("http://")
        self._url = f"http://127.0.0.1:{installation.http_port}/"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with httpx.Client(headers={"Host": self._host}, timeout=10) as client:
            while not self._over.is_set():
                try:
                    answer = client.get(self._url)
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                    continue
                if answer.status_code != 200:
                    self.failures.append(answer.text)
                self.answers[answer.text] = self.answers.get(answer.text, 0) + 1

    def __enter__(self) -> "Load":
        self._thread.start()
        eventually(lambda: self.answers)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
