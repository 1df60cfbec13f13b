"""One rig per engine adapter: how to make revisions that behave in a known way on it.

A further adapter is one more factory in `RIGS`; the suite says nothing that holds for one of them only.
"""

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

from refloat.clock import SystemClock
from refloat.domain.revision import Artifact, Instance, InstanceState, Level, Revision
from refloat.domain.services import Probe, TcpCheck
from refloat.engines.base import Engine
from refloat.engines.local.engine import LocalEngine
from refloat.engines.local.ports import Ports
from refloat.simulated.engine import SimulatedEngine
from refloat.simulated.script import VARIABLE
from refloat.simulated.world import World
from refloat.supervisor.accounts import Accounts
from refloat.supervisor.processes import LocalSupervisor

ROOT = os.geteuid() == 0
PYTHON = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
"""An interpreter that the users of services can reach."""
LISTENS = Probe(tcp=TcpCheck())


class Rig(Protocol):
    """An engine, and what must be asked of it to see it serve, die, and run commands to their end."""

    @property
    def engine(self) -> Engine: ...

    def reopened(self) -> Engine:
        """Another engine on the same world, as after a restart of the control plane."""
        ...

    def serving(self, revision: Revision) -> Revision: ...

    def dying(self, revision: Revision) -> Revision: ...

    def astray(self, revision: Revision) -> Revision:
        """It listens, and not where it was told to."""
        ...

    def broken(self, revision: Revision) -> tuple[Revision, Callable[[], None]]:
        """It cannot be started; until what comes with it is called, then it serves."""
        ...

    def reluctant(self, revision: Revision) -> Revision:
        """It serves, and takes a while to end."""
        ...

    def succeeding(self, revision: Revision) -> tuple[Revision, tuple[str, ...]]: ...

    def failing(self, revision: Revision) -> tuple[Revision, tuple[str, ...]]: ...

    def endless(self, revision: Revision) -> tuple[Revision, tuple[str, ...]]: ...


class LocalRig:
    """Real processes below a directory that other users can pass through."""

    def __init__(self, node_dir: Path, ports: Ports | None = None) -> None:
        self.node_dir = node_dir
        self.accounts = Accounts(node_dir)
        self.supervisor = LocalSupervisor(node_dir)
        self.engine = self.reopened(ports)

    def reopened(self, ports: Ports | None = None) -> LocalEngine:
        supervisor = LocalSupervisor(self.node_dir)
        return LocalEngine(self.node_dir, supervisor, Accounts(self.node_dir), ports=ports)

    def serving(self, revision: Revision) -> Revision:
        return command(revision, "sh", "-c", f"exec {PYTHON} -I -u -m http.server --bind $HOST $PORT")

    def dying(self, revision: Revision) -> Revision:
        return command(revision, "sh", "-c", "echo cannot go on; exit 1")

    def astray(self, revision: Revision) -> Revision:
        return command(revision, PYTHON, "-I", "-u", "-m", "http.server", "--bind", "127.0.0.1", "0")

    def broken(self, revision: Revision) -> tuple[Revision, Callable[[], None]]:
        program = self.node_dir.parent / "program"

        def mend() -> None:
            program.write_text(f"#!/bin/sh\nexec {PYTHON} -I -u -m http.server --bind $HOST $PORT\n")
            program.chmod(0o755)

        return command(revision, str(program)), mend

    def reluctant(self, revision: Revision) -> Revision:
        serve = f"exec {PYTHON} -I -u -m http.server --bind $HOST $PORT"
        return command(revision, "sh", "-c", f"trap '' TERM; {serve}")

    def succeeding(self, revision: Revision) -> tuple[Revision, tuple[str, ...]]:
        return revision, ("sh", "-c", "echo done as $$")

    def failing(self, revision: Revision) -> tuple[Revision, tuple[str, ...]]:
        return revision, ("sh", "-c", "echo failed as $$; exit 1")

    def endless(self, revision: Revision) -> tuple[Revision, tuple[str, ...]]:
        return revision, ("sh", "-c", "echo endless; exec sleep 1000")


