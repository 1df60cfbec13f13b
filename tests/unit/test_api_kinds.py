"""Containers, databases, jobs and registries as configuration: what is taken, shown again, and refused."""

from typing import Any

import pytest
from api_support import UNKNOWN, Api

GIT = {"docker": {"git_repository": {"url": "https://example.org/job.git"}}}
START = {"on_start": {"entrypoint": "python job.py", "arguments": ["--all"]}}
JOB = {"name": "job", "source": GIT, "schedule": START, "healthchecks": {}}
DATABASE = {"name": "db", "type": "POSTGRESQL", "version": "16", "mode": "CONTAINER"}
REGISTRY = {"name": "hub", "kind": "DOCKER_HUB", "config": {"username": "u", "password": "sesame"}}


async def _registry(api: Api) -> str:
    made = await api("POST", f"/organization/{api.organization}/containerRegistry", REGISTRY, expect=201)
    return str(made["id"])


async def _container(api: Api) -> dict[str, Any]:
    image = {"registry_id": await _registry(api), "image_name": "library/nginx", "tag": "1.27"}
    return {"name": "web", "healthchecks": {}, **image}


async def _make(api: Api, kind: str, body: dict[str, Any]) -> dict[str, Any]:
    made = await api("POST", f"/environment/{api.environment}/{kind}", body, expect=201)
    assert await api("GET", f"/{kind}/{made['id']}") == made
    assert await api.results(f"/environment/{api.environment}/{kind}") == [made]
    assert await api.results(f"/environment/{api.environment}/services") == [made]
    return dict(made)


async def test_a_database_is_shown_with_its_defaults_and_its_address(api: Api) -> None:
    made = await _make(api, "database", DATABASE)
    assert made["service_type"] == "DATABASE"
    assert (made["cpu"], made["memory"], made["storage"]) == (250, 100, 10)
    assert made["accessibility"] == "PRIVATE" and made["disk_encrypted"] is False
    assert made["host"] and made["port"] > 0
    assert (await api("GET", f"/database/{made['id']}"))["port"] == made["port"]


@pytest.mark.parametrize(("kind", "memory"), [("REDIS", 100), ("MYSQL", 512), ("MONGODB", 256)])
async def test_the_memory_of_a_database_depends_on_its_type(kind: str, memory: int, api: Api) -> None:
    assert (await _make(api, "database", {**DATABASE, "type": kind}))["memory"] == memory


async def test_an_edited_database_keeps_its_type_and_what_is_left_out(api: Api) -> None:
    made = await _make(api, "database", DATABASE)
    edited = await api("PUT", f"/database/{made['id']}", {"memory": 300, "type": "REDIS", "storage": 20})
    assert (edited["type"], edited["memory"], edited["storage"], edited["cpu"]) == (
        "POSTGRESQL",
        300,
        20,
        250,
    )
    await api.refused("PUT", f"/database/{made['id']}", {"storage": 5}, words="cannot shrink below 20 GB")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": None}, "version"),
        ({"version": "latest"}, "version: 'latest' is not a version like 16 or 16.4"),
        ({"type": "ORACLE"}, "type"),
        ({"mode": "SHARED"}, "mode"),
        ({"storage": 0}, "storage: 1 (GB)"),
        ({"instance_type": "db.t3.medium"}, "only managed databases"),
    ],
)
async def test_a_database_that_breaks_a_rule_is_refused(
    changes: dict[str, Any], words: str, api: Api
) -> None:
    await api.refused(
        "POST", f"/environment/{api.environment}/database", {**DATABASE, **changes}, words=words
    )
    assert await api.results(f"/environment/{api.environment}/database") == []


@pytest.mark.parametrize("field", ["name", "type", "version", "mode"])
async def test_a_database_without_a_required_field_is_refused(field: str, api: Api) -> None:
    body = {key: value for key, value in DATABASE.items() if key != field}
    await api.refused(
        "POST", f"/environment/{api.environment}/database", body, words=f"{field}: it is required"
    )


async def test_a_job_is_shown_as_it_was_written(api: Api) -> None:
    made = await _make(api, "job", {**JOB, "max_nb_restart": 2, "max_duration_seconds": 60})
    assert (made["service_type"], made["job_type"]) == ("JOB", "LIFECYCLE")
    assert made["schedule"] == {"on_start": {"entrypoint": "python job.py", "arguments": ["--all"]}}
    assert list(made["source"]) == ["docker"]
    assert made["source"]["docker"]["git_repository"]["url"] == "https://example.org/job.git"
    assert (made["max_nb_restart"], made["max_duration_seconds"]) == (2, 60)


async def test_a_job_by_the_clock_is_a_cron_job(api: Api) -> None:
    timed = {"cronjob": {"scheduled_at": "5 4 * * *", "entrypoint": "run"}}
    made = await _make(api, "job", {**JOB, "schedule": timed})
    assert made["job_type"] == "CRON"
    assert made["schedule"]["cronjob"]["timezone"] == "Etc/UTC"


