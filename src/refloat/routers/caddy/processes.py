"""The Caddy processes: started under the supervisor, adopted, and replaced without a gap.

There are two places for a process, "a" and "b", of which one serves. A larger or different configuration
is taken over by the other: it is started on the same ports (the kernel shares connections out between
them), and once it listens everywhere the first is asked to end. That one goes on accepting for a second,
ends keep-alive connections by `Connection: close`, finishes what is in flight within a minute, and is gone.
What this moment costs: WebSockets still open after that minute are closed, and a keep-alive connection
that was idle during the whole second is closed under its client. A further takeover within the minute
cuts what the first process had left.

As root Caddy runs under a numeric account of its own, if that account can reach the binary and the node
directory; otherwise under ours. With a port below 1024 it needs `setpriv` (util-linux) to be left that one
right.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from refloat.domain.errors import Unavailable
from refloat.routers.caddy.binary import CaddyBinary
from refloat.routers.caddy.config import (
    GRACE_SECONDS,
    SHUTDOWN_DELAY_SECONDS,
    Edge,
    digest,
    ports,
    render,
)
from refloat.routers.caddy.exchange import get
from refloat.routers.caddy.layout import Layout
from refloat.routers.caddy.sockets import listening
from refloat.supervisor.base import LIVE, Restart, Spec, State, Status, Supervisor

IDS = {"a": "edge", "b": "edge-b"}
"""The supervisor's names of the two places."""
ACCOUNT = 199_999
"""The numeric user the edge runs as when we are root: just below those that services are given."""

_START_SECONDS, _ADOPT_SECONDS = 30.0, 40.0
_POLL_SECONDS = 0.02
_LOG_LINES = 200
_SETPRIV = shutil.which("setpriv")
_STOP_SECONDS = GRACE_SECONDS + SHUTDOWN_DELAY_SECONDS + 5.0


def other(process: str) -> str:
    """The place that does not serve."""
    return "b" if process == "a" else "a"


