"""The first hour on the command line: from a folder to something that answers, and back to nothing."""

import json
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from refloat.supervisor.processes import LocalSupervisor
from tests.e2e.installation import APP, Installation, Repository
from tests.e2e.machine import Machine, footprint


@pytest.fixture
def machine(folder: Path) -> Iterator[Machine]:
    made = Machine(folder)
    yield made
    made.clean()


@pytest.fixture
def app(folder: Path) -> Path:
    """A folder without git."""
    path = folder / "web"
    path.mkdir()
    (path / "app.py").write_text(APP)
    return path


def answer(url: str) -> str:
    return httpx.get(url, timeout=10, trust_env=False).text


def test_a_folder_without_git_is_up_with_one_command_and_again_with_its_change(
    machine: Machine, app: Path
) -> None:
    told = machine("up", cwd=app)
    assert f"started a server on {machine.data}" in told
    assert f"http://127.0.0.1:{machine.port}" in told and str(machine.data / "admin.token") in told
    internal = next(
        word
        for word in told.split()
        if word.startswith("http://127.0.0.1:") and str(machine.port) not in word
    )
    assert answer(internal) == "hello"
    assert "nothing changed: web runs this commit" in machine("up", cwd=app)
    assert "nothing changed" in machine("up", cwd=app, HOME=str(app / "app.py"))
    (app / "app.py").write_text(APP.replace('"hello"', '"changed"'))
    machine("up", cwd=app)
    assert answer(internal) == "changed"
    last = json.loads(machine("up", str(app), "--env", "GREETING=set", "--json").splitlines()[-1])
    assert last["event"] == "up" and last["changed"] and last["internal_url"] == internal
    assert answer(internal) == "set"
    again = json.loads(machine("up", str(app), "--env", "GREETING=set", "--json"))
    assert not again["changed"] and again["exit_code"] == 0


def test_a_repository_is_deployed_with_its_uncommitted_changes_and_not_touched(
    machine: Machine, folder: Path
) -> None:
    repository = Repository(folder / "shop", {"app.py": APP, ".gitignore": "app.log\n"})
    (repository.folder / "app.py").write_text(APP.replace('"hello"', '"uncommitted"'))
    (repository.folder / "app.log").write_text("ignored")
    before = footprint(repository.folder)
    told = json.loads(machine("up", "--json", cwd=repository.folder).splitlines()[-1])
    assert answer(told["internal_url"]) == "uncommitted"
    assert footprint(repository.folder) == before
    assert footprint(machine.home).keys() <= {".config", ".config/refloat", ".config/refloat/context.json"}


def test_later_commands_of_any_shell_find_the_server(machine: Machine, app: Path) -> None:
    machine("up", "--detach", cwd=app)
    file = machine.home / ".config/refloat/context.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for name in machine.settings:
        del machine.environ[name]
    assert "web" in machine("status", "web")
    assert machine("token").strip() == (machine.data / "admin.token").read_text().strip()
    assert f"nothing changed: {app.name}" in machine("up", cwd=app) + machine("up", cwd=app)
    before = (machine.data / "refloat.lock").read_text()
    assert "runs anew; applications went on" in machine("service", "restart")
    assert (machine.data / "refloat.lock").read_text() != before
    assert f"nothing changed: {app.name}" in machine("up", cwd=app)
    doctor = machine("doctor")
    assert "runs as process" in doctor and f"serves port {machine.http_port}" in doctor
    machine("down")
    assert not file.exists()


async def test_down_leaves_nothing_that_was_not_there_before(
    machine: Machine, app: Path, folder: Path
) -> None:
    before = {p: v for p, v in footprint(folder).items() if not p.startswith("machine")}
    node = LocalSupervisor(machine.data / "node").node
    machine("up", cwd=app)
    assert of_node(machine, node)
    assert "ended    the server" in machine("down")
    assert of_node(machine, node) == []
    after = {p: v for p, v in footprint(folder).items() if not p.startswith("machine")}
    assert after.keys() - before.keys() <= {"home/.config"}
    assert {p: v for p, v in after.items() if p in before and "home" not in p} == {
        p: v for p, v in before.items() if "home" not in p
    }
    assert "nothing ran" in machine("down")