class SimulatedRig:
    """Scripts instead of processes."""

    def __init__(self) -> None:
        self._world = World()
        self.engine = self.reopened()

    def reopened(self) -> SimulatedEngine:
        return SimulatedEngine(self._world, SystemClock())

    def serving(self, revision: Revision) -> Revision:
        return scripted(revision, "boot=ok")

    def dying(self, revision: Revision) -> Revision:
        return scripted(revision, "boot=exit")

    def astray(self, revision: Revision) -> Revision:
        return scripted(revision, "boot=elsewhere")

    def broken(self, revision: Revision) -> tuple[Revision, Callable[[], None]]:
        return scripted(revision, "boot=exit"), lambda: self._world.rewrite(revision.service_id, "boot=ok")

    def reluctant(self, revision: Revision) -> Revision:
        return scripted(revision, "stop_seconds=0.5")

    def succeeding(self, revision: Revision) -> tuple[Revision, tuple[str, ...]]:
        return scripted(revision, "release=ok"), ("release",)

    def failing(self, revision: Revision) -> tuple[Revision, tuple[str, ...]]:
        return scripted(revision, "release=fail"), ("release",)

    def endless(self, revision: Revision) -> tuple[Revision, tuple[str, ...]]:
        return scripted(revision, "release=hang"), ("release",)


@asynccontextmanager
async def local(ports: Ports | None = None) -> AsyncIterator[LocalRig]:
    base = Path(tempfile.mkdtemp(prefix="refloat-test-"))
    base.chmod(0o711)
    rig = LocalRig(base / "node", ports)
    try:
        yield rig
    finally:
        for state in await rig.supervisor.states():
            await rig.supervisor.stop(state.id, 0)
            await rig.supervisor.forget(state.id)
        shutil.rmtree(base)


@asynccontextmanager
async def simulated() -> AsyncIterator[SimulatedRig]:
    yield SimulatedRig()


RIGS: dict[str, Callable[[], AbstractAsyncContextManager[Rig]]] = {"local": local, "simulated": simulated}


def revision(number: int = 1, service: str = "web", **changes: object) -> Revision:
    """The n-th revision of a service, made by a deployment of its own."""
    values: dict[str, object] = {
        "key": f"{service}.{number}",
        "service_id": service,
        "environment_id": "production",
        "deployment_id": f"deployment-{number}",
        "fence": 1,
        "name": service,
        "artifact": Artifact(key="artifact", location="", web=()),
        "command": ("sleep", "1000"),
        "cpu": 2000,
        "grace_seconds": 2,
    }
    return Revision(**(values | changes))  # type: ignore[arg-type]


def command(it: Revision, *argv: str) -> Revision:
    return changed(it, command=argv)


def scripted(it: Revision, text: str) -> Revision:
    return changed(it, environment=it.environment | {VARIABLE: text})


def changed(it: Revision, **changes: object) -> Revision:
    fields = {name: getattr(it, name) for name in it.__struct_fields__}
    return Revision(**(fields | changes))


class Heard(list[str]):
    """A log sink that remembers the lines."""

    def __call__(self, level: Level, line: str) -> None:
        self.append(line)


async def until(condition: Callable[[], Awaitable[object]], seconds: float = 30) -> None:
    """Wait for something to become true; fails at the deadline."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


async def running(engine: Engine, it: Revision) -> tuple[Instance, ...]:
    """Its instances once all of them run and answer."""
    found: tuple[Instance, ...] = ()

    async def ready() -> bool:
        nonlocal found
        found = await of(engine, it)
        answers = [await engine.check(instance, LISTENS, 5) for instance in found]
        return len(found) == it.instances and not any(answers)

    await until(ready)
    assert {instance.state for instance in found} == {InstanceState.RUNNING}
    return found


async def of(engine: Engine, it: Revision) -> tuple[Instance, ...]:
    return tuple(instance for instance in await engine.observe() if instance.revision_key == it.key)


def living(token: str) -> list[int]:
    """Processes with this word among their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if token in path.read_bytes().decode(errors="replace").split("\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found
