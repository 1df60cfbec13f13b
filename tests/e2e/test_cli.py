"""The command line against a real server with a simulated cluster."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.installation import TOKEN, Installation

_REFLOAT = str(Path(sys.executable).parent / "refloat")


class Shell:
    """Runs `refloat` as a person would, without a terminal."""

    def __init__(self, installation: Installation) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("REFLOAT_")}
        self._started: list[subprocess.Popen[str]] = []
        self.environ = {
            **kept,
            "REFLOAT_URL": f"http://127.0.0.1:{installation.port}/",
            "REFLOAT_TOKEN": TOKEN,
        }

    def start(self, *words: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [_REFLOAT, *words], env=self.environ, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )
        self._started.append(process)
        return process

    def on_a_terminal(self, *words: str) -> bytes:
        """What a terminal is sent."""
        ours, theirs = os.openpty()
        with open(ours, "rb", buffering=0) as terminal:
            subprocess.run([_REFLOAT, *words], env=self.environ, stdout=theirs, check=True)
            os.close(theirs)
            return terminal.read(10000)

    def end(self) -> None:
        """End what a failed test left running."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.communicate()

    def __call__(self, *words: str, expect: int = 0, stdin: str = "") -> str:
        """What it prints; on stderr if it is to fail before it prints anything else."""
        process = self.start(*words)
        out, err = process.communicate(stdin, timeout=90)
        assert process.returncode == expect, out + err
        assert "\x1b" not in out + err and "Traceback" not in err
        return out or err


@pytest.fixture
def installation(cleared: Installation) -> Installation:
    return cleared


@pytest.fixture
def shell(installation: Installation) -> Iterator[Shell]:
    made = Shell(installation)
    yield made
    made.end()


def simulated(installation: Installation, name: str, *scripts: str) -> str:
    """An environment on a simulated cluster, with one application for each script."""
    organization = installation.call("GET", "/organization")["results"][0]["id"]
    project = installation.call("GET", f"/organization/{organization}/project")["results"][0]["id"]
    clusters = f"/organization/{organization}/cluster"
    body: dict[str, str] = {"name": f"sim-{name}", "refloat_kind": "simulated"}
    there = [it for it in installation.call("GET", clusters)["results"] if it["name"] == body["name"]]
    made = there[0] if there else installation.call("POST", clusters, body)
    body = {"name": name, "cluster": made["id"]}
    environment = str(installation.call("POST", f"/project/{project}/environment", body)["id"])
    for number, script in enumerate(scripts):
        installation.application(environment, f"app{number}", f"https://example.org/a.git#{script}")
    return environment


def test_status_plan_redeploy_and_logs(installation: Installation, shell: Shell) -> None:
    environment = simulated(installation, "shop", "boot_seconds=0.2", "build_seconds=0.1")
    assert "NEVER_DEPLOYED" in shell("status", "shop")
    assert "was never deployed" in shell("logs", "shop", "--follow", expect=1)
    table = shell("plan", "shop")
    plan_hash = json.loads(shell("plan", environment, "--json"))["hash"]
    assert f"plan {plan_hash}\n" in table and "app0" in table and "start" in table
    stale = shell("redeploy", "shop", "--if-plan", "0123456789abcdef", expect=1)
    assert "is not what would be done now" in stale and "hint: read the plan again" in stale
    told = shell("redeploy", "shop", "--watch", "--if-plan", plan_hash)
    assert "→ app0  DEPLOYED" in told and told.splitlines()[-1].startswith("done: ")
    assert shell("status", "shop").count("UP_TO_DATE") == 3
    body = json.loads(shell("status", "shop", "--json"))
    assert body["environment"]["state"] == "DEPLOYED"
    assert {it["name"] for it in body["services"]} == {"app0", "app1"}
    assert all(it["url"].startswith(f"http://{it['name']}-") for it in body["services"])
    assert "deployment ended: done" in shell("logs", "shop")
    assert installation.last(environment)["auditing_data"]["origin"] == "CLI"


def test_following_as_json_is_one_object_a_line(installation: Installation, shell: Shell) -> None:
    simulated(installation, "shop", "")
    lines = [json.loads(line) for line in shell("redeploy", "shop", "--watch", "--json").splitlines()]
    assert lines[-1]["event"] == "end" and lines[-1]["exit_code"] == 0
    assert {"status", "log"} <= {line["event"] for line in lines}
    again = shell("logs", "shop", "--follow", "--json").splitlines()
    assert [json.loads(line)["event"] for line in again] == [line["event"] for line in lines]


def test_a_failure_is_told_with_its_reason_and_the_last_lines(
    installation: Installation, shell: Shell
) -> None:
    simulated(installation, "shop", "boot=exit")
    told = shell("redeploy", "shop", "--watch", expect=1)
    assert "failed: app0 is DEPLOYMENT_ERROR: " in told
    assert told.splitlines()[-1].startswith("  ")


@pytest.mark.usefixtures("interruptible")
def test_a_cancel_a_timeout_and_a_detach_have_their_codes(installation: Installation, shell: Shell) -> None:
    environment = simulated(installation, "shop", "build=hang")
    late = shell("redeploy", "shop", "--watch", "--timeout", "1", expect=3).splitlines()
    assert any("BUILDING" in line for line in late)
    process = shell.start("logs", "shop", "-f")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    resume = err.split("Follow it again: refloat ")[1].split()
    process = shell.start(*resume)
    installation.call("POST", f"/environment/{environment}/cancelDeployment", expect=202)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 2 and "canceled" in out.splitlines()[-1]


