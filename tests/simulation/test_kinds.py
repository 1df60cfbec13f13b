"""Jobs, databases and containers under every verb: what runs, what stays, what is refused."""

from typing import Any

import pytest

from tests.simulation.control_plane import ControlPlane

EVENTS = {
    "on_start": {"entrypoint": "run"},
    "on_stop": {"entrypoint": "run"},
    "on_delete": {"entrypoint": "run"},
}


async def _make(plane: ControlPlane, environment: str, kind: str, name: str, **body: Any) -> str:
    path = f"/environment/{environment}/{kind}"
    return str((await plane.call("POST", path, {"name": name, **body}, expect=201))["id"])


async def _registry(plane: ControlPlane) -> str:
    path = f"/organization/{await plane.organization()}/containerRegistry"
    body = {"name": "hub", "kind": "DOCKER_HUB", "config": {"username": "u", "password": "sesame"}}
    return str((await plane.call("POST", path, body, expect=201))["id"])


def _states(found: dict[str, Any]) -> dict[str, str]:
    kinds = ("applications", "containers", "databases", "jobs")
    return {s["id"]: s["state"] for kind in kinds for s in found[kind]}


async def _changes(plane: ControlPlane, environment: str) -> dict[str, str]:
    plan = await plane.call("GET", f"/refloat/environment/{environment}/plan")
    return {s["name"]: s["change"] for stage in plan["stages"] for s in stage["services"]}


# -- jobs


async def test_a_job_runs_once_at_every_deployment_and_never_else(plane: ControlPlane) -> None:
    environment = await plane.environment()
    job = await plane.job(environment, "migrate")
    for number in (1, 2):
        found = await plane.roll(environment)
        assert _states(found) == {job: "DEPLOYED"}
        assert set(plane.world.runs) == {f"{job}.{n}.deploy.1" for n in range(1, number + 1)}
    assert found["environment"]["deployment_status"] == "UP_TO_DATE"
    assert plane.world.running == {}


async def test_a_job_executes_in_its_stage_before_what_comes_after_it(plane: ControlPlane) -> None:
    environment = await plane.environment()
    job = await plane.job(environment, "migrate", "release_seconds=0.2")
    application = await plane.application(environment, "api")
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    found = await plane.until(environment, "EXECUTING")
    assert _states(found) == {job: "EXECUTING", application: "DEPLOYMENT_QUEUED"}
    assert found["environment"]["state"] == "DEPLOYING"
    assert set(_states(await plane.ended(environment)).values()) == {"DEPLOYED"}


@pytest.mark.parametrize(("verb", "event"), [("stop", "on_stop"), ("uninstall", "on_delete")])
async def test_a_job_runs_at_the_events_it_names_and_at_no_other(
    verb: str, event: str, plane: ControlPlane
) -> None:
    environment = await plane.environment()
    named = await plane.job(environment, "named", schedule={event: {"entrypoint": "run"}})
    every = await plane.job(environment, "every", schedule=EVENTS)
    other = await plane.job(environment, "other")
    await plane.roll(environment)
    assert {key.split(".")[0] for key in plane.world.runs} == {every, other}
    plane.world.runs.clear()
    await plane.roll(environment, verb)
    action = "stop" if verb == "stop" else "delete"
    assert set(plane.world.runs) == {f"{named}.2.{action}.1", f"{every}.2.{action}.1"}


async def test_a_failing_job_is_repeated_as_often_as_it_allows(plane: ControlPlane) -> None:
    environment = await plane.environment()
    good = await plane.job(environment, "good", "release=fail,fail,ok", max_nb_restart=2)
    assert _states(await plane.roll(environment)) == {good: "DEPLOYED"}
    assert sorted(plane.world.runs.values()) == [0, 1, 1]
    bad = await plane.job(environment, "bad", "release=fail", max_nb_restart=1)
    application = await plane.application(environment, "api")
    found = await plane.roll(environment)
    assert _states(found) == {good: "DEPLOYED", bad: "DEPLOYMENT_ERROR", application: "CANCELED"}
    history = (await plane.call("GET", f"/environment/{environment}/deploymentHistoryV2"))["results"]
    assert "bad: the job failed: it ended with exit code 1 (run 2 times)" in history[0]["reason"]