class Processes:
    """The edge's processes on this node."""

    def __init__(self, edge: Edge, supervisor: Supervisor) -> None:
        self._edge = edge
        self._supervisor = supervisor

    async def live(self, process: str) -> State | None:
        """Its state while it is to run, else None."""
        state = await self._supervisor.state(IDS[process])
        return state if state and state.status in LIVE and state.status != Status.STOPPING else None

    async def pids(self) -> tuple[int, ...]:
        """Every Caddy of ours that runs, one that is ending included."""
        states = [await self._supervisor.state(id) for id in IDS.values()]
        return tuple(state.pid for state in states if state and state.status in LIVE and state.pid)

    async def ports(self, process: str) -> frozenset[int]:
        """The ports it listens on now."""
        state = await self.live(process)
        return await asyncio.to_thread(listening, state.pid) if state else frozenset()

    async def adopt(self, layout: Layout, binary: CaddyBinary) -> bool:
        """Whether the active process is the one we would start now; then waits until it serves."""
        state = await self.live(layout.active)
        if state is None or state.labels != self._labels(layout, binary):
            return False
        await self._until_it_serves(layout, _ADOPT_SECONDS, None)
        return True

    async def can_take_over(self, layout: Layout, binary: CaddyBinary) -> bool:
        """Whether one runs that a second could relieve: the kernel shares ports within one user only."""
        state = await self.live(layout.active)
        return state is not None and state.labels.get("uid") == self._labels(layout, binary)["uid"]

    async def launch(self, layout: Layout, binary: CaddyBinary) -> None:
        """Start the active process of the layout; returns when it listens on every port.

        Raises Unavailable with its last words when it does not; then nothing of it is left.
        """
        await self.stop(layout.active, grace_seconds=0)
        config = self._edge.process_dir(layout.active) / "config.json"
        uid = self._uid(binary)
        _prepare(config, render(self._edge, layout, layout.active), self._edge.storage, uid)
        if self._edge.tls and self._edge.tls.roots:
            self._edge.acme_roots.write_text(self._edge.tls.roots)
            self._edge.acme_roots.chmod(0o644)
        state = await self._supervisor.start(self._spec(layout, binary, config, uid))
        try:
            await self._until_it_serves(layout, _START_SECONDS, state.restarts)
        except Unavailable:
            await self.stop(layout.active, grace_seconds=0)
            raise

    async def stop(self, process: str, grace_seconds: float = _STOP_SECONDS) -> None:
        """End it and what a killed shim may have left of it; returns when it is gone."""
        if await self._supervisor.state(IDS[process]) is not None:
            await self._supervisor.stop(IDS[process], grace_seconds)

    async def until_it_refuses(self, control_port: int) -> None:
        """Wait until an ending process accepts no more: then nobody meets its older routes."""
        for _ in range(int(10 * SHUTDOWN_DELAY_SECONDS / _POLL_SECONDS)):
            if (await get(control_port, "/", {"Host": "control"}, 1)).status == 0:
                return
            await asyncio.sleep(_POLL_SECONDS)

    def why_uncertified(self, process: str, host: str) -> str:
        """What its log said last about a certificate for this host that it did not get; "" for nothing."""
        said = (_decoded(line.text) for line in reversed(self._supervisor.log(IDS[process], _LOG_LINES)))
        return next((each.error for each in said if each.identifier == host and each.error), "")

    async def _until_it_serves(self, layout: Layout, seconds: float, restarts: int | None) -> None:
        """Wait until it listens everywhere and answers; `restarts` None: crashes meanwhile are tolerated."""
        deadline = asyncio.get_running_loop().time() + seconds
        wanted = ports(self._edge, layout, layout.active)
        while asyncio.get_running_loop().time() < deadline:
            state = await self.live(layout.active)
            if state is None or (restarts is not None and state.restarts > restarts):
                raise self._failure(layout, "it ends at once")
            if state.pid and wanted <= await asyncio.to_thread(listening, state.pid):
                return
            await asyncio.sleep(_POLL_SECONDS)
        raise self._failure(layout, f"it does not listen on all its ports after {seconds:g} s")

    def _failure(self, layout: Layout, what: str) -> Unavailable:
        id = IDS[layout.active]
        words = [line.text for line in self._supervisor.log(id, 5) if line.stream != "shim"]
        public = "REFLOAT_HTTP_PORT" + (" and REFLOAT_HTTPS_PORT" if self._edge.tls else "")
        return Unavailable(
            f"the edge does not start: {what}; {words[-1] if words else 'it said nothing'}",
            hint=f"see {self._supervisor.log_path(id)}; its public ports are set by {public}",
        )

    def _spec(self, layout: Layout, binary: CaddyBinary, config: Path, uid: int | None) -> Spec:
        home = str(config.parent / "home")
        names = ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR")
        argv: tuple[str, ...] = (binary.path, "run", "--config", str(config))
        if uid is not None and self._has_low_port and _SETPRIV:
            argv, uid = (_SETPRIV, *_as_account(uid), *argv), None
        return Spec(
            id=IDS[layout.active],
            argv=argv,
            cwd=str(config.parent),
            environment=dict.fromkeys(names, home),
            restart=Restart.ALWAYS,
            uid=uid,
            gid=uid,
            grace_seconds=_STOP_SECONDS,
            umask=0o077,
            labels=self._labels(layout, binary),
        )

    def _labels(self, layout: Layout, binary: CaddyBinary) -> dict[str, str]:
        config = render(self._edge, layout, layout.active)
        return {"config": digest(config), "caddy": binary.version, "uid": str(self._uid(binary))}

    def _uid(self, binary: CaddyBinary) -> int | None:
        possible = not self._has_low_port or _SETPRIV is not None
        reachable = _open_to_all(Path(binary.path)) and _open_to_all(self._edge.root)
        return ACCOUNT if os.geteuid() == 0 and possible and reachable else None

    @property
    def _has_low_port(self) -> bool:
        addresses = (*self._edge.listen, *self._edge.tls_listen)
        return any(int(address.rpartition(":")[2]) < 1024 for address in addresses)


def _as_account(uid: int) -> tuple[str, ...]:
    """What has setpriv drop every right of root's except that to low ports."""
    rights = [f"--{kind}=-all,+net_bind_service" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
    return (f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *rights, "--no-new-privs")


class _Said(msgspec.Struct, frozen=True):
    identifier: str = ""
    error: str = ""


def _decoded(line: str) -> _Said:
    try:
        return msgspec.json.decode(line, type=_Said)
    except msgspec.DecodeError:
        return _Said()


def _open_to_all(path: Path) -> bool:
    """Whether any account may go to this place and use it."""
    places: Sequence[Path] = [path.resolve(), *path.resolve().parents]
    return all(place.stat().st_mode & 0o001 for place in places)


def _prepare(config: Path, content: bytes, storage: Path, uid: int | None) -> None:
    """The process's directory, its configuration (it holds the secret: 0600) and what it shares with the
    other one, owned by who runs it."""
    for directory in (config.parent, config.parent / "home", storage):
        directory.mkdir(exist_ok=True)
        directory.chmod(0o700)
    config.unlink(missing_ok=True)
    descriptor = os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    if os.geteuid() == 0:
        owner = 0 if uid is None else uid
        for path in (config.parent, *config.parent.rglob("*"), storage, *storage.rglob("*")):
            with contextlib.suppress(FileNotFoundError):  # the other process cleans up while we look
                os.chown(path, owner, owner, follow_symlinks=False)
