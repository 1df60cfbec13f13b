"""Every verb and noun of the command line against a real server with a simulated cluster."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.installation import Installation, Repository
from tests.e2e.test_cli import Shell, simulated


@pytest.fixture
def installation(cleared: Installation) -> Installation:
    return cleared


@pytest.fixture
def shell(installation: Installation) -> Iterator[Shell]:
    made = Shell(installation)
    yield made
    made.end()


def reading(shell: Shell, *words: str) -> Any:
    return json.loads(shell(*words, "--json"))


def test_deploy_stop_restart_cancel_and_history(installation: Installation, shell: Shell) -> None:
    simulated(installation, "shop", "boot_seconds=0.1", "")
    assert "was never deployed" in shell("history", "shop")
    assert "done: " in shell("deploy", "shop", "--watch")
    assert "done: " in shell("restart", "shop", "app1", "--watch")
    assert "app0" not in json.dumps(reading(shell, "history", "shop")["results"][0])
    shell("stop", "shop", "app0", "--watch")
    states = {line.split()[2]: line.split()[3] for line in shell("status", "shop").splitlines()[2:]}
    assert states == {"app0": "STOPPED", "app1": "RESTARTED"}
    shell("stop", "shop", "--watch")
    assert "nothing to stop" in shell("stop", "shop", expect=1)
    rows = shell("history", "shop").splitlines()
    assert [row.split()[3] for row in rows[1:]] == ["STOP", "STOP", "RESTART", "DEPLOY"]
    assert "LONGEST" in rows[0]
    assert rows[1].startswith("4 ") and "STOPPED" in rows[1]
    assert len(shell("history", "shop", "--limit", "1").splitlines()) == 2
    assert "nothing to cancel" in shell("cancel", "shop", expect=1)


def test_cancel_ends_what_runs(installation: Installation, shell: Shell) -> None:
    simulated(installation, "shop", "build=hang")
    assert "shop was never deployed" in shell("explain", "shop", expect=1)
    shell("redeploy", "shop")
    assert "refloat explain shop" in shell("status", "shop")
    assert reading(shell, "explain", "shop")["situation"] in ("next", "running")
    assert "shop is CANCEL" in shell("cancel", "shop")
    assert installation.ended(reading(shell, "env", "list")[0]["id"])["state"] == "CANCELED"
    told = shell("explain", "shop", "--version", reading(shell, "explain", "shop")["deployment_request_id"])
    assert "deployment 1 (redeploy by admin) ended: canceled" in told
    assert "s, in this order:" in told and "build of app0 (canceled)" in told
    assert "refloat explain" not in shell("status", "shop")
    assert shell("explain", "shop", "--version", "1") == told
    assert shell("logs", "shop", "--version", "1") == shell("logs", "shop")
    assert "no deployment" in shell("logs", "shop", "--version", "2", expect=1)


def test_actions_as_json_are_the_servers_own_bodies(installation: Installation, shell: Shell) -> None:
    environment = simulated(installation, "shop", "")
    for words in (("deploy", "shop"), ("restart", "shop"), ("stop", "shop")):
        assert reading(shell, *words)["id"] == environment
        installation.ended(environment)


def test_a_service_that_is_not_there_is_named_with_those_that_are(
    installation: Installation, shell: Shell
) -> None:
    simulated(installation, "shop", "", "")
    refused = shell("deploy", "shop", "app9", expect=1)
    assert "shop has no service 'app9'" in refused and "there is app0, app1" in refused
    assert "--commit is for one service" in shell("deploy", "shop", "--commit", "abc", expect=64)
    simulated(installation, "empty")
    assert "empty has no service" in shell("deploy", "empty", expect=1)


def test_a_plan_of_every_action_is_shown(installation: Installation, shell: Shell) -> None:
    simulated(installation, "shop", "")
    shell("deploy", "shop", "--watch")
    assert "skip" in shell("plan", "shop")
    assert " stop " in shell("plan", "shop", "--action", "stop")
    assert "do exactly this" not in shell("plan", "shop", "--action", "restart")
    shell("plan", "shop", "--action", "paint", expect=64)


def test_redeploy_says_what_a_branch_has_that_is_not_deployed_and_deploy_takes_it(
    installation: Installation, shell: Shell, folder: Path
) -> None:
    repository = Repository(folder / "repository")
    environment = installation.environment("shop")
    installation.application(environment, "web", repository.url)
    assert "ahead" not in shell("redeploy", "shop", "--watch")
    first = repository.commit({"note": "1"})
    repository.commit({"note": "2"})
    told = shell("redeploy", "shop", "--watch").splitlines()[-1]
    assert "2 commits ahead of what is deployed" in told and "refloat deploy shop web" in told
    shell("deploy", "shop", "web", "--commit", first[:8], "--watch")
    assert "1 commit ahead" in shell("redeploy", "shop", "--watch")
    shell("deploy", "shop", "--watch")
    assert "ahead" not in shell("redeploy", "shop", "--watch")


def test_redeploy_says_of_a_job_too_that_its_branch_is_ahead(
    installation: Installation, shell: Shell, folder: Path
) -> None:
    """A migration that stays at its old commit while the application goes on is easily overlooked."""
    repository = Repository(folder / "repository")
    environment = installation.environment("shop")
    job = {
        "name": "migrate",
        "healthchecks": {},
        "source": {"docker": {"git_repository": {"url": repository.url}}},
        "schedule": {"on_start": {"entrypoint": "true"}},
    }
    installation.call("POST", f"/environment/{environment}/job", job)
    assert "ahead" not in shell("redeploy", "shop", "--watch")
    repository.commit({"note": "1"})
    told = shell("redeploy", "shop", "--watch").splitlines()[-1]
    assert told.startswith("migrate: ") and "1 commit ahead" in told and "refloat deploy shop migrate" in told


def test_a_commit_that_only_a_clone_can_name_is_refused_and_changes_nothing(
    installation: Installation, shell: Shell
) -> None:
    simulated(installation, "shop", "")
    for name in ("HEAD", "HEAD~2", "main^", "@{yesterday}"):
        refused = shell("deploy", "shop", "app0", "--commit", name, expect=64)
        assert f"git rev-parse {shlex.quote(name)}" in refused
    assert "was never deployed" in shell("logs", "shop", "--follow", expect=1)


def test_variables_are_set_listed_and_unset(installation: Installation, shell: Shell) -> None:
    simulated(installation, "shop", "")
    told = shell("var", "set", "shop", "GREETING=a=b", "EMPTY=")
    assert "GREETING is set" in told and "refloat redeploy shop" in told
    assert "GREETING is changed" in shell("var", "set", "shop", "GREETING=c")
    again = shell("var", "set", "shop", "GREETING=c")
    assert "GREETING is unchanged" in again and "redeploy" not in again
    shell("var", "set", "shop", "OWN=x", "--service", "app0")
    own = {it["key"]: it for it in reading(shell, "var", "list", "shop", "--service", "app0")}
    assert own["GREETING"]["value"] == "c" and own["OWN"]["scope"] == "APPLICATION"
    assert "OWN" not in shell("var", "list", "shop")
    assert "GREETING is unset" in shell("var", "unset", "shop", "GREETING")
    refused = shell("var", "unset", "shop", "GREETING", expect=1)
    assert "has no variable 'GREETING' of its own" in refused and "EMPTY" in refused
    assert "KEY=VALUE" in shell("var", "set", "shop", "GREETING", expect=64)
    assert "is not a variable name" in shell("var", "set", "shop", "1=x", expect=1)


def test_a_secret_is_read_from_standard_input_and_never_shown(
    installation: Installation, shell: Shell
) -> None:
    simulated(installation, "shop", "")
    assert "TOKEN is set" in shell("secret", "set", "shop", "TOKEN", stdin="hidden\n")
    assert "TOKEN is changed" in shell("secret", "set", "shop", "TOKEN", stdin="hidden2")
    listed = shell("var", "list", "shop")
    assert "(secret)" in listed and "hidden" not in listed
    assert "TOKEN is a secret" in shell("var", "set", "shop", "TOKEN=x", expect=1)
    assert "give the key only" in shell("secret", "set", "shop", "TOKEN=hidden", expect=64)
    assert "nothing was piped in" in shell("secret", "set", "shop", "TOKEN", expect=64)


def test_environments_are_made_cloned_listed_and_deleted(installation: Installation, shell: Shell) -> None:
    assert "no environment yet" in shell("env", "list")
    assert "one is made" in shell("env", "create", "one", "--mode", "staging")
    assert "no project 'nope'" in shell("env", "create", "x", "--project", "nope", expect=1)
    assert "no cluster 'nope'" in shell("env", "create", "x", "--cluster", "nope", expect=1)
    simulated(installation, "shop", "")
    shell("deploy", "shop", "--watch")
    copy = reading(shell, "env", "clone", "shop", "shop2", "--mode", "production")
    assert copy["mode"] == "PRODUCTION"
    assert "is taken" in shell("env", "clone", "shop", "shop2", expect=1)
    listed = shell("env", "list")
    assert listed.count("default/default/") == 3 and "NEVER_DEPLOYED" in listed and "sim-shop" in listed
    shell("deploy", "shop2", "--watch")
    assert "say --yes" in shell("env", "delete", "shop2", expect=64)
    shell("env", "delete", "shop2", "--yes", "--watch")
    assert "shop2" not in shell("env", "list")
    assert "one is DELETED" in shell("env", "delete", "one", "--yes")
    assert "no environment 'one'" in shell("env", "delete", "one", "--yes", expect=1)


def test_a_rollback_goes_to_the_last_deployment_that_was_otherwise(
    installation: Installation, shell: Shell
) -> None:
    environment = simulated(installation, "shop", "")
    assert "no earlier deployment" in shell("rollback", "shop", expect=1)
    shell("redeploy", "shop", "--watch")
    assert "no earlier deployment" in shell("rollback", "shop", expect=1)
    shell("var", "set", "shop", "GREETING=evening")
    for _ in range(2):  # the second changes nothing, so nobody means it
        shell("redeploy", "shop", "--watch")
    plan = shell("plan", "shop", "--action", "rollback").splitlines()
    assert plan[0].startswith("back to 1, of ") and any("variable.GREETING" in line for line in plan)
    command = plan[-1].removeprefix("do exactly this: refloat ").split()
    assert command[:4] == ["rollback", "shop", "--to", f"{environment}-1"]
    told = shell(*command)
    assert "→ app0  DEPLOYED" in told and told.splitlines()[-1].startswith("done: ")
    assert "OUT_OF_DATE" in shell("status", "shop")


def test_redeploy_and_rollback_show_their_plan_and_do_exactly_it(
    installation: Installation, shell: Shell
) -> None:
    simulated(installation, "shop", "")
    for value in ("morning", "evening"):
        shell("var", "set", "shop", f"GREETING={value}")
        plan = shell("redeploy", "shop", "--plan")
        assert plan == shell("plan", "shop") and len(shell("history", "shop").splitlines()) < 3
        assert "done: " in shell(*plan.splitlines()[-1].removeprefix("do exactly this: refloat ").split())
    plan = shell("rollback", "shop", "--plan")
    assert plan == shell("plan", "shop", "--action", "rollback") and plan.startswith("back to 1, of ")
    assert reading(shell, "rollback", "shop", "--plan")["hash"] in plan
    assert "done: " in shell(*plan.splitlines()[-1].removeprefix("do exactly this: refloat ").split())
    for words in (("--watch",), ("--if-plan", "x"), ("--timeout", "3")):
        for verb in ("redeploy", "rollback"):
            assert "--plan shows the plan" in shell(verb, "shop", "--plan", *words, expect=64)
    late = shell("rollback", "shop", "--if-plan", "0123456789abcdef", expect=1)
    assert "hint: read the plan again" in late


def test_the_only_environment_needs_no_name(installation: Installation, shell: Shell) -> None:
    assert "there is no environment yet" in shell("status", expect=1)
    simulated(installation, "shop", "")
    assert "shop was never deployed" in shell("explain", expect=1)
    assert "app0" in shell("redeploy", "--plan") and "done: " in shell("redeploy", "--watch")
    for verb in ("deploy", "restart", "stop"):
        assert "done: " in shell(verb, "--watch")
    assert "app0" in shell("status") and "STOPPED" in shell("history") and shell("logs")
    assert "QOVERY_ENVIRONMENT_ID" in shell("var", "list")
    assert "nothing to cancel" in shell("cancel", expect=1) and "back to" in shell("rollback", "--plan")


def test_of_several_environments_none_is_guessed(installation: Installation, shell: Shell) -> None:
    simulated(installation, "shop", "")
    organization = installation.call("GET", "/organization")["results"][0]["id"]
    project = installation.call("POST", f"/organization/{organization}/project", {"name": "other"})["id"]
    try:
        installation.call("POST", f"/project/{project}/environment", {"name": "shop"})
        told = shell("stop", expect=64)
        assert "which environment? There are 2: " in told and "/other/shop" in told
        named = told.split("as in: refloat stop ")[1].strip()
        assert "nothing to stop" in shell("stop", named, expect=1)
        for number in range(10):
            installation.call("POST", f"/project/{project}/environment", {"name": f"more{number}"})
        assert "There are 12: " in shell("stop", expect=64)
        assert "and 2 more (refloat env list)" in shell("stop", expect=64)
    finally:
        for there in installation.call("GET", f"/project/{project}/environment")["results"]:
            installation.call("DELETE", f"/environment/{there['id']}")
        installation.call("DELETE", f"/project/{project}")


def test_a_rollback_goes_to_a_deployment_that_is_named(installation: Installation, shell: Shell) -> None:
    simulated(installation, "shop", "")
    shell("redeploy", "shop", "--watch")
    for value in ("noon", "evening"):
        shell("var", "set", "shop", f"GREETING={value}")
        shell("redeploy", "shop", "--watch")
    told = shell("rollback", "shop", "--to", "1", "--watch")
    assert told.startswith("back to ") and told.splitlines()[-1].startswith("done: ")
    assert "no deployment" in shell("rollback", "shop", "--to", "77", expect=1)
    assert "--to needs --action rollback" in shell("plan", "shop", "--to", "1", expect=64)
    late = shell("rollback", "shop", "--to", "2", "--if-plan", "0123456789abcdef", expect=1)
    assert "hint: read the plan again" in late


def test_after_a_failure_a_rollback_goes_to_the_last_one_that_ended_well(
    installation: Installation, shell: Shell
) -> None:
    simulated(installation, "shop", "boot=ok,ok,exit")
    for value, code in (("morning", 0), ("noon", 0), ("evening", 1)):
        shell("var", "set", "shop", f"GREETING={value}")
        shell("redeploy", "shop", "--watch", expect=code)
    assert shell("plan", "shop", "--action", "rollback").startswith("back to 2, of ")