def of_node(machine: Machine, node: str) -> list[str]:
    """Processes and control groups that belong to the installation."""
    found = []
    marks = (f"REFLOAT_NODE={node}".encode(), os.fsencode(machine.data))
    for process in Path("/proc").glob("[0-9]*"):
        try:
            text = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
        except OSError:
            continue
        if any(mark in text for mark in marks):
            found.append(process.name)
    return found + [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/refloat/{node}.*")]


def test_down_ends_applications_whose_server_is_gone_and_a_stop_stays_a_stop(
    machine: Machine, app: Path
) -> None:
    told = json.loads(machine("up", "--json", cwd=app).splitlines()[-1])
    machine("down")
    with pytest.raises(httpx.TransportError):
        answer(told["internal_url"])
    machine("up", cwd=app)
    assert answer(told["internal_url"]) == "hello"
    pid = int((machine.data / "refloat.lock").read_text())
    os.kill(pid, 9)
    assert answer(told["internal_url"]) == "hello"
    assert "that still ran" in machine("down")
    with pytest.raises(httpx.TransportError):
        answer(told["internal_url"])


def test_purge_deletes_the_data_directory_only_after_a_yes(machine: Machine, app: Path) -> None:
    machine("up", "--detach", cwd=app)
    assert "say --yes" in machine("down", "--purge", expect=64)
    assert machine.data.exists()
    assert f"deleted  {machine.data}" in machine("down", "--purge", "--yes")
    assert not machine.data.exists()
    assert "there is no data directory" in machine("down", expect=1)


def test_purge_refuses_a_folder_that_is_not_its_own(machine: Machine, app: Path) -> None:
    refused = machine("down", "--purge", "--yes", expect=1, REFLOAT_DATA_DIR=str(app))
    assert "does not look like a data directory" in refused and (app / "app.py").exists()


def test_two_folders_of_one_name_do_not_replace_each_other(machine: Machine, app: Path, folder: Path) -> None:
    machine("up", "--detach", cwd=app)
    other = folder / "other" / "web"
    other.mkdir(parents=True)
    (other / "index.html").write_text("other")
    refused = machine("up", cwd=other, expect=1)
    assert f"has a service 'web' already, from {app}\n" in refused and "--environment" in refused
    assert "moved" not in refused
    moved = app.rename(folder / "moved")
    refused = machine("up", "--name", "web", cwd=moved, expect=1)
    assert "if that folder was moved here, delete what it left: refloat env delete" in refused
    moved.rename(app)
    told = json.loads(machine("up", "--environment", "second", "--json", cwd=other).splitlines()[-1])
    assert answer(told["internal_url"]) == "other"
    assert machine("status", cwd=app) == machine("status", "web")
    (other / "deep/er").mkdir(parents=True)
    assert machine("status", cwd=other / "deep/er") == machine("status", "second")
    assert "which environment? There are 2: " in machine("status", expect=64)


def test_a_server_that_does_not_start_says_its_last_words(machine: Machine, app: Path) -> None:
    failed = machine("up", cwd=app, expect=1, REFLOAT_CADDY="/nowhere/caddy")
    assert "REFLOAT_CADDY is '/nowhere/caddy'" in failed and "server.log" in failed
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", machine.http_port))
        taken.listen()
        failed = machine("up", cwd=app, expect=1)
    assert f"port {machine.http_port}" in failed and "REFLOAT_HTTP_PORT" in failed


def test_a_port_of_something_else_is_named_with_a_free_one(machine: Machine, app: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", machine.port))
        taken.listen()
        closing = threading.Thread(target=lambda: taken.accept()[0].close())
        closing.start()
        failed = machine("up", cwd=app, expect=1)
        closing.join()
    assert f"port {machine.port} is used by something that is not Refloat" in failed
    assert "REFLOAT_PORT=" in failed


def test_the_port_of_another_server_is_not_taken_for_ours(
    machine: Machine, app: Path, installation: Installation
) -> None:
    failed = machine("up", cwd=app, expect=1, REFLOAT_PORT=str(installation.port))
    assert "is not the one of" in failed and "REFLOAT_URL" in failed
    assert "by REFLOAT_PORT=" in failed
    taken = str(installation.port)
    failed = machine("up", cwd=app, expect=1, REFLOAT_PORT=taken, REFLOAT_HTTP_PORT=taken)
    words = failed.split("start a second one by ")[1].split(" refloat up")[0].split()
    assert [word.partition("=")[0] for word in words] == ["REFLOAT_HTTP_PORT", "REFLOAT_PORT"]
    assert len({taken, *(word.partition("=")[2] for word in words)}) == 3


def test_a_git_address_is_deployed_by_a_server_that_is_named(
    machine: Machine, installation: Installation, folder: Path
) -> None:
    repository = Repository(folder / "shop")
    named = {
        "REFLOAT_URL": f"http://127.0.0.1:{installation.port}",
        "REFLOAT_TOKEN": installation.environ()["REFLOAT_ADMIN_TOKEN"],
    }
    told = json.loads(machine("up", repository.url, "--json", **named).splitlines()[-1])
    assert answer(told["internal_url"]) == "hello" and told["application"] == "shop"
    repository.commit({"app.py": APP.replace('"hello"', '"next"')})
    machine("up", repository.url, **named)
    assert answer(told["internal_url"]) == "next"
    assert "nothing changed" in machine("up", repository.url, **named)
    repository.branch("other", {"app.py": APP.replace('"hello"', '"branch"')})
    machine("up", repository.url, "--branch", "other", **named)
    assert answer(told["internal_url"]) == "branch"
    assert "has no branch 'nope'" in machine("up", repository.url, "--branch", "nope", expect=1, **named)
    machine("up", repository.url, **named)
    assert answer(told["internal_url"]) == "branch"
    assert not machine.data.exists() and not (machine.home / ".config").exists()


def test_an_application_below_the_root_of_a_repository_is_named_by_its_path(
    machine: Machine, installation: Installation, folder: Path
) -> None:
    files = {"services/api/app.py": APP, "services/web/index.html": "the site", "README": "words"}
    repository = Repository(folder / "shop", files)
    named = {
        "REFLOAT_URL": f"http://127.0.0.1:{installation.port}",
        "REFLOAT_TOKEN": installation.environ()["REFLOAT_ADMIN_TOKEN"],
    }
    api = ("up", repository.url, "--root-path", "services/api", "--json")
    told = json.loads(machine(*api, **named).splitlines()[-1])
    assert told["application"] == "api" and answer(told["internal_url"]) == "hello"
    web = ("up", repository.url, "--root-path", "/services/web/", "--name", "site")
    assert "nothing changed" not in machine(*web, **named)
    assert "nothing changed" in machine(*web, **named)
    moved = json.loads(machine(*web[:2], "--name", "api", *web[2:4], "--json", **named).splitlines()[-1])
    assert answer(moved["internal_url"]) == "the site"
    none = machine("up", repository.url, "--name", "none", expect=1, **named)
    assert "give the folder of the application by --root-path" in none
    nowhere = ("--name", "nowhere", "--root-path", "services/nope")
    assert "--root-path names a folder" in machine("up", repository.url, *nowhere, expect=1, **named)
    assert "--root-path is for a GIT_URL" in machine(
        "up", "--root-path", "x", cwd=repository.folder, expect=64
    )


def test_an_address_without_a_repository_leaves_nothing_behind(
    machine: Machine, installation: Installation, folder: Path
) -> None:
    named = {
        "REFLOAT_URL": f"http://127.0.0.1:{installation.port}",
        "REFLOAT_TOKEN": installation.environ()["REFLOAT_ADMIN_TOKEN"],
    }
    failed = machine("up", f"file://{folder}/nothing", expect=1, **named)
    assert "there is no git repository" in failed
    assert "there is no environment yet" in machine("status", "nothing", expect=1, **named)


@pytest.mark.parametrize(
    ("file", "text", "line", "hint"),
    [
        ("app.py", "raise SystemExit('no database')", "no database", "the lines above are its own"),
        ("app.py", "import nosuchthing", "No module named 'nosuchthing'", "requirements.txt"),
        ("requirements.txt", "no such thing", "the build ended with exit code", "are of its build"),
    ],
)
def test_a_failed_deployment_is_told_with_its_own_words_and_what_to_do(
    machine: Machine, app: Path, file: str, text: str, line: str, hint: str
) -> None:
    (app / file).write_text(text + "\n")
    assert hint in machine("up", cwd=app, expect=1)
    assert line in machine("logs", "web")


def test_what_the_build_warns_of_is_told_before_the_end(machine: Machine, app: Path) -> None:
    """Who has a worker in the Procfile would believe that it runs: nobody reads the log of a success."""
    (app / "Procfile").write_text("web: python app.py\nworker: python work.py\n")
    up = machine.start("up", cwd=app)
    out, err = up.communicate(timeout=60)
    assert up.returncode == 0, out + err
    assert err.startswith("refloat: web: Procfile: `worker` is not run") and "python work.py" in err
    following = machine.start("logs", "web", "--follow", cwd=app)
    out, err = following.communicate(timeout=60)
    assert "`worker` is not run" in out and not err, "who reads the log is not told twice"


def test_an_application_that_answers_only_errors_is_not_told_about_its_port(
    machine: Machine, app: Path
) -> None:
    said = machine("up", "--env", "STATUS=500", cwd=app, expect=1)
    assert "must answer GET / with less than 500" in said and "must listen" not in said


def test_an_application_that_listens_elsewhere_is_told_about_its_port(machine: Machine, app: Path) -> None:
    talks = "threading.Thread(target=lambda: [print(time.sleep(1), flush=True) for _ in range(99)]).start()"
    text = APP.replace('int(os.environ["PORT"])', "0")  # who talks is given time enough to be canceled
    (app / "app.py").write_text(text.replace('print("app starts", flush=True)', talks))
    up = machine.start("up", cwd=app)
    assert up.stderr is not None
    assert "must listen on 127.0.0.1:$PORT" in up.stderr.readline()
    machine("cancel", "web")
    out, _ = up.communicate(timeout=60)
    assert up.returncode == 2 and "canceled" in out.splitlines()[-1]
