"""G6: what goes wrong in one environment touches no process, route, record, build or file of another."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.installation import APP, Installation, Repository, eventually
from tests.e2e.neighbours import Neighbour, SilentServer

_GLUTTON = """
import os, time
print("eats", flush=True)
try:
    for _ in range(200):
        if os.fork() == 0:
            time.sleep(600)
except OSError as error:
    print("may not have more processes:", error, flush=True)
eaten = []
for _ in range(40):
    eaten.append(bytearray(b"x" * 10_000_000))
raise SystemExit(3)
"""
_MAYFLY = APP.replace(
    'print("app starts", flush=True)',
    'threading.Timer(1.5, lambda: os._exit(3)).start()\nprint("app starts", flush=True)',
)


@pytest.fixture(scope="module")
def neighbour() -> Iterator[Neighbour]:
    with tempfile.TemporaryDirectory(prefix="refloat-", ignore_cleanup_errors=True) as name:
        installation = Installation(Path(name))
        installation.start()
        try:
            yield Neighbour(installation, Path(name))
        finally:
            asyncio.run(installation.remove())


def _make(
    neighbour: Neighbour,
    folder: Path,
    name: str = "trouble",
    files: dict[str, str] | None = None,
    **more: Any,
) -> tuple[str, str]:
    """Another environment, and the application in it that makes the trouble."""
    installation = neighbour.installation
    environment = installation.environment(name)
    url = more.pop("url", None) or Repository(folder / "git", files).url
    return environment, installation.application(environment, "api", url, **more)


def _remove(neighbour: Neighbour, environment: str) -> None:
    installation = neighbour.installation
    installation.api.post(f"/environment/{environment}/cancelDeployment")
    installation.call("DELETE", f"/environment/{environment}", expect=204)
    eventually(lambda: installation.api.get(f"/environment/{environment}").status_code == 404)


def _others_go_on(neighbour: Neighbour, folder: Path) -> None:
    """A third environment is built, deployed and removed meanwhile."""
    third, _ = _make(neighbour, folder / "third", "third")
    assert neighbour.installation.roll(third)["state"] == "DEPLOYED"
    _remove(neighbour, third)


def test_a_failing_build_touches_no_other(neighbour: Neighbour, folder: Path) -> None:
    with neighbour.untouched():
        broken = {"app.py": APP, "Procfile": "web: python app.py\n", "requirements.txt": "=== no package\n"}
        environment, _ = _make(neighbour, folder, files=broken)
        assert neighbour.installation.roll(environment)["state"] == "BUILD_ERROR"
        _remove(neighbour, environment)


def test_a_process_that_takes_all_it_can_get_touches_no_other(neighbour: Neighbour, folder: Path) -> None:
    with neighbour.untouched():
        files = {"app.py": _GLUTTON, "Procfile": "web: python app.py\n"}
        environment, _ = _make(neighbour, folder, files=files, memory=64)
        assert neighbour.installation.roll(environment)["state"] == "DEPLOYMENT_ERROR"
        assert "exit code" in neighbour.installation.last(environment)["reason"]
        _remove(neighbour, environment)


def test_a_process_that_dies_over_and_over_touches_no_other(neighbour: Neighbour, folder: Path) -> None:
    with neighbour.untouched():
        files = {"app.py": _MAYFLY, "Procfile": "web: python app.py\n"}
        environment, application = _make(neighbour, folder, files=files)
        assert neighbour.installation.roll(environment)["state"] == "DEPLOYED"
        state = neighbour.installation.node / "run" / f"app.{application}.1.0" / "state.json"
        eventually(lambda: '"restarts": 2' in state.read_text())
        _remove(neighbour, environment)


def test_whose_name_begins_alike_is_stopped_and_deleted_alone(neighbour: Neighbour, folder: Path) -> None:
    with neighbour.untouched():
        installation = neighbour.installation
        environment, _ = _make(neighbour, folder, "sho")
        longer, _ = _make(neighbour, folder / "longer", "shop-2")
        for it in (environment, longer):
            assert installation.roll(it)["state"] == "DEPLOYED"
        assert installation.roll(environment, "stop")["state"] == "STOPPED"
        _remove(neighbour, environment)
        _remove(neighbour, longer)


def test_a_broken_release_touches_no_other(neighbour: Neighbour, folder: Path) -> None:
    """Both are built from the same commit of the same repository."""
    with neighbour.untouched():
        installation = neighbour.installation
        url = installation.call("GET", f"/application/{neighbour.services[0]}")["git_repository"]["url"]
        environment, application = _make(neighbour, folder, url=url)
        assert installation.roll(environment)["state"] == "DEPLOYED"
        for release in (installation.node / "services" / application / "releases").iterdir():
            shutil.rmtree(release / "app", ignore_errors=True)
            (release / "app").write_text("not a folder")
        installation.variable(application, "APPLICATION", "GREETING", "evening")
        ended = installation.roll(environment)["state"]
        assert ended == "DEPLOYED" or ended.endswith("ERROR")
        _remove(neighbour, environment)


def test_a_git_server_that_hangs_holds_up_no_other(neighbour: Neighbour, folder: Path) -> None:
    with neighbour.untouched(), SilentServer() as silent:
        environment, _ = _make(neighbour, folder, url=f"{silent.url}/x.git")
        neighbour.installation.call("POST", f"/environment/{environment}/redeploy", expect=202)
        eventually(lambda: silent.asked)
        _others_go_on(neighbour, folder)
        assert neighbour.installation.status(environment)["last_deployment_state"] == "DEPLOYMENT_QUEUED"
        _remove(neighbour, environment)


def test_a_full_queue_of_one_holds_up_no_other(neighbour: Neighbour, folder: Path) -> None:
    with neighbour.untouched(), SilentServer() as silent:
        hanging = {
            "app.py": APP,
            "Procfile": "web: python app.py\n",
            "requirements.txt": f"--index-url {silent.url}/simple\nflask==3.0.0\n",
        }
        environment, _ = _make(neighbour, folder, files=hanging)
        ask = f"/environment/{environment}"
        neighbour.installation.call("POST", f"{ask}/redeploy", expect=202)
        eventually(lambda: silent.asked)
        for verb in ("stop", "redeploy") * 15:
            neighbour.installation.call("POST", f"{ask}/{verb}", expect=202)
        waiting = neighbour.installation.call("GET", f"{ask}/deploymentQueue")["results"]
        assert len(waiting) >= 20
        _others_go_on(neighbour, folder)
        assert neighbour.installation.call("GET", f"{ask}/deploymentQueue")["results"] == waiting
        for request in waiting:
            cancel = f"/deploymentQueue/{request['identifier']['deployment_request_id']}/cancelDeployment"
            neighbour.installation.call("POST", cancel, expect=202)
        _remove(neighbour, environment)