async def test_a_job_can_change_from_a_repository_to_an_image(api: Api) -> None:
    made = await _make(api, "job", JOB)
    image = {"registry_id": await _registry(api), "image_name": "tools/migrate", "tag": "3"}
    edited = await api("PUT", f"/job/{made['id']}", {**JOB, "source": {"image": image}})
    assert list(edited["source"]) == ["image"]
    assert edited["source"]["image"]["registry"]["url"] == "https://docker.io"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": {}}, "source: image or docker is expected"),
        ({"schedule": {}}, "schedule: either cronjob, or one of"),
        ({"schedule": {**START, "cronjob": {"scheduled_at": "* * * * *"}}}, "schedule: either cronjob"),
        ({"schedule": {"cronjob": {"scheduled_at": "often"}}}, "scheduled_at: five fields"),
        ({"schedule": {"on_start": {"entrypoint": "'open"}}}, "schedule.on_start.entrypoint: no closing"),
        ({"schedule": {"on_start": {"arguments": "x"}}}, "schedule.on_start.arguments: a list"),
        ({"max_nb_restart": -1}, "max_nb_restart: 0"),
        ({"max_duration_seconds": 0}, "max_duration_seconds: 1"),
        ({"port": 70000}, "port is a number"),
        ({"source": {"docker": {**GIT["docker"], "dockerfile_raw": "FROM x"}}}, "dockerfile_raw"),
    ],
)
async def test_a_job_that_breaks_a_rule_is_refused(changes: dict[str, Any], words: str, api: Api) -> None:
    await api.refused("POST", f"/environment/{api.environment}/job", {**JOB, **changes}, words=words)
    assert await api.results(f"/environment/{api.environment}/job") == []


async def test_a_container_is_shown_with_its_registry(api: Api) -> None:
    made = await _make(api, "container", await _container(api))
    assert (made["image_name"], made["tag"]) == ("library/nginx", "1.27")
    assert set(made["registry"]) == {"id", "name", "url", "kind"}
    edited = await api("PUT", f"/container/{made['id']}", {"tag": "1.28", "healthchecks": {}})
    assert (edited["image_name"], edited["tag"]) == ("library/nginx", "1.28")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"registry_id": UNKNOWN}, "no container registry"),
        ({"image_name": "--privileged"}, "image_name: '--privileged' is no image"),
        ({"tag": "a b"}, "tag: 'a b' is no tag"),
        ({"healthchecks": None}, "healthchecks"),
    ],
)
async def test_a_container_that_breaks_a_rule_is_refused(
    changes: dict[str, Any], words: str, api: Api
) -> None:
    body = {**await _container(api), **changes}
    await api.refused("POST", f"/environment/{api.environment}/container", body, words=words)


async def test_what_the_cluster_cannot_run_is_configuration_until_it_is_deployed(api: Api) -> None:
    made = await _make(api, "database", {**DATABASE, "mode": "MANAGED"})
    words = "cannot be deployed: managed databases"
    await api.refused("POST", f"/environment/{api.environment}/redeploy", words=words)
    plan = f"/refloat/environment/{api.environment}/plan"
    assert words in (await api("GET", plan))["refusal"]
    stage = (await api("GET", f"/service/{made['id']}/deploymentStage"))["id"]
    await api("PUT", f"/deploymentStage/{stage}/service/{made['id']}", {"is_skipped": True})
    await api.make_application("api")
    assert (await api("GET", plan))["refusal"] is None
    assert "nothing to stop" in (await api("GET", f"{plan}?action=stop"))["refusal"]
    await api("POST", f"/environment/{api.environment}/redeploy", expect=202)


async def test_a_name_is_taken_across_kinds(api: Api) -> None:
    await _make(api, "database", DATABASE)
    path = f"/environment/{api.environment}/job"
    await api.refused("POST", path, {**JOB, "name": "DB"}, status=409, words="'DB' is taken")


async def test_a_registry_never_shows_its_secret_and_stays_while_it_is_used(api: Api) -> None:
    path = f"/organization/{api.organization}/containerRegistry"
    body = await _container(api)
    shown = (await api.results(path))[0]
    assert shown["config"] == {"username": "u"} and "sesame" not in str(shown)
    await _make(api, "container", body)
    await api.refused("DELETE", f"{path}/{shown['id']}", status=409, words="hub is used by web")
    edited = await api("PUT", f"{path}/{shown['id']}", {**REGISTRY, "config": {"username": "v"}})
    assert edited["config"] == {"username": "v"} and edited["associated_services_count"] == 1
    await api.refused("POST", path, {**REGISTRY, "kind": "GENERIC_CR", "name": "x"}, words="url")
    await api.refused("POST", path, {**REGISTRY, "kind": "FLOPPY", "name": "x"}, words="kind")


async def test_variables_of_jobs_and_containers_have_their_own_scope(api: Api) -> None:
    job = await _make(api, "job", JOB)
    made = await api("POST", f"/job/{job['id']}/secret", {"key": "TOKEN", "value": "x"}, expect=201)
    assert (made["scope"], made["value"], made["service_type"]) == ("JOB", None, "JOB")
    body = {
        "key": "MODE",
        "value": "fast",
        "is_secret": False,
        "variable_scope": "JOB",
        "variable_parent_id": job["id"],
    }
    await api("POST", "/variable", body, expect=201)
    listed = await api.results(f"/job/{job['id']}/environmentVariable")
    assert {v["key"] for v in listed if v["scope"] == "JOB"} == {"MODE"}
