"""A control plane that is killed in the middle changes nothing."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark import ParameterSet

from refloat.supervisor.processes import LocalSupervisor
from tests.e2e.installation import APP, Installation, Repository, eventually

STEPS = ("precheck", "build", "execute", "prepare", "ready", "switch", "verify", "drain", "stop")
"""In the order in which a service comes to them."""
REST = ("withdraw", "destroy")


def _deployed(installation: Installation, folder: Path) -> tuple[str, str, str]:
    environment = installation.environment()
    application = installation.application(environment, "api", Repository(folder / "git").url)
    greeting = installation.variable(application, "APPLICATION", "GREETING", "morning")
    assert installation.roll(environment)["state"] == "DEPLOYED"
    return environment, application, greeting


def _wait_for_the_crash(installation: Installation) -> None:
    assert installation.process is not None
    assert installation.process.wait(60) == -9


def _check_journal(journal: list[dict[str, Any]], crashed: str, moment: str) -> None:
    """Only what was under way is begun again: after a step, that is the next one, which is written down
    with the end of the one before."""
    under_way = {crashed, *STEPS[STEPS.index(crashed) + 1 :][:1]} if moment == "after" else {crashed}
    for step in journal:
        assert step["outcome"] == "done"
        assert step["attempt"] == 1 or (step["step"] in under_way and step["attempt"] == 2), step


def _all_but(usual: str) -> list[ParameterSet | str]:
    """The moments of a step; all but the usual one belong to the whole matrix."""
    moments = ("before", "during", "after")
    return [m if m == usual else pytest.param(m, marks=pytest.mark.matrix) for m in moments]


@pytest.mark.parametrize("moment", _all_but("during"))
@pytest.mark.parametrize("step", [s for s in STEPS if s != "precheck"])
async def test_a_kill_at_any_step_of_a_replacement_is_resumed(step: str, moment: str, folder: Path) -> None:
    installation = Installation(folder)
    installation.start()
    try:
        environment, application, greeting = _deployed(installation, folder)
        installation.kill()
        installation.start(REFLOAT_CRASH_AT=f"{step}:{moment}")
        installation.edit_variable(greeting, "GREETING", "evening")
        installation.call("POST", f"/environment/{environment}/redeploy", expect=202)
        _wait_for_the_crash(installation)
        assert installation_serves(installation, application)
        installation.start()
        assert installation.ended(environment)["state"] == "DEPLOYED"
        assert installation.get(application).text == "evening"
        _check_journal(installation.journal(environment), step, moment)
        eventually(lambda: len(_live(installation)) == 1)
    finally:
        await installation.remove()


def installation_serves(installation: Installation, application: str) -> bool:
    """Applications answer while there is no control plane."""
    import httpx

    slots = installation.node / "edge"
    assert slots.exists()
    hosts = [h for h in _hosts(installation) if h.startswith("api-")]
    answer = httpx.get(f"http://127.0.0.1:{installation.http_port}/", headers={"Host": hosts[0]}, timeout=10)
    return answer.status_code == 200 and answer.text in ("morning", "evening")


def _hosts(installation: Installation) -> list[str]:
    import re

    text = (installation.node / "edge" / "slots.json").read_text()
    return re.findall(r"api-[0-9a-f]{8}\.localhost", text)


def _live(installation: Installation) -> list[Path]:
    """Supervised application processes that are not stopped."""
    import json

    found = []
    for state in (installation.node / "run").glob("app.*/state.json"):
        if json.loads(state.read_text())["status"] == "running":
            found.append(state)
    return found


@pytest.mark.parametrize("moment", ["before", "during", "after"])
async def test_a_kill_in_the_precheck_of_a_first_deployment_is_resumed(moment: str, folder: Path) -> None:
    installation = Installation(folder)
    installation.start(REFLOAT_CRASH_AT=f"precheck:{moment}")
    try:
        environment = installation.environment()
        application = installation.application(environment, "api", Repository(folder / "git").url)
        installation.call("POST", f"/environment/{environment}/redeploy", expect=202)
        _wait_for_the_crash(installation)
        installation.start()
        assert installation.ended(environment)["state"] == "DEPLOYED"
        assert installation.get(application).status_code == 200
    finally:
        await installation.remove()


async def test_after_every_process_died_all_wanted_instances_come_back(folder: Path) -> None:
    installation = Installation(folder)
    installation.start()
    try:
        environment, application, _ = _deployed(installation, folder)
        installation.kill()
        _kill_everything(installation)
        installation.start()
        eventually(lambda: installation.get(application).status_code == 200)
        assert installation.status(environment)["state"] == "DEPLOYED"
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
