"""Guarantees about the environment of builds: nothing of the server but what an index needs."""

from pathlib import Path

from refloat.builders.environment import build_environment, pip_config_files, share_uv_config


def made(environ: dict[str, str], *configs: Path) -> dict[str, str]:
    return build_environment(Path("/place"), environ, configs)


def test_the_servers_variables_are_not_visible() -> None:
    secrets = {"REFLOAT_ADMIN_TOKEN": "s", "AWS_SECRET_ACCESS_KEY": "s", "DATABASE_URL": "s", "HOME": "/root"}
    environment = made({**secrets, "PATH": "/root/bin", "PYTHONPATH": "/x"})
    assert "s" not in environment.values()
    assert environment["HOME"] == "/place/home"
    assert "/root" not in environment["PATH"]
    assert "PYTHONPATH" not in environment


def test_proxies_certificates_and_indexes_are_passed_on() -> None:
    given = {
        "HTTPS_PROXY": "http://p",
        "SSL_CERT_FILE": "/c",
        "UV_INDEX": "https://i",
        "PIP_INDEX_URL": "https://j",
    }
    environment = made(given)
    assert given.items() <= environment.items()


def test_what_pip_is_told_holds_for_uv() -> None:
    environment = made(
        {
            "PIP_INDEX_URL": "https://index/simple",
            "PIP_EXTRA_INDEX_URL": "https://a https://b",
            "PIP_FIND_LINKS": "/wheels /more",
            "PIP_CERT": "/cert.pem",
            "PIP_TRUSTED_HOST": "index",
        }
    )
    assert environment["UV_DEFAULT_INDEX"] == "https://index/simple"
    assert environment["UV_INDEX"] == "https://a https://b"
    assert environment["UV_FIND_LINKS"] == "/wheels,/more"
    assert environment["SSL_CERT_FILE"] == "/cert.pem"
    assert environment["UV_INSECURE_HOST"] == "index"


def test_what_uv_is_told_wins_over_what_pip_is_told() -> None:
    environment = made({"PIP_INDEX_URL": "https://pip", "UV_DEFAULT_INDEX": "https://uv"})
    assert environment["UV_DEFAULT_INDEX"] == "https://uv"


def test_pip_conf_is_read_and_weaker_than_variables(tmp_path: Path) -> None:
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://file/%40\ncert = /file.pem\n[install]\nfind-links = /w\n"
    )
    environment = made({"PIP_CERT": "/variable.pem"}, tmp_path / "absent.conf", config)
    assert environment["UV_DEFAULT_INDEX"] == "https://file/%40"
    assert environment["UV_FIND_LINKS"] == "/w"
    assert environment["SSL_CERT_FILE"] == "/variable.pem"


def test_a_broken_pip_conf_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    config = tmp_path / "pip.conf"
    config.write_text("nonsense")
    assert "UV_DEFAULT_INDEX" not in made({}, config)


def test_pips_own_order_of_files_is_kept() -> None:
    found = pip_config_files({"HOME": "/h", "PIP_CONFIG_FILE": "/named"})
    assert [str(path) for path in found] == [
        "/etc/pip.conf", "/h/.pip/pip.conf", "/h/.config/pip/pip.conf", "/named",
    ]  # fmt: skip


def test_the_operators_uv_toml_is_found_by_builds(tmp_path: Path) -> None:
    own = tmp_path / "home/.config/uv/uv.toml"
    own.parent.mkdir(parents=True)
    own.write_text("offline = true")
    share_uv_config(tmp_path / "place", {"HOME": str(tmp_path / "home")})
    found = Path(build_environment(tmp_path / "place", {}, ())["XDG_CONFIG_HOME"]) / "uv" / "uv.toml"
    assert found.read_text() == "offline = true"
