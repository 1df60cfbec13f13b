"""Settings: documented one and all, and clear about what is wrong."""

import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from refloat import settings
from refloat.cli.main import main

ROOT = Path(__file__).parents[2]


def test_every_setting_is_documented_and_none_is_invented() -> None:
    read = set(re.findall(r'"(REFLOAT_[A-Z_]+)"', Path(settings.__file__).read_text()))
    documented = set(
        re.findall(r"^\| `(REFLOAT_[A-Z_]+)`", (ROOT / "docs/reference/settings.md").read_text(), re.M)
    )
    assert read == documented


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REFLOAT_PORT", "http"),
        ("REFLOAT_PORT", "70000"),
        ("REFLOAT_HTTP_PORT", "0"),
        ("REFLOAT_LOCAL_SOURCES", "maybe"),
        ("REFLOAT_DRAIN_SECONDS", "soon"),
        ("REFLOAT_DATABASE_URL", "mysql://x"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(settings.SettingError, match=name):
        settings.load({name: value})


def test_local_sources_are_on_only_while_listening_on_loopback() -> None:
    assert settings.load({}).local_sources
    assert not settings.load({"REFLOAT_HOST": "0.0.0.0"}).local_sources
    assert settings.load({"REFLOAT_HOST": "0.0.0.0", "REFLOAT_LOCAL_SOURCES": "true"}).local_sources


def test_the_admin_token_never_prints() -> None:
    assert "topsecret" not in repr(settings.load({"REFLOAT_ADMIN_TOKEN": "topsecret"}))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"REFLOAT_HOST": "0.0.0.0"}, "REFLOAT_HOST is '0.0.0.0'"),
        ({"REFLOAT_DOMAIN": "apps.example.org"}, "REFLOAT_DOMAIN is 'apps.example.org'"),
    ],
)
def test_a_server_that_others_reach_needs_root_or_a_word(given: dict[str, str], words: str) -> None:
    with pytest.raises(settings.SettingError, match=words) as caught:
        settings.check_isolation(settings.load(given), as_root=False)
    assert "REFLOAT_ALLOW_UNISOLATED=true" in str(caught.value)
    settings.check_isolation(settings.load(given), as_root=True)
    allowed = {**given, "REFLOAT_ALLOW_UNISOLATED": "true"}
    settings.check_isolation(settings.load(allowed), as_root=False)


def test_a_server_on_loopback_needs_no_word() -> None:
    for given in ({}, {"REFLOAT_HOST": "::1"}, {"REFLOAT_DOMAIN": "dev.localhost"}):
        settings.check_isolation(settings.load(given), as_root=False)


def test_serve_refuses_to_be_reached_without_root_before_it_makes_anything(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    given = {"REFLOAT_HOST": "0.0.0.0", "REFLOAT_DATA_DIR": str(tmp_path / "data")}
    result = CliRunner().invoke(main, ["serve"], env=given)
    assert result.exit_code == 1 and "REFLOAT_ALLOW_UNISOLATED=true" in result.stderr
    assert not (tmp_path / "data").exists()
