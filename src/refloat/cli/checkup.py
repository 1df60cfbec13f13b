"""What `refloat doctor` looks at: everything a server of this machine needs, each with its meaning."""

import asyncio
import datetime
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from refloat.cli import context
from refloat.cli.background import Found, free_port_near, who_answers
from refloat.domain.errors import RefloatError
from refloat.domain.services import DatabaseType
from refloat.engines.local.servers import Servers
from refloat.routers.caddy.addresses import public_addresses, why_not_public
from refloat.routers.caddy.binary import find_caddy
from refloat.routers.caddy.sockets import can_listen, listening
from refloat.routers.caddy.tls import read_own
from refloat.settings import SettingError, Settings, check_isolation
from refloat.supervisor.cgroups import ROOT, Cgroups
from refloat.supervisor.directories import obstacle
from refloat.supervisor.occupancy import occupant
from refloat.supervisor.processes import LocalSupervisor

_GIT = (2, 28)
"""The first that makes a repository with a branch of a given name."""
_SCARCE, _LITTLE = 200 * 1024**2, 2 * 1024**3
_PACKAGES = {DatabaseType.POSTGRESQL: "postgresql", DatabaseType.REDIS: "redis-server"}


class Verdict(StrEnum):
    OK = "ok"
    NOTE = "note"
    """It works, with a limit that is worth knowing."""
    PROBLEM = "problem"
    """A server does not start, or cannot deploy."""


class Check(NamedTuple):
    """One thing that was looked at."""

    name: str
    verdict: Verdict
    said: str
    hint: str = ""


def look(environ: context.Environ) -> list[Check]:
    """Every check, in the order in which a first deployment needs them. Changes nothing."""
    settings = context.read_settings(environ)
    checks: list[Callable[[Settings], Iterator[Check]]] = [
        _python, _git, _caddy, _node, _databases, _data, _api_port, _edge_port, _certificate, _user, _cgroups,
        _systemd,
    ]  # fmt: skip
    return [found for check in checks for found in check(settings)]


def _python(settings: Settings) -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Check("python", Verdict.OK, f"{version} at {sys.executable}")


def _git(settings: Settings) -> Iterator[Check]:
    said = _said("git", "version")
    found = re.search(r"(\d+)\.(\d+)", said)
    if not found:
        yield Check("git", Verdict.PROBLEM, "not found: sources are fetched by it", "apt-get install git")
    elif tuple(map(int, found.groups())) < _GIT:
        yield Check("git", Verdict.PROBLEM, f"{said} is too old", f"install {_GIT[0]}.{_GIT[1]} or newer")
    else:
        yield Check("git", Verdict.OK, f"{said.removeprefix('git version ')} at {shutil.which('git')}")


def _caddy(settings: Settings) -> Iterator[Check]:
    try:
        found = find_caddy(settings.caddy or None)
    except RefloatError as error:
        yield Check("caddy", Verdict.PROBLEM, error.message, error.hint)
        return
    yield Check("caddy", Verdict.OK, f"{found.version} at {found.path} ({found.origin})")


def _node(settings: Settings) -> Iterator[Check]:
    node, npm = _said("node", "--version"), _said("npm", "--version")
    if node and npm:
        yield Check("node", Verdict.OK, f"{node}, npm {npm}")
    else:
        missing = " and ".join(name for name, said in (("node", node), ("npm", npm)) if not said)
        said = f"{missing} not found: only needed to build Node.js applications"
        yield Check("node", Verdict.NOTE, said, "apt-get install nodejs npm")


def _databases(settings: Settings) -> Iterator[Check]:
    known = Servers(settings.node_dir).known
    for name, type in (("postgresql", DatabaseType.POSTGRESQL), ("valkey", DatabaseType.REDIS)):
        found = [f"{it.version} at {it.program}" for it in known if it.type is type]
        if found:
            yield Check(name, Verdict.OK, ", ".join(found))
        else:
            said = "no server found: only needed for databases of this type"
            hint = f"apt-get install {_PACKAGES[type]}, or install refloat with its extra: '.[databases]'"
            yield Check(name, Verdict.NOTE, said, hint)


