"""Which server a shell means, and with which token.

`REFLOAT_URL` and `REFLOAT_TOKEN` win. Else it is a server of this machine: the one whose settings this
shell has, or else the one that `refloat up` started last, whose settings it left in the context file.
"""

import contextlib
import ipaddress
import json
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from refloat.cli.problems import Exit, Problem
from refloat.settings import LOOPBACK, SettingError, Settings, load

Environ = Mapping[str, str]

NAMING = ("REFLOAT_DATA_DIR", "REFLOAT_HOST", "REFLOAT_PORT")
"""A shell that sets one of these to something else means another server than the remembered one."""
_NOT_SETTINGS = ("REFLOAT_URL", "REFLOAT_TOKEN", "REFLOAT_CRASH_AT")
_EVERYWHERE = ("0.0.0.0", "::")


def path(environ: Environ) -> Path:
    """Where the context file is; `XDG_CONFIG_HOME` moves it."""
    home = Path(environ.get("HOME") or "~").expanduser()
    return Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "refloat" / "context.json"


def with_remembered(environ: Environ) -> dict[str, str]:
    """The shell's variables, with the remembered settings where it names no other server."""
    if environ.get("REFLOAT_URL"):
        return dict(environ)
    remembered = _remembered(path(environ))
    named = {name: environ[name] for name in NAMING if environ.get(name)}
    if directory := named.get("REFLOAT_DATA_DIR"):
        named["REFLOAT_DATA_DIR"] = str(Path(directory).absolute())
    if any(remembered.get(name) != value for name, value in named.items()):
        return dict(environ)
    return {**remembered, **{name: value for name, value in environ.items() if value}}


def _remembered(file: Path) -> dict[str, str]:
    try:
        settings = json.loads(file.read_bytes())["settings"]
        return {str(name): str(value) for name, value in settings.items() if name.startswith("REFLOAT_")}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Problem(
            f"the context file {file} cannot be read: {error}", hint=f"delete it: rm {file}"
        ) from None


def given_settings(environ: Environ) -> dict[str, str]:
    """The settings of a server that this shell has."""
    return {
        name: value
        for name, value in sorted(environ.items())
        if name.startswith("REFLOAT_") and name not in _NOT_SETTINGS and value
    }


def remember(environ: Environ, settings: Environ) -> None:
    """Let later commands of any shell of this user mean the server with these settings.

    The file is 0600, because the admin token may be among them.
    """
    file = path(environ)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        json.dump({"version": 1, "settings": dict(settings)}, out, indent=2)
    temporary.replace(file)


def forget(environ: Environ, settings: Settings) -> None:
    """Remove the context file if it means this data directory."""
    file = path(environ)
    if _remembered(file).get("REFLOAT_DATA_DIR") == str(settings.data_dir):
        with contextlib.suppress(OSError):  # a home that cannot be written any more
            file.unlink(missing_ok=True)
            if not any(file.parent.iterdir()):
                file.parent.rmdir()


def read_settings(environ: Environ) -> Settings:
    """The settings that the server of this shell would have."""
    try:
        return load(environ)
    except SettingError as error:
        raise Problem(str(error), hint="correct the variable, or unset it") from None


def server_url(environ: Environ) -> str:
    """Where the API is: `REFLOAT_URL`, else this machine at the server's port."""
    url = environ.get("REFLOAT_URL") or _local_url(read_settings(environ))
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        right = False
    if not right:
        raise Problem(
            f"REFLOAT_URL is {url!r}", hint="use the form http://host:port or https://host", code=Exit.USAGE
        )
    return url.rstrip("/")


def _local_url(settings: Settings) -> str:
    host = "127.0.0.1" if settings.host in (*_EVERYWHERE, *LOOPBACK[:1], "localhost") else settings.host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def is_loopback(url: str) -> bool:
    """Whether the URL cannot lead away from this machine."""
    host = urlsplit(url).hostname or ""
    if host in LOOPBACK:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def token(environ: Environ) -> str:
    """`REFLOAT_TOKEN`, else the admin token of this machine, which is never sent to another one."""
    if given := environ.get("REFLOAT_TOKEN"):
        return given
    url = environ.get("REFLOAT_URL")
    if url and not is_loopback(server_url(environ)):
        raise Problem(
            f"no token for {url}: the admin token of this machine is not sent to another one",
            hint="set REFLOAT_TOKEN to a token of that server",
        )
    return admin_token(environ)


def admin_token(environ: Environ) -> str:
    """The admin token of the installation whose data directory this shell's settings mean."""
    settings = read_settings(environ)
    if settings.admin_token:
        return settings.admin_token
    file = settings.data_dir / "admin.token"
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        raise Problem(
            f"there is no admin token at {file}: no server was started on this data directory yet",
            hint="`refloat up` starts one; else set REFLOAT_TOKEN, or REFLOAT_DATA_DIR to the server's",
        ) from None
    except OSError as error:
        raise Problem(
            f"the admin token cannot be read from {file}: {error.strerror}",
            hint="set REFLOAT_TOKEN, or REFLOAT_DATA_DIR to the server's data directory",
        ) from None
