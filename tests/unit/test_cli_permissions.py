"""Files and folders that are somebody else's, full of nothing, or not to be written: each is named."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.programs import for_others

from refloat.cli import context
from refloat.cli.commands.up import _remember
from refloat.cli.main import _exit_code, main

NOBODY = 65534


@pytest.fixture
def ordinary_user(tmp_path: Path) -> Iterator[Path]:
    """We are no root, and this folder is ours."""
    was = os.geteuid()
    if was == 0:
        for folder in (tmp_path, *tmp_path.parents):
            folder.chmod(folder.stat().st_mode | 0o111)
        os.chown(tmp_path, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    yield tmp_path
    os.seteuid(was)


def fails(*words: str, **environ: str) -> str:
    mine = {"HOME": "/nowhere", "XDG_CONFIG_HOME": "", "REFLOAT_URL": "", **environ}
    result = CliRunner().invoke(main, list(words), env=mine)
    assert result.exit_code == 1, result.output
    return result.stderr


@for_others
def test_a_file_that_cannot_be_read_is_named_before_a_server_is_started(ordinary_user: Path) -> None:
    app = ordinary_user / "app"
    app.mkdir()
    (app / "app.py").write_text("")
    (app / "app.py").chmod(0)
    said = fails("up", str(app), REFLOAT_DATA_DIR=str(ordinary_user / "data"))
    assert f"{app}/app.py cannot be read: Permission denied" in said and "have git ignore it" in said
    assert not (ordinary_user / "data").exists()


@for_others
def test_the_data_directory_of_another_user_is_not_brought_down(ordinary_user: Path) -> None:
    said = fails("down", REFLOAT_DATA_DIR="/usr")
    assert "/usr belongs to another user, root" in said and "sudo -u root refloat down" in said


@for_others
def test_a_data_directory_that_cannot_be_deleted_is_named_whole(ordinary_user: Path) -> None:
    data = ordinary_user / "closed" / "data"
    data.mkdir(parents=True)
    (data / "refloat.db").write_text("")
    data.parent.chmod(0o555)
    said = fails("down", "--purge", "--yes", REFLOAT_DATA_DIR=str(data))
    data.parent.chmod(0o755)
    assert f"{data} cannot be deleted completely: Permission denied" in said
    assert f"hint: delete what is left of it as root: rm -r {data}" in said


def test_a_home_that_cannot_be_written_is_told_with_how_to_find_the_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    home.write_text("")
    environ = {"HOME": str(home)}
    _remember(environ, {"REFLOAT_DATA_DIR": "/srv/one", "REFLOAT_PORT": "8181", "REFLOAT_ADMIN_TOKEN": "t"})
    said = capsys.readouterr().err
    assert f"{home}/.config/refloat/context.json cannot be written (Not a directory)" in said
    assert "find this server with REFLOAT_DATA_DIR=/srv/one REFLOAT_PORT=8181\n" in said
    assert context.with_remembered(environ) == environ


def test_what_the_machine_refuses_is_told_in_one_line_with_the_file(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _exit_code(lambda: Path("/nowhere/at/all").read_text()) == 1
    assert capsys.readouterr().err == "refloat: /nowhere/at/all: No such file or directory\n"

    def fill() -> None:
        raise OSError(28, "No space left on device")

    assert _exit_code(fill) == 1
    said = capsys.readouterr().err
    assert said.startswith("refloat: No space left on device\n") and "refloat clean" in said

    def refuse() -> None:
        raise PermissionError(13, "Permission denied", "/srv/file")

    assert _exit_code(refuse) == 1
    assert "hint: look at its owner and mode: ls -ld /srv/file" in capsys.readouterr().err


def test_an_empty_folder_is_called_empty(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    assert f"{tmp_path} is empty" in fails("up", str(tmp_path))
    assert "git would keep" not in fails("up", str(tmp_path))


@pytest.mark.parametrize("words", [(), ("--name", "n" * 129), ("--environment", "e" * 129)])
def test_a_name_that_is_too_long_is_refused_before_a_server_is_started(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    app = tmp_path / ("web" if words else "f" * 129)
    app.mkdir()
    (app / "index.html").write_text("x")
    said = fails("up", str(app), *words, REFLOAT_DATA_DIR=str(tmp_path / "data"))
    assert "has 129 characters; 128 are allowed" in said and "--name" in said
    assert not (tmp_path / "data").exists()
