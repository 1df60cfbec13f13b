"""Settings: documented one and all, and clear about what is wrong."""

import re
from pathlib import Path

import pytest

from refloat import settings

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
