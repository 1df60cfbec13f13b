"""Every error a newcomer makes in the first hour says what happened, to what, and what to type next."""

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from refloat.cli import background, context
from refloat.cli.application import Application, Source, is_git_url, name_of
from refloat.cli.client import Client
from refloat.cli.main import main
from refloat.cli.problems import Problem


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home where nothing was ever started, and a shell without settings."""
    for name in os.environ:
        if name.startswith(("REFLOAT_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def run(*words: str, code: int = 1, stdin: str = "", **environ: str) -> str:
    """What a failing command says."""
    result = CliRunner().invoke(main, list(words), env=environ, input=stdin)
    assert result.exit_code == code, result.output
    return result.stderr


DATA = {"REFLOAT_DATA_DIR": "/nowhere/data", "REFLOAT_PORT": "9"}


# -- up


def test_a_folder_that_is_not_there_or_is_a_file_is_named(home: Path) -> None:
    assert "there is no folder nowhere" in run("up", "nowhere")
    (home / "app.py").write_text("")
    assert "is a file" in run("up", str(home / "app.py"))
    assert "is not the folder of one application" in run("up", str(home))
    assert "is not the folder of one application" in run("up", "/")


def test_a_folder_with_nothing_to_run_is_refused_before_a_server_is_started(home: Path) -> None:
    (home / "docs").mkdir()
    (home / "docs/README").write_text("words")
    said = run("up", str(home / "docs"), REFLOAT_DATA_DIR=str(home / "data"))
    assert "nothing to run" in said and "Procfile" in said and "or give the folder of the" in said
    (home / "docs/Dockerfile").write_text("FROM python")
    assert "or give the folder of the" in run("up", str(home / "docs"), REFLOAT_DATA_DIR=str(home / "data"))
    assert not (home / "data").exists()


def test_a_folder_of_several_applications_and_one_inside_an_application_lead_to_what_runs(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shop := home / "shop").mkdir()
    for name in ("api", "the web", "docs"):
        (shop / name).mkdir()
    (shop / "docs/README").write_text("words")
    (shop / "api/app.py").write_text("print()")
    (shop / "the web/index.html").write_text("hello")
    there = f"application: refloat up {shop}/api, or refloat up '{shop}/the web'\n"
    assert there in run("up", str(shop), **DATA)
    monkeypatch.chdir(shop)
    assert "application: refloat up api, or refloat up 'the web'\n" in run("up", **DATA)
    subprocess.run(("git", "init", "-q", shop), check=True)
    (shop / "Procfile").write_text("web: true")
    monkeypatch.chdir(shop / "docs")
    assert f"application: refloat up {shop}\n" in run("up", **DATA)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the "server" is left alone
def test_who_interrupts_the_start_of_a_server_is_told_that_it_goes_on(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: str) -> background.Found:
        if (home / "data/server.log").exists():
            raise KeyboardInterrupt
        return background.Found.NOBODY

    monkeypatch.setattr(background, "who_answers", interrupted)
    monkeypatch.setattr(background, "command", lambda: ["sleep", "1"])
    (home / "web").mkdir()
    (home / "web/index.html").write_text("hello")
    said = run("up", str(home / "web"), code=130, REFLOAT_DATA_DIR=str(home / "data"))
    assert "the server goes on starting" in said and "refloat down" in said


def test_a_secret_on_the_command_line_is_refused_without_being_told_again(home: Path) -> None:
    said = run("secret", "set", "shop", "TOKEN", "hidden", code=64)
    assert "give the key only; the value is asked for, or piped in" in said and "hidden" not in said


def test_a_folder_is_not_sent_to_another_machine(home: Path) -> None:
    (home / "app").mkdir()
    said = run("up", str(home / "app"), REFLOAT_URL="https://refloat.example.org")
    assert "only be deployed by a server of this machine" in said and "GIT_URL" in said


@pytest.mark.parametrize(
    "words",
    [
        ("--env", "GREETING"),
        ("--env", "=x"),
        ("--detach", "--timeout", "3"),
        ("--branch", "main"),
    ],
)
def test_options_of_up_that_mean_nothing_are_wrong_usage(home: Path, words: tuple[str, ...]) -> None:
    (home / "app").mkdir()
    run("up", str(home / "app"), *words, code=64)


def test_a_data_directory_that_cannot_be_made_is_named(home: Path) -> None:
    (home / "app").mkdir()
    (home / "app/index.html").write_text("x")
    (home / "file").write_text("")
    said = run("up", str(home / "app"), REFLOAT_DATA_DIR=str(home / "file/data"))
    assert "cannot be written" in said and "REFLOAT_DATA_DIR" in said


@pytest.mark.parametrize(
    ("source", "url", "name"),
    [
        ("https://host.example/team/shop.git", True, "shop"),
        ("git@host.example:team/shop.git", True, "shop"),
        ("host.example:shop/", True, "shop"),
        ("file:///srv/shop", True, "shop"),
        ("ssh://git@host.example:2222/team/shop", True, "shop"),
        (".", False, ""),
        ("/srv/shop", False, ""),
        ("shop", False, ""),
        ("./a:b", False, ""),
    ],
)
def test_addresses_and_folders_are_told_apart(source: str, url: bool, name: str) -> None:
    assert is_git_url(source) is url
    assert not url or name_of(source) == name


class Racing(Client):
    """A server on which somebody else makes the same thing right before us."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:9", "t")
        self.made = False

    def get(self, path: str, **query: str | int) -> Any:
        if path == "/organization":
            return {"results": [{"id": "o"}]}
        named = {"id": "theirs", "name": path.rpartition("/")[2], "git_repository": {"url": "u"}}
        named["name"] = {"project": "local", "environment": "web", "services": "web"}[named["name"]]
        return {"results": [named] if self.made else []}

    def post(self, path: str, body: Any = None, query: Any = None) -> Any:
        self.made = True
        raise Problem("the name is taken")


