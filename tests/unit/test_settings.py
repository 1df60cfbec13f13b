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


def test_the_guides_name_no_setting_that_there_is_not() -> None:
    read = set(re.findall(r'"(REFLOAT_[A-Z_]+)"', Path(settings.__file__).read_text()))
    guide = (ROOT / "docs/guides/domain-and-https.md").read_text()
    assert set(re.findall(r"REFLOAT_[A-Z_]+", guide)) <= read


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REFLOAT_PORT", "http"),
        ("REFLOAT_PORT", "70000"),
        ("REFLOAT_HTTP_PORT", "0"),
        ("REFLOAT_LOCAL_SOURCES", "maybe"),
        ("REFLOAT_DRAIN_SECONDS", "soon"),
        ("REFLOAT_KEEP_RELEASES", "0"),
        ("REFLOAT_DISK_BUDGET", "10 gigabytes"),
        ("REFLOAT_DATABASE_URL", "mysql://x"),
        ("REFLOAT_HTTPS_PORT", "https"),
        ("REFLOAT_DOMAIN", "https://apps.example.org"),
        ("REFLOAT_DOMAIN", "*.example.org"),
        ("REFLOAT_DOMAIN", "203.0.113.7"),
        ("REFLOAT_LOG_FORMAT", "xml"),
        ("REFLOAT_TLS", "yes"),
        ("REFLOAT_TLS", "acme"),
        ("REFLOAT_TLS_CERT", "/etc/tls.pem"),
        ("REFLOAT_TLS_KEY", "/etc/tls.key"),
        ("REFLOAT_ACME_DIRECTORY", "acme.example.org"),
        ("REFLOAT_MAX_BUILDS", "0"),
        ("REFLOAT_MAX_DEPLOYMENTS", "many"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(settings.SettingError, match=name):
        settings.load({name: value})


def test_local_sources_are_on_only_while_listening_on_loopback() -> None:
    assert settings.load({}).local_sources
    assert not settings.load({"REFLOAT_HOST": "0.0.0.0"}).local_sources
    assert settings.load({"REFLOAT_HOST": "0.0.0.0", "REFLOAT_LOCAL_SOURCES": "true"}).local_sources


def test_local_sources_are_off_when_the_edge_leads_to_the_api_from_elsewhere() -> None:
    assert not settings.load({"REFLOAT_DOMAIN": "apps.example.org"}).local_sources
    assert settings.load({"REFLOAT_DOMAIN": "dev.localhost", "REFLOAT_TLS": "internal"}).local_sources


@pytest.mark.parametrize(
    ("given", "tls", "ports", "hosts"),
    [
        ({}, "off", (8000, 8443), ()),
        ({"REFLOAT_DOMAIN": "dev.localhost"}, "off", (8000, 8443), ()),
        (
            {"REFLOAT_DOMAIN": "dev.localhost", "REFLOAT_TLS": "internal"},
            "internal",
            (8000, 8443),
            ("api.dev.localhost", "dev.localhost"),
        ),
        ({"REFLOAT_DOMAIN": "Example.org"}, "acme", (80, 443), ("api.example.org", "example.org")),
        ({"REFLOAT_DOMAIN": "apps.test"}, "internal", (80, 443), ("api.apps.test", "apps.test")),
        ({"REFLOAT_DOMAIN": "shop.lan"}, "internal", (80, 443), ("api.shop.lan", "shop.lan")),
        (
            {
                "REFLOAT_DOMAIN": "shop.lan",
                "REFLOAT_ACME_DIRECTORY": "https://ca.lan/d",
                "REFLOAT_TLS": "acme",
            },
            "acme",
            (80, 443),
            ("api.shop.lan", "shop.lan"),
        ),
        (
            {"REFLOAT_DOMAIN": "example.org", "REFLOAT_TLS": "off", "REFLOAT_HTTP_PORT": "8000"},
            "off",
            (8000, 443),
            ("api.example.org", "example.org"),
        ),
        (
            {"REFLOAT_TLS_CERT": "/c", "REFLOAT_TLS_KEY": "/k"},
            "internal",
            (8000, 8443),
            ("api.localhost", "localhost"),
        ),
    ],
)
def test_the_domain_decides_ports_certificates_and_whether_the_api_is_behind_the_edge(
    given: dict[str, str], tls: str, ports: tuple[int, int], hosts: tuple[str, ...]
) -> None:
    read = settings.load(given)
    assert (read.tls, (read.http_port, read.https_port), read.api_hosts) == (tls, ports, hosts)


def test_a_certificate_that_would_not_be_used_is_refused() -> None:
    given = {"REFLOAT_TLS": "off", "REFLOAT_TLS_CERT": "/c", "REFLOAT_TLS_KEY": "/k"}
    with pytest.raises(settings.SettingError, match="REFLOAT_TLS is off, so REFLOAT_TLS_CERT"):
        settings.load(given)


def test_only_an_api_that_others_reach_without_tls_is_complained_of() -> None:
    for given in ({}, {"REFLOAT_HOST": "::1"}, {"REFLOAT_DOMAIN": "example.org"}):
        assert settings.plain_listener(settings.load(given)) == ""
    complaint = settings.plain_listener(settings.load({"REFLOAT_HOST": "0.0.0.0"}))
    assert "REFLOAT_HOST is '0.0.0.0'" in complaint and "\n" not in complaint


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
