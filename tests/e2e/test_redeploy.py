"""The seed call on this machine: what runs, what is replaced, what is left alone."""

from pathlib import Path

from tests.e2e.installation import APP, Installation, Repository


def test_a_redeploy_replaces_what_changed_and_nothing_else(installation: Installation, folder: Path) -> None:
    repository = Repository(folder / "git")
    environment = installation.environment()
    one = installation.application(environment, "one", repository.url)
    two = installation.application(environment, "two", repository.url)
    greeting = installation.variable(one, "APPLICATION", "GREETING", "morning")
    assert installation.roll(environment)["state"] == "DEPLOYED"
    assert installation.get(one).text == "morning"
    installation.edit_variable(greeting, "GREETING", "evening")
    assert installation.status(environment)["deployment_status"] == "OUT_OF_DATE"
    assert installation.get(one).text == "morning"
    assert installation.roll(environment)["deployment_status"] == "UP_TO_DATE"
    assert installation.get(one).text == "evening"
    services = installation.last(environment)["stages"][0]["services"]
    assert {s["identifier"]["name"]: s["change"] for s in services} == {"one": "replace", "two": "skip"}
    assert installation.get(two).text == "hello"


def test_a_redeploy_keeps_the_pinned_commit_and_service_deploy_moves_it(
    installation: Installation, folder: Path
) -> None:
    repository = Repository(folder / "git")
    environment = installation.environment()
    application = installation.application(environment, "api", repository.url)
    installation.roll(environment)
    commit = repository.commit({"app.py": APP.replace('"hello"', '"newer"')})
    installation.roll(environment)
    assert installation.get(application).text == "hello"
    body = {"applications": [{"application_id": application, "git_commit_id": commit}]}
    installation.call("POST", f"/environment/{environment}/service/deploy", body, expect=202)
    assert installation.ended(environment)["state"] == "DEPLOYED"
    assert installation.get(application).text == "newer"
    installation.roll(environment)
    assert installation.get(application).text == "newer"


def test_stop_start_restart_and_delete_do_what_they_say(installation: Installation, folder: Path) -> None:
    repository = Repository(folder / "git")
    environment = installation.environment()
    application = installation.application(environment, "api", repository.url)
    installation.roll(environment)
    installation.call("POST", f"/application/{application}/restart-service", expect=202)
    assert installation.ended(environment)["last_deployment_state"] == "RESTARTED"
    assert installation.get(application).status_code == 200
    assert installation.roll(environment, "stop")["state"] == "STOPPED"
    assert installation.get(application).status_code == 503
    installation.call("POST", f"/environment/{environment}/stop", expect=400)
    assert installation.roll(environment)["state"] == "DEPLOYED"
    assert installation.get(application).status_code == 200
    installation.call("DELETE", f"/environment/{environment}", expect=204)
    from tests.e2e.installation import eventually

    eventually(lambda: installation.api.get(f"/environment/{environment}").status_code == 404)
    assert not list((installation.node / "services").glob("*/releases/*"))


def test_a_secret_is_seen_by_the_application_and_nowhere_else(
    installation: Installation, folder: Path
) -> None:
    repository = Repository(folder / "git")
    environment = installation.environment()
    application = installation.application(environment, "api", repository.url)
    secret = "s3cret-of-the-test"
    installation.variable(environment, "ENVIRONMENT", "GREETING", secret, secret=True)
    installation.roll(environment)
    assert installation.get(application).text == secret
    assert secret not in installation.api.get(f"/variable?parent_id={environment}&scope=ENVIRONMENT").text
    assert secret not in installation.log_text(environment)
    database = b"".join(p.read_bytes() for p in installation.data.glob("refloat.db*"))
    assert secret.encode() not in database