def _data(settings: Settings) -> Iterator[Check]:
    folder = settings.data_dir
    there = next(p for p in (folder, *folder.parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        hint = "choose another one by REFLOAT_DATA_DIR"
        yield Check("data", Verdict.PROBLEM, f"{folder} cannot be written: {there} is closed to us", hint)
        return
    free = shutil.disk_usage(there).free
    said = f"{folder}{'' if folder.exists() else ' (not made yet)'}, {free / 1024**3:.1f} GB free"
    verdict = Verdict.PROBLEM if free < _SCARCE else Verdict.NOTE if free < _LITTLE else Verdict.OK
    yield Check("data", verdict, said, "" if verdict is Verdict.OK else "make room: builds need it")
    closed = obstacle(settings.node_dir / "x") if os.geteuid() == 0 else None
    if closed:
        said = f"the users of applications cannot pass through {closed}"
        yield Check(
            "data",
            Verdict.PROBLEM,
            said,
            f"chmod o+x {shlex.quote(str(closed))}; or set REFLOAT_NODE_DIR elsewhere",
        )


def _api_port(settings: Settings) -> Iterator[Check]:
    url, pid = context.server_url(_alone(settings)), occupant(settings.data_dir)
    found = who_answers(url)
    if found is Found.REFLOAT and pid:
        yield Check("server", Verdict.OK, f"runs as process {pid} and answers at {url}")
    elif found is not Found.NOBODY:
        hint = f"stop it, or set REFLOAT_PORT={free_port_near(settings.port)}"
        whose = " of another data directory" if found is Found.REFLOAT else ""
        yield Check("server", Verdict.PROBLEM, f"port {settings.port} is used by {found.value}{whose}", hint)
    elif pid:
        said = f"process {pid} holds {settings.data_dir}, but does not answer at {url}"
        yield Check("server", Verdict.PROBLEM, said, "set REFLOAT_PORT as it has it, or `refloat down`")
    else:
        yield from _free("server", settings.host, settings.port, "REFLOAT_PORT")


def _free(name: str, host: str, port: int, setting: str) -> Iterator[Check]:
    why = can_listen("127.0.0.1" if host == "localhost" else host, port)
    if why:
        hint = f"stop what uses it, or set {setting}={free_port_near(port)}"
        yield Check(name, Verdict.PROBLEM, f"port {port} cannot be had: {why}", hint)
    else:
        yield Check(name, Verdict.OK, f"does not run; its port {port} is free")


def _edge_port(settings: Settings) -> Iterator[Check]:
    states = asyncio.run(LocalSupervisor(settings.node_dir).states("edge"))
    held = {port: state.pid for state in states if state.pid for port in listening(state.pid)}
    wanted = {"REFLOAT_HTTP_PORT": settings.http_port}
    if settings.tls != "off":
        wanted["REFLOAT_HTTPS_PORT"] = settings.https_port
    for setting, port in wanted.items():
        if port in held:
            yield Check("edge", Verdict.OK, f"runs as process {held[port]} and serves port {port}")
        else:
            yield _edge_could_have(settings, port, setting)


def _edge_could_have(settings: Settings, port: int, setting: str) -> Check:
    host = public_addresses(settings.domain, port)[0].rpartition(":")[0] or "0.0.0.0"
    try:
        caddy = find_caddy(settings.caddy or None).path
    except RefloatError:  # it is a problem of its own
        caddy = "caddy"
    why, remedy = why_not_public(host, port, caddy)
    if why:
        hint = f"{remedy}, or set {setting}={free_port_near(max(port, 8000))}"
        return Check("edge", Verdict.PROBLEM, f"port {port} cannot be had: {why}", hint)
    return Check("edge", Verdict.OK, f"does not run; its port {port} is free")


def _certificate(settings: Settings) -> Iterator[Check]:
    if not settings.tls_cert:
        return
    try:
        read_own(settings.tls_cert, settings.tls_key, datetime.datetime.now(datetime.UTC))
    except RefloatError as error:
        yield Check("certificate", Verdict.PROBLEM, error.message, error.hint)
    else:
        yield Check("certificate", Verdict.OK, f"{settings.tls_cert}, with its key")


def _user(settings: Settings) -> Iterator[Check]:
    try:
        check_isolation(settings, as_root=os.geteuid() == 0)
    except SettingError as error:
        yield Check("user", Verdict.PROBLEM, str(error))
        return
    if os.geteuid() == 0:
        yield Check("user", Verdict.OK, "root: every service runs as a numeric user of its own")
    else:
        said = "not root: applications run as you, and nothing keeps them from your files and each other"
        yield Check("user", Verdict.NOTE, said, "run only what you trust, or run the server as root")


def _cgroups(settings: Settings) -> Iterator[Check]:
    groups = Cgroups(ROOT, "doctor")
    if groups.limiting:
        yield Check("cgroups", Verdict.OK, "usable: limits of memory, cpu and processes are enforced")
    elif groups.usable:
        yield Check("cgroups", Verdict.NOTE, "process trees are tracked; limits are not enforced")
    else:
        why = "they need root" if os.geteuid() else "none are mounted that can be written"
        yield Check("cgroups", Verdict.NOTE, f"not usable ({why}): limits are not enforced")


def _systemd(settings: Settings) -> Iterator[Check]:
    if Path("/run/systemd/system").is_dir():
        yield Check("systemd", Verdict.OK, "there: `refloat service install` starts the server at boot")
    else:
        yield Check("systemd", Verdict.NOTE, "not there: after a reboot type `refloat up` again")


def _alone(settings: Settings) -> dict[str, str]:
    return {"REFLOAT_HOST": settings.host, "REFLOAT_PORT": str(settings.port)}


def _said(*argv: str) -> str:
    """The first line of what a program prints; "" when it cannot be run."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout.strip().splitlines() or [""])[0] if done.returncode == 0 else ""
