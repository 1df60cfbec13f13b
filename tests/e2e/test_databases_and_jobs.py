"""Databases and jobs on this machine: they come up in stage order, keep their data, and run once."""

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.installation import Installation, Repository

MIGRATE = """
import json, os, pg8000.dbapi
from urllib.parse import urlsplit
url = urlsplit(os.environ["DATABASE_URL"])
db = pg8000.dbapi.connect(
    user=url.username, password=url.password, host=url.hostname, port=url.port, database=url.path[1:]
)
cursor = db.cursor()
cursor.execute("create table if not exists runs (id serial primary key)")
cursor.execute("insert into runs default values")
cursor.execute("select count(*) from runs")
count = cursor.fetchone()[0]
db.commit()
print(f"run number {count} with {os.environ['DATABASE_URL']}")
with open(os.environ["REFLOAT_OUTPUT_FILE"], "w") as file:
    json.dump({"count": {"value": count, "sensitive": False}, "token": {"value": "sesame-street"}}, file)
"""


class Shop:
    """An application behind a database and a migration, each in its own stage."""

    def __init__(self, installation: Installation, folder: Path) -> None:
        self.installation = installation
        self.environment = installation.environment()
        self.database = self._make("database", type="POSTGRESQL", version=self._version(), mode="CONTAINER")
        self.redis = self._make("database", name="cache", type="REDIS", version="7", mode="CONTAINER")
        self.migration = Repository(
            folder / "migration", {"migrate.py": MIGRATE, "requirements.txt": "pg8000\n"}
        )
        self.job = self._make(
            "job",
            source={"docker": {"git_repository": {"url": self.migration.url}}},
            schedule={"on_start": {"entrypoint": "python migrate.py"}},
            healthchecks={},
        )
        prefix = f"QOVERY_POSTGRESQL_Z{self._short(self.database)}"
        installation.variable(self.job, "JOB", "DATABASE_URL", f"{{{{{prefix}_DATABASE_URL}}}}")
        self.source = Repository(folder / "app")
        self.application = installation.application(self.environment, "web", self.source.url)
        self.output = f"QOVERY_OUTPUT_JOB_Z{self._short(self.job)}"
        installation.variable(self.application, "APPLICATION", "GREETING", f"run {{{{{self.output}_COUNT}}}}")

    @staticmethod
    def _short(service: str) -> str:
        return service.replace("-", "")[-8:].upper()

    def _version(self) -> str:
        offered = self.installation.call("GET", f"/environment/{self.environment}/databaseConfiguration")
        versions = {it["database_type"]: it["version"] for it in offered["results"]}
        return str(versions["POSTGRESQL"][0]["name"])

    def _make(self, kind: str, **body: Any) -> str:
        made = self.installation.call(
            "POST", f"/environment/{self.environment}/{kind}", {"name": kind, **body}, expect=201
        )
        return str(made["id"])

    def states(self) -> dict[str, str]:
        found = self.installation.call("GET", f"/environment/{self.environment}/statuses")
        return {s["id"]: s["state"] for k in ("applications", "databases", "jobs") for s in found[k]}

    def greeting(self) -> str:
        return self.installation.get(self.application).text

    def changes(self) -> dict[str, str]:
        stages = self.installation.last(self.environment)["stages"]
        return {s["identifier"]["name"]: s["change"] for stage in stages for s in stage["services"]}


@pytest.fixture
def shop(installation: Installation, folder: Path) -> Shop:
    return Shop(installation, folder)


def test_an_application_gets_its_database_migrated_and_later_deployments_leave_the_database_running(
    shop: Shop, installation: Installation
) -> None:
    assert installation.roll(shop.environment)["state"] == "DEPLOYED", installation.log_text(shop.environment)
    assert set(shop.states().values()) == {"DEPLOYED"}
    assert shop.greeting() == "run 1"
    log = installation.log_text(shop.environment)
    assert "run number 1" in log and "postgresql://" not in log  # the URL holds the password
    installation.roll(shop.environment)
    assert shop.changes() == {"database": "skip", "cache": "skip", "job": "run", "web": "skip"}
    credentials = installation.call("GET", f"/database/{shop.database}/masterCredentials")
    assert credentials["login"] == "postgres" and credentials["password"] not in log
    printed = installation.call("GET", f"/refloat/database/{shop.database}/log")["results"]
    assert any("ready to accept connections" in line["message"] for line in printed)
    assert not any(credentials["password"] in line["message"] for line in printed)


