"""Two server processes on one PostgreSQL and one node: what one leaves, the other finishes."""

import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.databases import PASSWORD, PostgresServer, start_postgres
from tests.e2e.installation import Installation, Repository, eventually
from tests.e2e.replicas import Pair, leads

SLOW_RELEASE = {
    "slow.py": "import time; print('it sleeps', flush=True); time.sleep(4)\n",
    "Procfile": "web: python app.py\nrelease: python slow.py\n",
}


class Deployed(NamedTuple):
    """An environment with one verified application, and its variable to change."""

    environment: str
    application: str
    greeting: str
    repository: Repository


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL of its own, which the test may crash."""
    made = start_postgres()
    yield made
    made.remove()


@asynccontextmanager
async def pair_on(folder: Path, server: PostgresServer) -> AsyncIterator[Pair]:
    pair = Pair(folder, server.database(migrated=False))
    try:
        yield pair
    finally:
        await pair.remove()


def deployed(pair: Pair, folder: Path) -> Deployed:
    one, repository = pair.leader, Repository(folder / "git")
    environment = one.environment()
    application = one.application(environment, "api", repository.url)
    greeting = one.variable(application, "APPLICATION", "GREETING", "morning")
    assert one.roll(environment)["state"] == "DEPLOYED"
    return Deployed(environment, application, greeting, repository)


def begin_slow_release(pair: Pair, it: Deployed) -> None:
    """A deployment, asked for at the other server, that is in the middle of a release command of 4 s."""
    commit = it.repository.commit(SLOW_RELEASE)
    body = {"applications": [{"application_id": it.application, "git_commit_id": commit}]}
    pair.other.call("POST", f"/environment/{it.environment}/service/deploy", body, expect=202)
    eventually(lambda: "it sleeps" in pair.other.log_text(it.environment))


class Traffic:
    """A client that never retries, from the public side."""

    def __init__(self, installation: Installation, application: str) -> None:
        link = installation.call("GET", f"/application/{application}/link")["results"][0]
        self._headers = {"Host": link["url"].removeprefix("http://")}
        self._url = f"http://127.0.0.1:{installation.http_port}/"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.answers: list[Any] = []

    def _run(self) -> None:
        with httpx.Client(headers=self._headers, timeout=10) as client:
            while not self._stop.wait(0.01):
                try:
                    self.answers.append(client.get(self._url).status_code)
                except httpx.HTTPError as error:
                    self.answers.append(repr(error))

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def check_finished_once(journal: list[dict[str, Any]], in_flight: str) -> None:
    for step in journal:
        assert step["outcome"] == "done", step
        assert step["attempt"] == 1 or step["step"] == in_flight, step


@pytest.mark.parametrize(
    ("place", "in_flight"),
    [
        ("build:during", "build"),
        ("prepare:after", "ready"),
        ("switch:during", "switch"),
        ("drain:before", "drain"),
    ],
)
async def test_what_a_killed_server_was_doing_is_finished_by_the_other(
    place: str, in_flight: str, folder: Path, postgres: PostgresServer
) -> None:
    async with pair_on(folder, postgres) as pair:
        pair.leader.start()
        environment, application, greeting, _ = deployed(pair, folder)
        pair.leader.kill()
        pair.leader.start(REFLOAT_CRASH_AT=place)
        pair.other.start()
        assert pair.other.api.get("/readyz").status_code == 200  # a stand-by accepts and shows
        with Traffic(pair.other, application) as traffic:
            pair.other.edit_variable(greeting, "GREETING", "evening")
            pair.other.call("POST", f"/environment/{environment}/redeploy", expect=202)
            assert pair.leader.process is not None and pair.leader.process.wait(60) == -9
            assert pair.other.ended(environment)["state"] == "DEPLOYED"
        assert set(traffic.answers) == {200}
        assert pair.other.get(application).text == "evening"
        check_finished_once(pair.other.journal(environment), in_flight)
        assert "refloat_takeovers_total 1.0" in pair.other.api.get("/metrics").text
        assert "takeover" in spent_on(pair.other, environment)


def spent_on(installation: Installation, environment: str) -> set[str]:
    """The kinds of segments that the time of the last deployment went to."""
    newest = installation.call("GET", f"/environment/{environment}/status")["deployment_request_id"]
    path = installation.call("GET", f"/refloat/deployment/{newest}/critical-path")
    return {segment["kind"] for segment in path["segments"]}


async def test_a_frozen_server_is_replaced_and_writes_nothing_when_it_wakes(
    folder: Path, postgres: PostgresServer
) -> None:
    async with pair_on(folder, postgres) as pair:
        pair.start()
        it = deployed(pair, folder)
        begin_slow_release(pair, it)
        assert pair.leader.process is not None
        pair.leader.process.send_signal(signal.SIGSTOP)
        assert pair.other.ended(it.environment)["state"] == "DEPLOYED"
        before = told(pair.other, it.environment)
        pair.leader.process.send_signal(signal.SIGCONT)
        eventually(lambda: "another server may work" in pair.leader.log.read_text())
        assert told(pair.other, it.environment) == told(pair.leader, it.environment) == before
        check_finished_once(pair.other.journal(it.environment), "execute")
        assert pair.leader.process.poll() is None


async def test_a_cancel_reaches_the_server_that_works(folder: Path, postgres: PostgresServer) -> None:
    async with pair_on(folder, postgres) as pair:
        pair.start()
        it = deployed(pair, folder)
        begin_slow_release(pair, it)
        pair.other.call("POST", f"/environment/{it.environment}/cancelDeployment", expect=202)
        assert pair.other.ended(it.environment)["state"] == "CANCELED"
        assert told(pair.other, it.environment) == told(pair.leader, it.environment)
        assert pair.other.get(it.application).text == "morning"


async def test_deployments_end_right_when_postgresql_crashes_in_the_middle(
    folder: Path, server: PostgresServer
) -> None:
    async with pair_on(folder, server) as pair:
        pair.start()
        it = deployed(pair, folder)
        with Traffic(pair.other, it.application) as traffic:
            begin_slow_release(pair, it)
            server.crash()
            server.start()
            eventually(lambda: answers(pair.leader) and answers(pair.other))
            assert pair.other.ended(it.environment)["state"] == "DEPLOYED"
        assert set(traffic.answers) == {200}
        assert told(pair.other, it.environment) == told(pair.leader, it.environment)
        check_finished_once(pair.other.journal(it.environment), "execute")
        assert pair.leader.roll(it.environment)["state"] == "DEPLOYED"


async def test_a_server_that_ends_in_order_hands_its_node_over(
    folder: Path, postgres: PostgresServer
) -> None:
    async with pair_on(folder, postgres) as pair:
        pair.start()
        it = deployed(pair, folder)
        assert not leads(pair.other)
        assert pair.leader.process is not None
        pair.leader.process.terminate()
        assert pair.leader.process.wait(30) == 0
        pair.other.edit_variable(it.greeting, "GREETING", "evening")
        assert pair.other.roll(it.environment)["state"] == "DEPLOYED"
        assert pair.other.get(it.application).text == "evening"


async def test_a_server_with_another_key_is_refused(folder: Path, postgres: PostgresServer) -> None:
    async with pair_on(folder, postgres) as pair:
        pair.leader.start()
        refused = pair.other.spawn(REFLOAT_SECRET_KEY_FILE="")
        assert refused.wait(30) == 1
        words = pair.other.log.read_text()
        assert "REFLOAT_SECRET_KEY_FILE" in words
        assert PASSWORD not in words and PASSWORD not in pair.leader.log.read_text()


def told(installation: Installation, environment: str) -> tuple[Any, ...]:
    """All that a server says of an environment."""
    return (
        installation.call("GET", f"/environment/{environment}/statuses"),
        installation.call("GET", f"/environment/{environment}/deploymentHistoryV2"),
        installation.journal(environment),
        installation.log_text(environment),
    )


def answers(installation: Installation) -> bool:
    return installation.api.get("/organization").status_code == 200
