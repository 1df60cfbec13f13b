"""The environment of builds: built from nothing, plus what the operator's package index needs.

A build runs code of strangers, so it gets none of the server's environment except an allow-list:
proxies, certificates and package indexes. What pip is told on this machine (variables and pip.conf)
holds for uv too, which reads neither.
"""

import configparser
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PASSED = (
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
    "http_proxy", "https_proxy", "no_proxy", "all_proxy",
    "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CERT", "PIP_TRUSTED_HOST", "PIP_NO_INDEX",
    "PIP_DEFAULT_TIMEOUT", "PIP_DISABLE_PIP_VERSION_CHECK",
    "UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX",
    "UV_INDEX_STRATEGY", "UV_INSECURE_HOST", "UV_SYSTEM_CERTS", "UV_NATIVE_TLS", "UV_OFFLINE",
    "UV_HTTP_TIMEOUT",
    "UV_EXCLUDE_NEWER", "UV_CONCURRENT_DOWNLOADS", "UV_CONCURRENT_BUILDS",
    "NODE_EXTRA_CA_CERTS",
)  # fmt: skip
"""Names passed on when set. Credentials inside an index URL are the operator's choice to share."""
_AS_UV = {
    "PIP_INDEX_URL": ("UV_DEFAULT_INDEX", " ", ("UV_DEFAULT_INDEX", "UV_INDEX_URL")),
    "PIP_EXTRA_INDEX_URL": ("UV_INDEX", " ", ("UV_INDEX", "UV_EXTRA_INDEX_URL")),
    "PIP_FIND_LINKS": ("UV_FIND_LINKS", ",", ("UV_FIND_LINKS",)),
    "PIP_TRUSTED_HOST": ("UV_INSECURE_HOST", " ", ("UV_INSECURE_HOST",)),
    "PIP_CERT": ("SSL_CERT_FILE", " ", ("SSL_CERT_FILE",)),
    "PIP_DEFAULT_TIMEOUT": ("UV_HTTP_TIMEOUT", " ", ("UV_HTTP_TIMEOUT",)),
    "PIP_NO_INDEX": ("UV_NO_INDEX", " ", ("UV_NO_INDEX",)),
}
_REGISTRY = ("NPM_CONFIG_REGISTRY", "npm_config_registry")
_NPM_LINE = re.compile(r"\s*(?:(?:@[\w.~-]+:)?registry|cafile|strict-ssl|(?:https-)?proxy|noproxy)\s*=[^$]*$")


def pip_config_files(environ: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Where pip reads its configuration, weakest first."""
    home = Path(environ.get("HOME") or "/")
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    paths = [Path("/etc/pip.conf"), home / ".pip" / "pip.conf", config / "pip" / "pip.conf"]
    named = environ.get("PIP_CONFIG_FILE")
    return (*paths, Path(named)) if named else tuple(paths)


def share_uv_config(place: Path, environ: Mapping[str, str] = os.environ) -> None:
    """Put the operator's own uv.toml where a build, which has another HOME, finds it."""
    home = Path(environ.get("HOME") or "/")
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    path = Path(environ.get("UV_CONFIG_FILE") or config / "uv" / "uv.toml")
    if path.is_file():
        copy = place / "config" / "uv" / "uv.toml"
        copy.parent.mkdir(parents=True, exist_ok=True)
        for folder in (copy.parent, copy.parent.parent):
            folder.chmod(0o755)
        copy.write_bytes(path.read_bytes())
        copy.chmod(0o644)


def share_npm_config(place: Path, environ: Mapping[str, str] = os.environ) -> None:
    """Where a build finds the operator's registry: lines of npm's user configuration that say how to
    reach one, never a token. A folder that builds cannot write to."""
    path = Path(environ.get("NPM_CONFIG_USERCONFIG") or Path(environ.get("HOME") or "/") / ".npmrc")
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    lines += [f"registry={environ[name]}" for name in _REGISTRY if environ.get(name)][:1]
    copy = place / "npmrc"
    copy.write_text("".join(f"{line}\n" for line in lines if _NPM_LINE.match(line)))
    copy.chmod(0o644)


def build_environment(
    place: Path, environ: Mapping[str, str] = os.environ, configs: tuple[Path, ...] | None = None
) -> dict[str, str]:
    """What every build command gets. `place` holds home, tmp and cache of the service's user."""
    files = pip_config_files(environ) if configs is None else configs
    found = _from_pip(files) | {name: environ[name] for name in PASSED if environ.get(name)}
    for pip, (uv, separator, present) in _AS_UV.items():
        if found.get(pip) and not any(name in found for name in present):
            found[uv] = separator.join(found[pip].split())
    return found | {
        "PATH": SYSTEM_PATH,
        "HOME": str(place / "home"),
        "TMPDIR": str(place / "tmp"),
        "LANG": "C.UTF-8",
        "XDG_CONFIG_HOME": str(place / "config"),
        "XDG_CACHE_HOME": str(place / "cache"),
        "PIP_CACHE_DIR": str(place / "cache" / "pip"),
        "UV_CACHE_DIR": str(place / "cache" / "uv"),
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_PYTHON_PREFERENCE": "only-system",
        "UV_NO_PROGRESS": "1",
        "UV_COMPILE_BYTECODE": "1",
        "NPM_CONFIG_USERCONFIG": str(place / "npmrc"),
        "NPM_CONFIG_CACHE": str(place / "cache" / "npm"),
        "NPM_CONFIG_UPDATE_NOTIFIER": "false",
        "NPM_CONFIG_PROGRESS": "false",
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "CI": "1",
    }


def script(*commands: tuple[str, ...]) -> tuple[str, ...]:
    """The argv of a shell that runs these commands in turn and ends at the first that fails."""
    return ("/bin/sh", "-euc", "\n".join(shlex.join(command) for command in commands))


def _from_pip(files: tuple[Path, ...]) -> dict[str, str]:
    """pip.conf as PIP_* variables; a file that cannot be read is as if it were not there."""
    found: dict[str, str] = {}
    for path in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (OSError, configparser.Error, UnicodeDecodeError):
            continue
        for section in ("global", "install"):
            for key, value in parser.items(section) if parser.has_section(section) else ():
                found["PIP_" + key.upper().replace("-", "_")] = value
    return {name: value for name, value in found.items() if name in PASSED}