def test_two_ups_at_the_same_moment_share_what_the_first_one_makes() -> None:
    found = Application.find_or_make(Racing(), "web", "web", Source("u"))
    assert found.body["id"] == found.environment["id"] == "theirs"


def test_a_mistyped_command_is_told_with_the_right_one(home: Path) -> None:
    assert "Did you mean 'up'?" in run("upp", code=64)
    assert "Did you mean 'redeploy'?" in run("redploy", code=64)
    assert "No such command 'xyzzy'." in run("xyzzy", code=64)
    assert CliRunner().invoke(main, ["-h"]).output == CliRunner().invoke(main, ["--help"]).output


# -- which server, which token


def test_the_admin_token_is_never_sent_to_another_machine(home: Path) -> None:
    (home / "admin.token").write_text("secret")
    for url in ("https://refloat.example.org", "http://10.0.0.1:8080", "http://localhost.example.org"):
        said = run("status", "shop", REFLOAT_URL=url, REFLOAT_DATA_DIR=str(home))
        assert "is not sent to another one" in said and "REFLOAT_TOKEN" in said and "secret" not in said


@pytest.mark.parametrize("token", ["geheim\nx", "geheim x", "gehéim"])
def test_a_token_that_none_can_be_is_called_that_and_not_shown(home: Path, token: str) -> None:
    said = run("status", "shop", code=1, REFLOAT_TOKEN=token, REFLOAT_URL="http://127.0.0.1:9")
    assert "the token holds a character" in said and "geh" not in said


def test_space_around_a_token_is_none_of_it(home: Path) -> None:
    said = run("status", "shop", code=4, REFLOAT_TOKEN="\ttoken\r\n", REFLOAT_URL="http://127.0.0.1:9")
    assert "refused" in said


def test_loopback_has_many_names() -> None:
    for url in ("http://127.0.0.1:1", "http://localhost", "http://[::1]:80", "http://127.9.9.9"):
        assert context.is_loopback(url)
    for url in (
        "http://0.0.0.0",
        "http://example.org",
        "http://[2001:db8::1]",
        "http://127.0.0.1.example.org",
    ):
        assert not context.is_loopback(url)


def test_without_any_server_the_next_command_is_named(home: Path) -> None:
    assert "refloat up" in run("status", "shop", **DATA)
    assert "refloat up" in run("status", "shop", code=4, REFLOAT_TOKEN="t", REFLOAT_PORT="9")


def test_a_port_in_the_address_that_is_none_is_wrong_usage(home: Path) -> None:
    assert "REFLOAT_URL" in run(
        "status", "x", code=64, REFLOAT_URL="http://127.0.0.1:http", REFLOAT_TOKEN="t"
    )


def remembered(home: Path) -> dict[str, str]:
    environ = {"HOME": str(home)}
    context.remember(environ, {"REFLOAT_DATA_DIR": "/srv/one", "REFLOAT_PORT": "8181"})
    return environ


def test_the_remembered_server_is_meant_until_the_shell_names_another(home: Path) -> None:
    environ = remembered(home)
    assert stat.S_IMODE(context.path(environ).stat().st_mode) == 0o600
    assert context.server_url(context.with_remembered(environ)) == "http://127.0.0.1:8181"
    same = {**environ, "REFLOAT_DATA_DIR": "/srv/one"}
    assert context.with_remembered(same)["REFLOAT_PORT"] == "8181"
    for other in ({"REFLOAT_DATA_DIR": "/srv/two"}, {"REFLOAT_PORT": "1"}, {"REFLOAT_URL": "http://h:1"}):
        assert context.with_remembered({**environ, **other}) == {**environ, **other}


def test_a_broken_context_file_is_named_with_what_to_do(home: Path) -> None:
    file = context.path(remembered(home))
    for text in ("{", "[]", '{"settings": 3}'):
        file.write_text(text)
        with pytest.raises(Problem, match="context file") as caught:
            context.with_remembered({"HOME": str(home)})
        assert f"rm {file}" in caught.value.hint


def test_an_address_of_a_server_on_every_interface_is_asked_on_loopback() -> None:
    for host in ("0.0.0.0", "::", "localhost"):
        assert context.server_url({"REFLOAT_HOST": host}) == "http://127.0.0.1:8080"
    assert context.server_url({"REFLOAT_HOST": "10.1.2.3"}) == "http://10.1.2.3:8080"


# -- down


def test_down_is_only_for_this_machine_and_names_a_missing_directory(home: Path) -> None:
    assert "only what runs on this machine" in run("down", REFLOAT_URL="https://refloat.example.org")
    assert "there is no data directory" in run("down", **DATA)


def test_down_of_what_never_ran_is_fine(home: Path) -> None:
    (home / "data").mkdir()
    result = CliRunner().invoke(main, ["down", "--json"], env={"REFLOAT_DATA_DIR": str(home / "data")})
    told = json.loads(result.stdout)
    assert result.exit_code == 0 and told["server"] is None and told["processes"] == []
