"""Ten kinds of repositories, each through its life: deployed, left alone, changed, broken, taken back."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from refloat.supervisor.processes import LocalSupervisor
from tests.e2e.installation import Installation, Repository, eventually
from tests.e2e.sample_repositories import SAMPLES, WORKER, Sample
from tests.programs import needs


@pytest.fixture
def installation(cleared: Installation) -> Installation:
    return cleared


def service_of(installation: Installation, environment: str) -> dict[str, Any]:
    return dict(installation.last(environment)["stages"][0]["services"][0])


def deploy(installation: Installation, environment: str, application: str, commit: str) -> str:
    """Deploy this commit; the state it ends in."""
    body = {"applications": [{"application_id": application, "git_commit_id": commit}]}
    installation.call("POST", f"/environment/{environment}/service/deploy", body, expect=202)
    return str(installation.ended(environment)["state"])


def made(folder: Path, sample: Sample) -> tuple[Repository, str]:
    """The repository with its first version, and that commit."""
    repository = Repository(folder / "git", sample.first)
    sample.prepare(repository)
    return repository, repository.commit({".version": "1"})


NODE = ("Express", "a site that a bundler builds")


@pytest.mark.parametrize(
    "kind", [pytest.param(it, marks=needs("node", "npm")) if it in NODE else it for it in SAMPLES]
)
def test_a_repository_is_deployed_left_alone_changed_refused_and_taken_back(
    kind: str, installation: Installation, folder: Path
) -> None:
    sample = SAMPLES[kind]
    repository, first = made(folder, sample)
    environment = installation.environment("sample")
    source = {"url": repository.url, "root_path": sample.root_path}
    application = installation.application(environment, "it", repository.url, git_repository=source)

    assert installation.roll(environment)["state"] == "DEPLOYED", installation.log_text(environment)
    assert "one" in installation.get(application).text
    told = installation.log_text(environment)
    assert all(words in told for words in sample.logged), told

    assert installation.roll(environment)["state"] == "DEPLOYED"
    assert service_of(installation, environment)["change"] == "skip"

    sample.advance(repository)
    second = repository.commit({".version": "2", **sample.second})
    assert deploy(installation, environment, application, second) == "DEPLOYED"
    assert "two" in installation.get(application).text

    sample.spoil(repository)
    state, words = sample.fails
    broken = repository.commit({".version": "3", **sample.broken})
    assert deploy(installation, environment, application, broken) == state
    assert words in service_of(installation, environment)["reason"]
    assert "two" in installation.get(application).text

    assert deploy(installation, environment, application, first) == "DEPLOYED"
    assert "one" in installation.get(application).text


def logs_of(installation: Installation, application: str) -> str:
    """What the processes of an application wrote."""

    async def read() -> list[str]:
        supervisor = LocalSupervisor(installation.node)
        states = [it for it in await supervisor.states("app.") if it.labels.get("service") == application]
        return [line.text for state in states for line in supervisor.log(state.id, 100)]

    return "\n".join(asyncio.run(read()))


def test_a_worker_runs_as_a_second_application_with_its_own_entrypoint(
    installation: Installation, folder: Path
) -> None:
    repository, _ = made(folder, WORKER)
    environment = installation.environment("sample")
    web = installation.application(environment, "web", repository.url)
    more = {"entrypoint": "python work.py", "ports": []}
    worker = installation.application(environment, "worker", repository.url, **more)
    assert installation.roll(environment)["state"] == "DEPLOYED"
    assert installation.get(web).text == "one"
    eventually(lambda: "the worker works" in logs_of(installation, worker))
    assert "the worker works" not in logs_of(installation, web)


@needs("node", "npm")
def test_a_server_behind_npm_is_told_to_stop_and_nothing_of_it_is_left(
    installation: Installation, folder: Path
) -> None:
    serve = """
    const server = require('http').createServer((q, a) => a.end('up')).listen(process.env.PORT, '127.0.0.1')
    process.on('SIGTERM', () => { console.log('told to stop'); server.close() })
    """
    files = {"package.json": '{"scripts": {"start": "node app.js"}}', "app.js": serve}
    repository = Repository(folder / "git", {**files, "Procfile": "web: npm start -- now\n"})
    environment = installation.environment("sample")
    application = installation.application(environment, "it", repository.url)
    assert installation.roll(environment)["state"] == "DEPLOYED"
    assert installation.get(application).text == "up"
    assert len(processes(installation)) > 1
    assert installation.roll(environment, "stop")["state"] == "STOPPED"
    assert "told to stop" in logs_of(installation, application)
    assert not processes(installation)


def processes(installation: Installation) -> list[str]:
    """The processes that work in a release of this installation."""
    places = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            places.append(str(link.readlink()))
    return [place for place in places if place.startswith(f"{installation.node}/services/")]
