"""The supervisor of this machine: a shim for each process, a directory for each shim.

    <node>/run/<id>/          one process; what is in it is told in shim.py
    <node>/shims/<hash>.py    the program that runs it; an old one stays for the processes it still keeps

Nothing is held in memory that could be lost: whoever comes after a killed control plane reads the
same directories, sees by the lock which shims live, and talks to them through their sockets.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Collection
from datetime import datetime
from pathlib import Path

import msgspec

from refloat.domain.errors import Invalid, NotFound, Unavailable
from refloat.domain.revision import LogLine
from refloat.supervisor import cgroups, logs, shim
from refloat.supervisor.base import LIVE, Spec, State, Status
from refloat.supervisor.cancellation import to_the_end
from refloat.supervisor.directories import private, write_private
from refloat.supervisor.turns import turn

MARK = "REFLOAT_PROCESS_ID"
NODE_MARK = "REFLOAT_NODE"
TURN = "turn"
"""In the directory of a process: held by whoever is about to start it or to clean up after it."""
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:+-]{0,199}")
_RETRY = 0.01


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """The state a shim saves; fields of newer formats are ignored."""

    status: Status
    pid: int = 0
    restarts: int = 0
    exit_code: int | None = None
    started_at: datetime | None = None


class LocalSupervisor:
    """Implements Supervisor with one shim per process.

    `python` runs the shims and must be reachable by our own user only. `cgroups_root` is another place
    than the kernel's in tests. A log holds at most `log_files` times `log_bytes`, give or take a block.
    """

    def __init__(
        self,
        node_dir: Path,
        *,
        python: str = sys.executable,
        cgroups_root: Path = cgroups.ROOT,
        log_bytes: int = 8 * 1024**2,
        log_files: int = 4,
    ) -> None:
        self._run = node_dir.absolute() / "run"
        self._shims = node_dir.absolute() / "shims"
        self._python = python
        self._log_limits = {"log_bytes": log_bytes, "log_files": log_files}
        self._node = hashlib.sha256(os.fsencode(self._run.resolve())).hexdigest()[:8]
        self._cgroups = cgroups.Cgroups(cgroups_root, self._node)
        self._turns: dict[str, asyncio.Lock] = {}

    @property
    def node(self) -> str:
        """What processes and control groups of this node are marked with."""
        return self._node

    @property
    def limiting(self) -> bool:
        """Whether the limits of a spec are enforced here."""
        return self._cgroups.limiting

    async def start(self, spec: Spec, keeping: Collection[int] = ()) -> State:
        folder = self._folder(spec.id)
        async with self._turn(spec.id):
            state = self._read(spec.id)
            if state and state.status in LIVE:
                return state
            return await to_the_end(self._start(spec, folder, keeping))

    async def state(self, id: str) -> State | None:
        return self._read(id)

    async def states(self, prefix: str = "") -> tuple[State, ...]:
        try:
            names = sorted(entry.name for entry in self._run.iterdir() if entry.name.startswith(prefix))
        except FileNotFoundError:
            return ()
        return tuple(state for name in names if (state := self._read(name)))

    async def wait(self, id: str) -> State:
        """Raises NotFound for an unknown id."""
        while True:
            async with self._turn(id):
                state = self._read(id)
            if state is None:
                raise NotFound(f"no process {id} is known on this node")
            if state.status not in LIVE:
                return state
            await self._ask(id, {"op": "wait"})

    async def stop(self, id: str, grace_seconds: float | None = None) -> None:
        async with self._turn(id):
            state = self._read(id)
        while state and state.status in LIVE:
            await self._ask(id, {"op": "stop", "grace": grace_seconds})
            state = self._read(id)
        async with self._turn(id):
            await to_the_end(asyncio.to_thread(self._settle, self._folder(id)))

    async def forget(self, id: str) -> None:
        await self.stop(id)
        async with self._turn(id):
            await to_the_end(asyncio.to_thread(shutil.rmtree, self._folder(id), ignore_errors=True))
        self._turns.pop(id, None)

    async def members(self, id: str) -> frozenset[int]:
        folder = self._folder(id)
        try:
            content = json.loads((folder / "spec.json").read_bytes())
            state = json.loads((folder / "state.json").read_bytes())
        except (OSError, ValueError):
            return frozenset()
        parent = state["shim"] if _is_held(folder / "lock") else -1
        return frozenset(await asyncio.to_thread(shim.Tree(content, parent).members))

    def leave(self) -> None:
        """Remove what this node keeps outside its directory; for when nothing of it runs any more."""
        self._cgroups.leave()

    def log(self, id: str, tail: int) -> tuple[LogLine, ...]:
        return logs.tail(self._folder(id) / "log", tail)

    def log_path(self, id: str) -> Path:
        return self._folder(id) / "log" / logs.CURRENT

    def spec(self, id: str) -> Spec | None:
        with contextlib.suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode((self._folder(id) / "spec.json").read_bytes(), type=Spec)
        return None

    # -- starting

    async def _start(self, spec: Spec, folder: Path, keeping: Collection[int]) -> State:
        await asyncio.to_thread(self._launch, spec, folder, keeping)
        state = self._read(spec.id)
        if state is None or state.status is Status.LOST:
            errors = (folder / "shim.err").read_text(errors="replace").strip().splitlines()
            raise Unavailable(f"the supervisor of {spec.id} did not start", hint=" ".join(errors[-1:]))
        return state

    def _launch(self, spec: Spec, folder: Path, keeping: Collection[int]) -> None:
        """Returns when the process runs or is known not to: the shim closes its output then."""
        for path in (self._run, folder, folder / "log"):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with turn(folder / TURN):
            state = self._look(spec.id)
            if state and state.status in LIVE:
                return
            if state:
                self._bury(folder, lost=state.status is Status.LOST)
            for name in ("state.json", "ctl.sock"):
                (folder / name).unlink(missing_ok=True)
            self._write_spec(spec, folder)
            self._run_shim(folder, keeping)

    def _run_shim(self, folder: Path, keeping: Collection[int]) -> None:
        with open(folder / "shim.err", "wb", opener=private) as errors:
            subprocess.run(
                [self._python, "-I", "-S", str(self._installed_shim()), str(folder), *map(str, keeping)],
                pass_fds=tuple(keeping),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd="/",
                env={key: os.environ[key] for key in ("LD_LIBRARY_PATH",) if key in os.environ},
                start_new_session=True,
                check=False,
            )

    def _write_spec(self, spec: Spec, folder: Path) -> None:
        groups, missing = self._cgroups.create(spec)
        if missing:
            note = f"limits that cannot be enforced here: {', '.join(missing)}"
            with open(self.log_path(spec.id), "a", opener=private) as log:
                log.write(f"{shim.utc()} shim {note}\n")
        marks = {MARK: spec.id, NODE_MARK: self._node}
        content = msgspec.to_builtins(spec) | msgspec.to_builtins(groups) | self._log_limits
        content["format"] = shim.FORMAT
        content["gid"] = spec.uid if spec.gid is None else spec.gid
        content["environment"] = spec.environment | marks
        content["marks"] = [f"{key}={value}" for key, value in marks.items()]
        write_private(folder / "spec.json", msgspec.json.encode(content))

    def _installed_shim(self) -> Path:
        source = Path(shim.__file__).read_bytes()
        path = self._shims / f"{hashlib.sha256(source).hexdigest()[:16]}.py"
        if not path.exists():
            self._shims.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(path, source)
        return path

    # -- looking and asking

    def _read(self, id: str) -> State | None:
        """What is known; a process without a shim is not lost while somebody is about to start one."""
        state = self._look(id)
        if state and state.status is Status.LOST and _is_held(self._folder(id) / TURN):
            return msgspec.structs.replace(state, status=Status.STARTING)
        return state

    def _look(self, id: str) -> State | None:
        """The lock is looked at before the state: a state read after a free lock is the last there is."""
        folder = self._folder(id)
        spec, alive = self.spec(id), _is_held(folder / "lock")
        if spec is None:
            return None
        saved = Saved(status=Status.STARTING)
        with contextlib.suppress(OSError, msgspec.DecodeError):
            saved = msgspec.json.decode((folder / "state.json").read_bytes(), type=Saved)
        if not alive and saved.status in LIVE:
            saved = msgspec.structs.replace(saved, status=Status.LOST, pid=0)
        return State(id=id, labels=spec.labels, **msgspec.structs.asdict(saved))

    async def _ask(self, id: str, request: dict[str, object]) -> None:
        """Send a request and wait until the shim is gone, which is when the connection ends."""
        try:
            async with self._connection(id) as (reader, writer):
                writer.write(json.dumps(request).encode() + b"\n")
                await reader.read()
        except (FileNotFoundError, ConnectionError):
            await asyncio.sleep(_RETRY)  # it is about to listen, or about to be gone

    @contextlib.asynccontextmanager
    async def _connection(self, id: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """The way through /proc keeps the address short, however deep the node directory is."""
        folder = os.open(self._folder(id), os.O_PATH | os.O_DIRECTORY)
        try:
            reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{folder}/ctl.sock")
        finally:
            os.close(folder)
        try:
            yield reader, writer
        finally:
            writer.close()

    def _settle(self, folder: Path) -> None:
        """End what a killed shim left running, and write down that nothing is wanted any more."""
        if not folder.exists():
            return
        with turn(folder / TURN):
            state = self._look(folder.name)
            if state is None or state.status in LIVE:
                return
            self._bury(folder, lost=state.status is Status.LOST)
            if state.status is not Status.STOPPED:
                kept = {field: getattr(state, field) for field in Saved.__struct_fields__}
                kept |= {"format": shim.FORMAT, "status": Status.STOPPED, "pid": 0}
                write_private(folder / "state.json", msgspec.json.encode(kept))

    def _bury(self, folder: Path, *, lost: bool) -> None:
        content = json.loads((folder / "spec.json").read_bytes())
        tree = shim.Tree(content)
        while lost and tree.members():
            tree.kill()
            time.sleep(_RETRY)
        cgroups.remove(tuple(content["groups"]))

    def _turn(self, id: str) -> asyncio.Lock:
        return self._turns.setdefault(id, asyncio.Lock())

    def _folder(self, id: str) -> Path:
        if not _ID.fullmatch(id):
            raise Invalid(f"{id!r} cannot name a process: letters, digits and _.@:+- only, at most 200")
        return self._run / id


def _is_held(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
