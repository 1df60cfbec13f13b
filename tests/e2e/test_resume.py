"""What a control plane does when it comes back to a machine on which nothing runs any more."""

from datetime import datetime
from pathlib import Path

import pytest

from refloat.supervisor.processes import LocalSupervisor
from tests.e2e.installation import APP, Installation, Repository, eventually


def _deployed(installation: Installation, folder: Path) -> tuple[str, str, str]:
    environment = installation.environment()
    application = installation.application(environment, "api", Repository(folder / "git").url)
    greeting = installation.variable(application, "APPLICATION", "GREETING", "morning")
    assert installation.roll(environment)["state"] == "DEPLOYED"
    return environment, application, greeting


@pytest.mark.parametrize("state", ["DEPLOYED", "DEPLOYMENT_ERROR"])
async def test_after_every_process_died_all_wanted_instances_come_back(state: str, folder: Path) -> None:
    """Also those that a failed deployment would have replaced."""
    installation = Installation(folder)
    installation.start()
    try:
        environment, application, _ = _deployed(installation, folder)
        if state == "DEPLOYMENT_ERROR":
            installation.variable(application, "APPLICATION", "PYTHONHOME", "/nowhere")
            assert installation.roll(environment)["state"] == state
        installation.kill()
        _kill_everything(installation)
        installation.start()
        eventually(lambda: installation.get(application).status_code == 200)
        assert installation.status(environment)["state"] == state
        assert installation.get(application).text == "morning"
    finally:
        await installation.remove()


SLOW = APP.replace(
    'print("app starts", flush=True)',
    'print("app starts", flush=True)\ntime.sleep(0.5)\nprint("app listens", flush=True)',
)


async def test_after_every_process_died_services_come_back_in_stage_order(folder: Path) -> None:
    installation = Installation(folder)
    installation.start()
    try:
        environment = installation.environment()
        url = Repository(folder / "git", {"app.py": SLOW, "Procfile": "web: python app.py\n"}).url
        names = ("third", "second", "first")
        services = {name: installation.application(environment, name, url) for name in names}
        for name in reversed(names):
            path = f"/environment/{environment}/deploymentStage"
            stage = installation.call("POST", path, {"name": name})["id"]
            installation.call("PUT", f"/deploymentStage/{stage}/service/{services[name]}")
        assert installation.roll(environment)["state"] == "DEPLOYED"
        installation.kill()
        _kill_everything(installation)
        installation.start()
        for service in services.values():
            eventually(lambda service=service: installation.get(service).status_code == 200)
        told = {name: _last_times(installation, service) for name, service in services.items()}
        assert told["first"]["app listens"] < told["second"]["app starts"]
        assert told["second"]["app listens"] < told["third"]["app starts"]
    finally:
        await installation.remove()


def _last_times(installation: Installation, service: str) -> dict[str, datetime]:
    """When the service last said each thing, by its shim's clock."""
    lines = LocalSupervisor(installation.node).log(f"app.{service}.1.0", 50)
    return {line.text: line.at for line in lines}


def _kill_everything(installation: Installation) -> None:
    """As a power cut does: shims, applications and the edge, by process id."""
    import os
    import signal

    mark = str(installation.node).encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            about = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if mark in about and int(process.name) != os.getpid():
            os.kill(int(process.name), signal.SIGKILL)


async def test_a_second_server_on_the_same_data_is_refused(installation: Installation) -> None:
    second = installation.spawn()
    assert second.wait(30) == 1
    assert "another server runs" in installation.log.read_text()
    assert installation.api.get("/healthz").status_code == 200