async def test_a_job_that_does_not_end_fails_and_nothing_of_it_is_left(plane: ControlPlane) -> None:
    environment = await plane.environment()
    job = await plane.job(environment, "endless", "release=hang", max_duration_seconds=1)
    assert _states(await plane.roll(environment)) == {job: "DEPLOYMENT_ERROR"}
    history = (await plane.call("GET", f"/environment/{environment}/deploymentHistoryV2"))["results"]
    assert "it did not end within 1 s" in history[0]["reason"]
    assert plane.world.executing == set()


async def test_a_job_that_is_canceled_ends_at_once(plane: ControlPlane) -> None:
    environment = await plane.environment()
    job = await plane.job(environment, "endless", "release=hang", max_duration_seconds=1000)
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    await plane.until(environment, "EXECUTING")
    body = {"force_cancel": True}
    await plane.call("POST", f"/environment/{environment}/cancelDeployment", body, expect=202)
    assert _states(await plane.ended(environment)) == {job: "CANCELED"}
    assert plane.world.executing == set() and plane.world.runs == {}


async def _executing(plane: ControlPlane) -> None:
    """Until a command runs."""

    async def look() -> bool:
        return bool(plane.world.executing)

    await plane.eventually(look)


async def test_a_job_goes_on_while_the_server_is_restarted_and_runs_once(plane: ControlPlane) -> None:
    environment = await plane.environment()
    job = await plane.job(environment, "migrate", "release_seconds=2")
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    await _executing(plane)
    (running,) = plane.world.commands.values()
    await plane.stop()
    await plane.start()
    assert _states(await plane.ended(environment)) == {job: "DEPLOYED"}
    assert running.task.done() and not running.task.cancelled()
    assert plane.world.runs == {f"{job}.1.deploy.1": 0}


async def test_a_job_that_is_canceled_while_no_server_works_is_ended_by_the_next(plane: ControlPlane) -> None:
    environment = await plane.environment()
    job = await plane.job(environment, "endless", "release=hang")
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    await _executing(plane)
    await plane.stop()
    await plane.call("POST", f"/environment/{environment}/cancelDeployment", expect=202)
    assert plane.world.executing
    await plane.start()
    assert _states(await plane.ended(environment)) == {job: "CANCELED"}
    assert plane.world.executing == set()


async def test_restarting_a_job_is_refused_and_restarting_beside_it_is_not(plane: ControlPlane) -> None:
    environment = await plane.environment()
    job = await plane.job(environment, "migrate")
    application = await plane.application(environment, "api")
    await plane.roll(environment)
    path = f"/environment/{environment}/service/restart-service"
    refusal = await plane.call("POST", path, {"job_ids": [job]}, expect=400)
    assert "a job cannot be restarted" in refusal["message"]
    await plane.call("POST", path, {"application_ids": [application]}, expect=202)
    assert _states(await plane.ended(environment))[application] == "RESTARTED"


# -- databases


async def test_a_database_runs_on_while_nothing_of_it_changes(plane: ControlPlane) -> None:
    environment = await plane.environment()
    database = await plane.database_service(environment)
    assert _states(await plane.roll(environment)) == {database: "DEPLOYED"}
    path = f"/environment/{environment}/environmentVariable"
    await plane.call("POST", path, {"key": "A", "value": "1"}, expect=201)
    assert await _changes(plane, environment) == {"db": "skip"}
    await plane.roll(environment)
    assert set(plane.world.running) == {f"{database}.1"}


async def test_a_changed_database_ends_before_the_new_one_starts(plane: ControlPlane) -> None:
    environment = await plane.environment()
    database = await plane.database_service(environment)
    await plane.roll(environment)
    await plane.call("PUT", f"/database/{database}", {"cpu": 600})
    assert await _changes(plane, environment) == {"db": "recreate"}
    await plane.roll(environment)
    journal = (await plane.call("GET", f"/refloat/environment/{environment}/journal"))["results"]
    assert [step["step"] for step in journal] == ["stop", "prepare", "ready", "verify"]
    assert {key for key, it in plane.world.running.items() if not it.stopped} == {f"{database}.2"}


async def test_the_version_of_data_that_are_there_cannot_change(plane: ControlPlane) -> None:
    environment = await plane.environment()
    database = await plane.database_service(environment)
    await plane.call("PUT", f"/database/{database}", {"version": "15"})
    await plane.roll(environment)
    refusal = await plane.call("PUT", f"/database/{database}", {"version": "16"}, expect=400)
    assert "the data of db are of version 15" in refusal["message"] and "dump" in refusal["hint"]
    await plane.call("PUT", f"/database/{database}", {"version": "15.4"})


