"""uv and the Python interpreters, as the user of a service can reach them.

A builder that runs as root hands its commands to users who may not enter the server's own home. So
each tool is tried as that user: uv is copied into the node directory when it cannot be run where it
is, an interpreter that cannot be run is passed over for the next that fits.
"""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
from uv import find_uv_bin

from refloat.domain.errors import BuildFailed, Unavailable
from refloat.supervisor.cancellation import to_the_end
from refloat.supervisor.turns import turn


class Interpreter(msgspec.Struct, frozen=True):
    """A Python that the service's user can run, by its real path and full version."""

    path: str
    version: str


class Tools:
    """Finds each tool once per user and remembers it as long as the file stays the same."""

    def __init__(self, node_dir: Path) -> None:
        self._folder = node_dir / "tools"
        self._uv: dict[int | None, str] = {}
        self._interpreters: dict[tuple[int | None, str], tuple[Interpreter, float]] = {}

    async def uv(self, uid: int | None) -> str:
        """Path of a uv that this user can run."""
        if uid not in self._uv:
            self._uv[uid] = await to_the_end(asyncio.to_thread(self._find_uv, uid))
        return self._uv[uid]

    async def interpreter(self, uid: int | None, wanted: str, environment: Mapping[str, str]) -> Interpreter:
        """An interpreter for a version or specifier, the server's own first; "" means like the server's.

        Raises BuildFailed naming the ones that are there.
        """
        known = self._interpreters.get((uid, wanted))
        if known and Path(known[0].path).exists() and Path(known[0].path).stat().st_mtime == known[1]:
            return known[0]
        found = await self._search(uid, wanted or _like_ours(), environment)
        if found is None and not wanted:
            found = await self._search(uid, f">={_like_ours()}", environment)
        if found is None:
            raise await self._none(uid, wanted or _like_ours(), environment)
        self._interpreters[uid, wanted] = (found, Path(found.path).stat().st_mtime)
        return found

    async def _search(
        self, uid: int | None, wanted: str, environment: Mapping[str, str]
    ) -> Interpreter | None:
        uv = await self.uv(uid)
        variables = {**environment, "PATH": interpreter_path()}
        argv = (uv, "python", "find", "--no-project", "--no-config", "--", wanted)
        code, output = await _asked(uid, argv, variables)
        if code:
            return None
        tell = "import sys; print(sys.executable); print(*sys.version_info[:3], sep='.')"
        code, told = await _asked(uid, (output.strip(), "-I", "-S", "-c", tell), variables)
        return Interpreter(*told.splitlines()[:2]) if code == 0 else None

    async def _none(self, uid: int | None, wanted: str, environment: Mapping[str, str]) -> BuildFailed:
        variables = {**environment, "PATH": interpreter_path()}
        argv = (await self.uv(uid), "python", "list", "--only-installed", "--no-config")
        _, output = await _asked(uid, argv, variables)
        names = dict.fromkeys(line.split()[0] for line in output.splitlines() if line.strip())
        there = ", ".join(names) or "none that this user can run"
        return BuildFailed(
            f"there is no Python {wanted} on this machine",
            hint=f"install it where every user can run it, or ask for another version (here: {there})",
        )

    def _find_uv(self, uid: int | None) -> str:
        try:
            own = find_uv_bin()
        except FileNotFoundError as error:
            raise Unavailable("uv is not installed beside this server", hint="pip install uv") from error
        if run_as(uid, (own, "--version"), {})[0] == 0:
            return own
        copy = self._folder / f"uv-{Path(own).stat().st_size}"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o755)
        with turn(self._folder / "lock"):  # another build may begin at the same moment
            if not copy.exists():
                _copy(Path(own), copy)
        if run_as(uid, (str(copy), "--version"), {})[0] == 0:
            return str(copy)
        raise Unavailable(f"the user {uid} of a service cannot run {copy}", hint="move the node directory")


def _copy(own: Path, copy: Path) -> None:
    """Whole or not at all: what there is of it would keep a full disk full."""
    fresh = copy.with_suffix(".new")
    try:
        shutil.copyfile(own, fresh)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    fresh.chmod(0o755)
    fresh.rename(copy)


def interpreter_path() -> str:
    """Where interpreters are looked for: beside the server's own, then on its PATH.

    pyenv's shims stand for interpreters that they may then refuse to start, so the folders behind
    them are looked at instead.
    """
    folders = [str(Path(getattr(sys, "_base_executable", "") or sys.executable).resolve().parent)]
    for name in os.environ.get("PATH", os.defpath).split(os.pathsep):
        if name.endswith("/shims"):
            with contextlib.suppress(PermissionError):
                folders += sorted(map(str, Path(name).parent.glob("versions/*/bin")), reverse=True)
        elif name.startswith("/"):
            folders.append(name)
    return os.pathsep.join(dict.fromkeys(folders))


def _like_ours() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


async def _asked(uid: int | None, argv: tuple[str, ...], environment: Mapping[str, str]) -> tuple[int, str]:
    """As `run_as`, to its end: a canceled build that left it behind would not have stopped."""
    return await to_the_end(asyncio.to_thread(run_as, uid, argv, environment))


def run_as(uid: int | None, argv: tuple[str, ...], environment: Mapping[str, str]) -> tuple[int, str]:
    """Exit code and output of a short command of ours (never of a repository), as the service's user."""
    try:
        done = subprocess.run(
            argv, env=dict(environment), cwd="/", stdin=subprocess.DEVNULL, capture_output=True, timeout=30,
            user=uid, group=uid, extra_groups=None if uid is None else (), text=True, check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return 127, ""
    return done.returncode, done.stdout
