"""The doctor: every check of this machine, and what it says where something is missing."""

import json
import os
import socket
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.certificates import Authority

from refloat.cli import checkup
from refloat.cli.main import main


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    tmp_path.chmod(0o755)
    return {
        "HOME": str(tmp_path),
        "REFLOAT_DATA_DIR": str(tmp_path / "data"),
        "REFLOAT_NODE_DIR": "/var/tmp/refloat-doctor",
        "REFLOAT_PORT": str(free_port()),
        "REFLOAT_HTTP_PORT": str(free_port()),
    }


def found(environ: dict[str, str], name: str) -> checkup.Check:
    return next(it for it in checkup.look(environ) if it.name == name)


def test_a_machine_that_can_run_a_server_has_no_problem_and_nothing_is_changed(
    environ: dict[str, str], tmp_path: Path
) -> None:
    result = CliRunner().invoke(main, ["doctor"], env=environ)
    assert result.exit_code == 0 and result.stdout.endswith("0 problems\n")
    told = json.loads(CliRunner().invoke(main, ["doctor", "--json"], env=environ).stdout)
    names = [it["name"] for it in told]
    assert {"python", "git", "caddy", "node", "postgresql", "valkey", "data", "server", "edge"} <= set(names)
    assert {"user", "cgroups", "systemd"} <= set(names)
    assert {it["verdict"] for it in told} <= {"ok", "note"}
    assert list(tmp_path.iterdir()) == []


def test_programs_that_are_missing_are_named_with_their_package(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    git = found(environ, "git")
    assert git.verdict is checkup.Verdict.PROBLEM and "apt-get install git" in git.hint
    node = found(environ, "node")
    assert node.verdict is checkup.Verdict.NOTE and "node and npm not found" in node.said


def test_a_git_that_is_too_old_is_a_problem(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "git").write_text("#!/bin/sh\necho git version 2.25.1\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    old = found(environ, "git")
    assert old.verdict is checkup.Verdict.PROBLEM and "2.25.1 is too old" in old.said


def test_a_caddy_that_cannot_run_is_a_problem(environ: dict[str, str]) -> None:
    caddy = found({**environ, "REFLOAT_CADDY": "/nowhere"}, "caddy")
    assert caddy.verdict is checkup.Verdict.PROBLEM and "/nowhere" in caddy.said and caddy.hint


@pytest.mark.parametrize(("name", "setting"), [("server", "REFLOAT_PORT"), ("edge", "REFLOAT_HTTP_PORT")])
def test_a_port_that_is_taken_is_a_problem_with_a_free_one(
    environ: dict[str, str], name: str, setting: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(environ[setting])))
        check = found(environ, name)
    assert check.verdict is checkup.Verdict.PROBLEM and f"{setting}=" in check.hint
    assert environ[setting] in check.said


def test_with_tls_the_port_of_https_is_looked_at_too(environ: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        secure = {**environ, "REFLOAT_TLS": "internal", "REFLOAT_HTTPS_PORT": port}
        plain, https = [it for it in checkup.look(secure) if it.name == "edge"]
    assert plain.verdict is checkup.Verdict.OK
    assert https.verdict is checkup.Verdict.PROBLEM and "REFLOAT_HTTPS_PORT=" in https.hint


def test_a_certificate_that_is_no_use_is_a_problem(environ: dict[str, str], tmp_path: Path) -> None:
    certificate, key = Authority("company").issue(tmp_path, "apps.test")
    own = {**environ, "REFLOAT_TLS_CERT": str(certificate), "REFLOAT_TLS_KEY": str(key)}
    assert found(own, "certificate").verdict is checkup.Verdict.OK
    key.write_text("")
    wrong = found(own, "certificate")
    assert wrong.verdict is checkup.Verdict.PROBLEM and "REFLOAT_TLS_KEY" in wrong.said and wrong.hint


def test_a_data_directory_that_cannot_be_made_is_a_problem(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    data = found({**environ, "REFLOAT_DATA_DIR": str(tmp_path / "file/data")}, "data")
    assert data.verdict is checkup.Verdict.PROBLEM and "REFLOAT_DATA_DIR" in data.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives applications other users")
def test_a_folder_that_applications_cannot_pass_is_a_problem(environ: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory(prefix="is closed ") as closed:
        environ |= {"REFLOAT_NODE_DIR": f"{closed}/node"}
        said = [it for it in checkup.look(environ) if it.name == "data"][-1]
    assert said.verdict is checkup.Verdict.PROBLEM and f"chmod o+x '{closed}'" in said.hint


def test_a_problem_is_exit_code_1(environ: dict[str, str]) -> None:
    result = CliRunner().invoke(main, ["doctor"], env={**environ, "REFLOAT_CADDY": "/nowhere"})
    assert result.exit_code == 1 and "1 problem\n" in result.stdout