async def test_credentials_are_for_who_may_change_the_database_and_never_change(plane: ControlPlane) -> None:
    environment = await plane.environment()
    database = await plane.database_service(environment)
    before = await plane.call("GET", f"/database/{database}/masterCredentials")
    assert set(before) == {"host", "port", "login", "password"} and len(before["password"]) >= 24
    await plane.roll(environment)
    assert await plane.call("GET", f"/database/{database}/masterCredentials") == before
    for body in (await plane.call("GET", f"/database/{database}"), await plane.statuses(environment)):
        assert before["password"] not in str(body)


# -- containers


async def test_a_container_is_rolled_by_its_tag(plane: ControlPlane) -> None:
    environment = await plane.environment()
    container = await _make(
        plane,
        environment,
        "container",
        "web",
        registry_id=await _registry(plane),
        image_name="library/nginx",
        tag="1.0",
        ports=[{"internal_port": 80, "publicly_accessible": True}],
        healthchecks={},
    )
    assert _states(await plane.roll(environment)) == {container: "DEPLOYED"}
    assert plane.world.running[f"{container}.1"].revision.artifact.location == "docker.io/library/nginx:1.0"
    body = {"containers": [{"id": container, "image_tag": "2.0"}]}
    await plane.call("POST", f"/environment/{environment}/service/deploy", body, expect=202)
    await plane.ended(environment)
    assert plane.world.routes[container][0] == f"{container}.2"
    assert (await plane.call("GET", f"/container/{container}"))["tag"] == "2.0"
    journal = (await plane.call("GET", f"/refloat/environment/{environment}/journal"))["results"]
    assert "build" not in [step["step"] for step in journal]


async def test_a_version_must_fit_the_source(plane: ControlPlane) -> None:
    environment = await plane.environment()
    application = await plane.application(environment, "api")
    database = await plane.database_service(environment)
    job = await plane.job(environment, "migrate")
    path = f"/environment/{environment}/service/deploy"
    for body, words in (
        ({"jobs": [{"id": job, "image_tag": "1"}]}, "migrate does not run an image"),
        ({"jobs": [{"id": job}]}, "migrate was never deployed: a version is needed"),
        ({"containers": [{"id": database, "image_tag": "1"}]}, "db does not run an image"),
        ({"applications": [{"application_id": application}]}, "api was never deployed"),
    ):
        refusal = await plane.call("POST", path, body, expect=400)
        assert words in refusal["message"]


# -- scripts


@pytest.mark.parametrize(
    ("script", "verb", "state"),
    [
        ("build=fail", "deploy", "BUILD_ERROR"),
        ("boot=exit", "deploy", "DEPLOYMENT_ERROR"),
        ("answer=none", "deploy", "DEPLOYMENT_ERROR"),
        ("boot=exit", "restart-service", "RESTART_ERROR"),
        ("stop=fail", "stop", "STOP_ERROR"),
        ("destroy=fail", "uninstall", "DELETE_ERROR"),
    ],
)
async def test_a_script_makes_the_next_deployment_of_a_service_end_as_told(
    script: str, verb: str, state: str, plane: ControlPlane
) -> None:
    environment = await plane.environment()
    application = await plane.application(environment, "api")
    await plane.roll(environment)
    await plane.call("PUT", f"/refloat/service/{application}/simulation", {"script": script})
    body = {"git_commit_id": "b" * 40} if verb == "deploy" else None
    await plane.call("POST", f"/application/{application}/{verb}", body, expect=202)
    assert _states(await plane.ended(environment)) == {application: state}
    await plane.call("PUT", f"/refloat/service/{application}/simulation", {"script": ""})
    assert _states(await plane.roll(environment)) == {application: "DEPLOYED"}


async def test_a_script_that_cannot_be_read_is_refused(plane: ControlPlane) -> None:
    environment = await plane.environment()
    application = await plane.application(environment, "api")
    path = f"/refloat/service/{application}/simulation"
    refusal = await plane.call("PUT", path, {"script": "boot=explode"}, expect=400)
    assert "boot cannot be 'explode'" in refusal["message"]
