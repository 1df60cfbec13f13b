"""The systemd unit: what it says, that systemd understands it, and what is done around it."""

import os
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from refloat.cli import systemd
from refloat.cli.background import command, settings_variables
from refloat.cli.main import main
from refloat.cli.problems import Problem
from refloat.settings import load


def printed(*words: str, **environ: str) -> str:
    result = CliRunner().invoke(main, ["service", "install", "--print", *words], env=environ)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_unit_starts_this_very_interpreter_and_leaves_applications_alone(tmp_path: Path) -> None:
    lines = printed(REFLOAT_DATA_DIR=str(tmp_path), REFLOAT_PORT="8181").splitlines()
    assert f"ExecStart={sys.executable} -P -m refloat serve" in lines
    for line in ("KillMode=process", "Delegate=yes", "Restart=always", "WantedBy=multi-user.target"):
        assert line in lines
    assert f"Environment=REFLOAT_DATA_DIR={tmp_path}" in lines and "Environment=REFLOAT_PORT=8181" in lines
    assert "WantedBy=default.target" in printed("--user", REFLOAT_DATA_DIR=str(tmp_path)).splitlines()


def test_secrets_are_no_part_of_a_unit_that_everybody_may_read(tmp_path: Path) -> None:
    given = {
        "REFLOAT_DATA_DIR": str(tmp_path),
        "REFLOAT_ADMIN_TOKEN": 'top"secret',
        "REFLOAT_TOKEN": "other",
        "REFLOAT_DATABASE_URL": "postgresql://me:hidden@db/refloat",
    }
    text = printed(**given)
    assert not any(word in text for word in ("secret\n", 'top"', "other", "hidden"))
    assert f"EnvironmentFile={tmp_path}/service.env" in text.splitlines()
    systemd.write_secrets(tmp_path, settings_variables(given, load(given)))
    file = tmp_path / "service.env"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = dict(line.split("=", 1) for line in shlex.split(file.read_text()))
    assert kept == {name: given[name] for name in ("REFLOAT_ADMIN_TOKEN", "REFLOAT_DATABASE_URL")}
    systemd.write_secrets(tmp_path, {"REFLOAT_DATABASE_URL": "sqlite:////x.db"})
    assert not file.exists()


def test_relative_paths_mean_the_same_in_the_unit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    given = {
        "REFLOAT_DATA_DIR": "data",
        "REFLOAT_NODE_DIR": "node",
        "REFLOAT_CADDY": "./caddy",
        "REFLOAT_TLS_CERT": "own.pem",
        "REFLOAT_TLS_KEY": "own.key",
        "REFLOAT_ACME_ROOTS": "ca/roots.pem",
        "REFLOAT_SECRET_KEY_FILE": "key",
        "REFLOAT_DATABASE_URL": "sqlite:///x.db",
    }
    told = settings_variables(given, load(given))
    assert told["REFLOAT_DATA_DIR"] == str(tmp_path / "data")
    assert told["REFLOAT_NODE_DIR"] == str(tmp_path / "node")
    assert told["REFLOAT_CADDY"] == str(tmp_path / "caddy")
    assert told["REFLOAT_TLS_CERT"] == str(tmp_path / "own.pem")
    assert told["REFLOAT_TLS_KEY"] == str(tmp_path / "own.key")
    assert told["REFLOAT_ACME_ROOTS"] == str(tmp_path / "ca/roots.pem")
    assert told["REFLOAT_SECRET_KEY_FILE"] == str(tmp_path / "key")
    assert told["REFLOAT_DATABASE_URL"] == f"sqlite:///{tmp_path / 'x.db'}"


@pytest.mark.parametrize("word", ["a b", "50%", 'say "hi"', "back\\slash", "$HOME", "it's"])
def test_odd_values_are_quoted_as_systemd_reads_them(word: str) -> None:
    text = systemd.unit(["/bin/true", word], {"REFLOAT_DOMAIN": word}, user=False)
    start = next(line for line in text.splitlines() if line.startswith("ExecStart="))
    assert shlex.split(start)[1].replace("%%", "%").replace("$$", "$") == word
    setting = next(line for line in text.splitlines() if line.startswith("Environment="))
    assert shlex.split(setting.partition("=")[2])[0].replace("%%", "%") == f"REFLOAT_DOMAIN={word}"


def test_a_line_break_cannot_smuggle_in_a_line() -> None:
    with pytest.raises(Problem, match="line break"):
        systemd.unit(["/bin/true"], {"REFLOAT_DOMAIN": "x\nExecStartPre=/bin/evil"}, user=False)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed here")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "refloat.service"
    settings = {"REFLOAT_DATA_DIR": "/srv/a b", "REFLOAT_DOMAIN": "50%"}
    unit.write_text(systemd.unit(command(), settings, user=False))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert "refloat.service" not in done.stderr, done.stderr
    unit.write_text(unit.read_text().replace("KillMode=process", "KillMode=sometimes"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert "refloat.service" in done.stderr


# -- putting it in place


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that systemd runs; its systemctl writes down what it was asked."""
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin/systemctl"
    tool.write_text(
        f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\n[ "$1" = is-active ] && echo active\nexit $FAILS\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("FAILS", "0")
    return tmp_path


def asked(machine: Path) -> list[str]:
    return (machine / "asked").read_text().splitlines()


@pytest.mark.skipif(os.geteuid() != 0, reason="units of the machine are root's")
def test_a_unit_is_installed_started_and_removed_again(machine: Path) -> None:
    units = systemd.Units({}, user=False, root=machine)
    units.install("text")
    assert units.path.read_text() == "text"
    assert asked(machine) == ["daemon-reload", "enable refloat.service", "restart refloat.service"]
    assert units.status()["active"] == "active" and units.status()["installed"] == "yes"
    assert units.uninstall() and not units.path.exists()
    assert asked(machine)[-2:] == ["disable --now refloat.service", "daemon-reload"]
    assert not units.uninstall()


def test_a_unit_of_ones_own_lies_in_the_home(machine: Path) -> None:
    units = systemd.Units({"HOME": str(machine)}, user=True, root=machine)
    units.install("text")
    assert units.path == machine / ".config/systemd/user/refloat.service"
    assert asked(machine)[0] == "--user daemon-reload"


def test_what_systemctl_refuses_is_told(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAILS", "5")
    with pytest.raises(Problem, match="systemctl --user daemon-reload failed") as caught:
        systemd.Units({"HOME": str(machine)}, user=True, root=machine).install("text")
    assert "journalctl --user" in caught.value.hint


def test_without_systemd_the_way_without_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="not run by systemd") as caught:
        systemd.Units({"HOME": str(tmp_path)}, user=True, root=tmp_path).install("text")
    assert "refloat up" in caught.value.hint and not (tmp_path / ".config").exists()
    told = systemd.Units({"HOME": str(tmp_path)}, user=True, root=tmp_path).status()
    assert told["installed"] == "no"