def test_a_database_keeps_its_data_when_it_is_changed_stopped_or_the_machine_went_down(
    shop: Shop, installation: Installation
) -> None:
    installation.roll(shop.environment)
    before = installation.call("GET", f"/database/{shop.database}")
    installation.call("PUT", f"/database/{shop.database}", {"memory": 120})
    plan = installation.call("GET", f"/refloat/environment/{shop.environment}/plan")
    changed = {s["name"]: s for stage in plan["stages"] for s in stage["services"]}["database"]
    assert (changed["change"], changed["causes"]) == ("recreate", ["memory"])
    assert changed["interruption"] is not None
    installation.roll(shop.environment)
    installation.roll(shop.environment, "stop")
    assert installation.roll(shop.environment)["state"] == "DEPLOYED"
    installation.variable(shop.application, "APPLICATION", "AGAIN", "1")
    installation.roll(shop.environment)
    assert shop.greeting() == "run 4"
    after = installation.call("GET", f"/database/{shop.database}")
    assert (after["host"], after["port"]) == (before["host"], before["port"])


def test_a_failing_migration_stops_the_deployment_before_the_application(
    shop: Shop, installation: Installation
) -> None:
    installation.roll(shop.environment)
    commit = shop.migration.commit({"migrate.py": "print('broken'); raise SystemExit(3)"})
    body = {"jobs": [{"id": shop.job, "git_commit_id": commit}]}
    installation.call("POST", f"/environment/{shop.environment}/service/deploy", body, expect=202)
    assert installation.ended(shop.environment)["state"] == "DEPLOYMENT_ERROR"
    assert "the job failed: it ended with exit code 3" in installation.last(shop.environment)["reason"]
    assert installation.roll(shop.environment)["state"] == "DEPLOYMENT_ERROR"
    assert shop.states()[shop.application] == "CANCELED"
    assert shop.greeting() == "run 1"


def test_a_deleted_database_leaves_no_data_and_no_process(shop: Shop, installation: Installation) -> None:
    installation.roll(shop.environment)
    folder = installation.node / "services" / shop.database
    assert (folder / "home" / "data" / "PG_VERSION").exists()
    installation.call("DELETE", f"/database/{shop.database}", expect=204)
    installation.call("DELETE", f"/job/{shop.job}", expect=204)
    installation.ended(shop.environment)
    installation.call("GET", f"/database/{shop.database}", expect=404)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"type": "POSTGRESQL", "version": "7", "mode": "CONTAINER"}, "no POSTGRESQL 7 on this cluster"),
        ({"type": "MYSQL", "version": "8", "mode": "CONTAINER"}, "needs a cluster with Docker"),
        ({"type": "REDIS", "version": "7", "mode": "MANAGED"}, "belong to a cloud provider"),
    ],
)
def test_a_database_that_cannot_run_here_is_configuration_and_its_deployment_says_what_would_run_it(
    body: dict[str, str], words: str, installation: Installation
) -> None:
    environment = installation.environment()
    installation.call("POST", f"/environment/{environment}/database", {"name": "db", **body}, expect=201)
    refusal = installation.call("POST", f"/environment/{environment}/redeploy", expect=400)
    assert "db cannot be deployed" in refusal["message"] and words in refusal["message"]
    assert installation.status(environment)["state"] == "READY"


def test_what_connects_by_its_own_driver_gets_a_working_redis(shop: Shop, installation: Installation) -> None:
    import socket

    installation.roll(shop.environment)
    it = installation.call("GET", f"/database/{shop.redis}/masterCredentials")
    with socket.create_connection((it["host"], it["port"]), timeout=10) as redis:
        redis.sendall(f"AUTH {it['login']} {it['password']}\r\nSET a 1\r\nGET a\r\n".encode())
        answer = b""
        while answer.count(b"\r\n") < 4:
            answer += redis.recv(100)
    assert answer == b"+OK\r\n+OK\r\n$1\r\n1\r\n"
    with socket.create_connection((it["host"], it["port"]), timeout=10) as stranger:
        stranger.sendall(b"GET a\r\n")
        assert stranger.recv(100).startswith(b"-NOAUTH")