def test_a_watch_survives_the_server(breakable: Installation) -> None:
    installation, shell = breakable, Shell(breakable)
    simulated(installation, "shop", "build_seconds=3")  # a simulated world forgets what it started
    process = shell.start("redeploy", "shop", "--watch")
    assert process.stdout is not None
    while "BUILDING" not in process.stdout.readline():
        pass
    installation.kill()
    time.sleep(1)
    installation.start()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert out.splitlines()[-1].startswith("done: ") and out.count("BUILDING") == 0, out


def test_names_are_explained_and_errors_are_words(installation: Installation, shell: Shell) -> None:
    assert "there is no environment yet" in shell("status", "shop", expect=1)
    environment = simulated(installation, "shop")
    assert "hint: there is shop\n" in shell("status", "shap", expect=1)
    assert "no services yet" in shell("status", "shop")
    organization = installation.call("GET", "/organization")["results"][0]["id"]
    project = installation.call("POST", f"/organization/{organization}/project", {"name": "other"})["id"]
    other = installation.call("POST", f"/project/{project}/environment", {"name": "shop"})["id"]
    ambiguous = shell("plan", "shop", expect=1)
    assert environment in ambiguous and other in ambiguous and "use the id" in ambiguous
    shell.environ["REFLOAT_TOKEN"] = "wrong"
    unknown = shell("status", "shop", expect=1)
    assert "the token is unknown" in unknown and "hint: correct REFLOAT_TOKEN" in unknown


def test_tokens_are_made_with_a_role(installation: Installation, shell: Shell) -> None:
    simulated(installation, "shop", "")
    organization = installation.call("GET", "/organization")["results"][0]["id"]
    made = shell("token", "create", "ci", "--organization", organization, "--role", "viewer").strip()
    shell.environ["REFLOAT_TOKEN"] = made
    assert "shop" in shell("status", "shop")
    shell("redeploy", "shop", expect=1)


def test_a_token_needs_no_organization_to_be_named_where_there_is_only_one(
    installation: Installation, shell: Shell
) -> None:
    simulated(installation, "shop", "")
    shell.environ["REFLOAT_TOKEN"] = shell("token", "create", "pipeline").strip()
    assert "shop" in shell("status", "shop")


@pytest.mark.usefixtures("interruptible")
def test_what_an_application_prints_is_read_on_over_its_versions(
    installation: Installation, shell: Shell
) -> None:
    environment = simulated(installation, "shop", "")
    assert shell("logs", "shop", "--service", "app0") == ""
    installation.roll(environment)
    first = shell("logs", "shop", "--service", "app0")
    assert first.endswith("  app0 starts\n") and first == shell("logs", "shop", "--service", "app0")
    process = shell.start("logs", "shop", "--service", "app0", "--follow", "--timeout", "60")
    assert process.stdout is not None and process.stdout.readline() == first
    application = installation.call("GET", f"/environment/{environment}/application")["results"][0]["id"]
    installation.variable(application, "APPLICATION", "GREETING", "evening")
    installation.roll(environment)
    second = process.stdout.readline()
    assert second.endswith("  app0 starts\n") and second != first
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30) == ("", "\nrefloat: interrupted\n") and process.returncode == 130
    assert "has no service 'app'" in shell("logs", "shop", "--service", "app", expect=1)
    assert shell("logs", "shop", "--service", "app0", "-f", "--timeout", "0.1", expect=3)


def test_nobody_has_to_read_what_it_prints(installation: Installation, shell: Shell) -> None:
    """A closed output, one that is full, and a reader that has seen enough; the deployment goes on."""
    simulated(installation, "shop", "boot_seconds=0.3")

    def told(to: str, stdout: int | None = None) -> tuple[int, str]:
        script = f'exec "$0" redeploy shop --watch {to}'
        done = subprocess.run(
            ["sh", "-c", script, _REFLOAT],
            env=shell.environ,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )
        return done.returncode, done.stderr

    assert told(">&-") == (0, "")
    code, full = told(">/dev/full")
    assert code == 1 and full.startswith("refloat: No space left on device\n") and "ignored" not in full
    reader, writer = os.pipe()
    os.close(reader)
    assert told("", writer) == (141, "")
    os.close(writer)
    assert shell("logs", "shop", "--follow").endswith("done: no traffic\n")


def test_colours_are_for_terminals_that_want_them(installation: Installation, shell: Shell) -> None:
    simulated(installation, "shop", "")
    assert b"\x1b[" in shell.on_a_terminal("plan", "shop")
    shell.environ["NO_COLOR"] = "1"
    assert b"\x1b[" not in shell.on_a_terminal("plan", "shop")


def test_serve_says_in_one_line_that_its_place_is_taken(breakable: Installation) -> None:
    process = breakable.spawn()
    assert process.wait(timeout=30) == 1
    last = breakable.log.read_text().splitlines()[-1]
    assert last.startswith("refloat: another server runs on ") and "REFLOAT_DATA_DIR" in last


async def test_serve_says_that_its_port_is_taken(installation: Installation, folder: Path) -> None:
    (folder / "second").mkdir()
    second = Installation(folder / "second")
    second.port = installation.port
    second.process = second.spawn()
    try:
        assert second.process.wait(timeout=30) == 1
        assert "REFLOAT_PORT" in second.log.read_text().splitlines()[-1]
    finally:
        await second.remove()


def test_a_server_that_is_gone_is_4(breakable: Installation) -> None:
    breakable.kill()
    assert "does not answer" in Shell(breakable)("status", "shop", expect=4)
