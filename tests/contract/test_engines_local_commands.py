"""Commands and checks of the local engine: real processes, told live, ended with all their children."""

import asyncio
import os
import socket
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from engines_support import PYTHON, Heard, LocalRig, command, living, local, of, revision, running, until

from refloat.domain.errors import StepFailed
from refloat.domain.services import ExecCheck, HttpCheck, Probe, TcpCheck
from refloat.engines.local.engine import LocalEngine
from refloat.supervisor.base import State
from refloat.supervisor.processes import LocalSupervisor


@pytest.fixture
async def rig() -> AsyncIterator[LocalRig]:
    async with local() as made:
        yield made


# -- commands


async def test_a_command_tells_its_output_while_it_runs(rig: LocalRig) -> None:
    heard = Heard()
    script = "echo waiting; while [ ! -e ~/go ]; do sleep 0.01; done; echo went"
    call = asyncio.create_task(rig.engine.run(revision(), ("sh", "-c", script), "k", heard))

    async def waiting() -> bool:
        return heard == ["waiting"]

    await until(waiting)
    (rig.node_dir / "services/web/home/go").touch()
    assert (await call).exit_code == 0
    assert heard[:2] == ["waiting", "went"]


async def test_stopping_a_command_leaves_nothing_of_its_tree(rig: LocalRig) -> None:
    token = f"job-{uuid.uuid4().hex}"
    daemon = 'trap "" TERM; while :; do sleep 1; done'
    script = f"trap '' TERM; (setsid sh -c '{daemon}' {token} &); echo up; sleep 99"
    heard = Heard()
    call = asyncio.create_task(rig.engine.run(revision(grace_seconds=0), ("sh", "-c", script), "k", heard))

    async def up() -> bool:
        return "up" in heard and bool(living(token))

    await until(up)
    await rig.engine.stop(revision().key, 0)
    with pytest.raises(StepFailed):
        await call
    assert living(token) == []


async def test_a_command_of_a_killed_control_plane_is_joined_by_the_next(rig: LocalRig) -> None:
    script = "echo once >>~/count; while [ ! -e ~/go ]; do sleep 0.01; done; exit 5"
    program = (
        "import asyncio, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path; from engines_support import Heard, LocalRig, revision\n"
        f"rig = LocalRig(Path({str(rig.node_dir)!r}))\n"
        f"asyncio.run(rig.engine.run(revision(), ('sh', '-c', {script!r}), 'k', Heard()))\n"
    )
    owner = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    count = rig.node_dir / "services/web/home/count"

    async def counted() -> bool:
        return count.exists() and bool(count.read_text())

    await until(counted)
    owner.kill()
    await owner.wait()
    (rig.node_dir / "services/web/home/go").touch()
    assert (await rig.engine.run(revision(), ("sh", "-c", script), "k", Heard())).exit_code == 5
    assert count.read_text() == "once\n"


async def test_a_command_that_ends_while_it_is_joined_is_not_run_again(
    rig: LocalRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "echo once >>~/count; while [ ! -e ~/go ]; do sleep 0.01; done; exit 5"
    home = rig.node_dir / "services/web/home"
    first = asyncio.create_task(rig.engine.run(revision(), ("sh", "-c", script), "k", Heard()))

    async def counted() -> bool:
        return (home / "count").exists() and bool((home / "count").read_text())

    await until(counted)
    joining = LocalSupervisor(rig.node_dir)
    known = joining.state

    async def state(id: str) -> State | None:
        """What it was before it ended."""
        found = await known(id)
        (home / "go").touch()
        await joining.wait(id)
        return found

    monkeypatch.setattr(joining, "state", state)
    next_owner = LocalEngine(rig.node_dir, joining, rig.accounts)
    assert (await next_owner.run(revision(), ("sh", "-c", script), "k", Heard())).exit_code == 5
    assert (await first).exit_code == 5
    assert (home / "count").read_text() == "once\n"


async def test_stopping_a_revision_ends_its_command_too(rig: LocalRig) -> None:
    heard = Heard()
    it = revision()
    call = asyncio.create_task(rig.engine.run(it, ("sh", "-c", "echo up; exec sleep 1000"), "k", heard))

    async def up() -> bool:
        return "up" in heard

    await until(up)
    await rig.engine.stop(it.key, 5)
    with pytest.raises(StepFailed, match="stopped before it ended"):
        await call


# -- checks


async def test_an_exec_check_runs_as_the_instance(rig: LocalRig) -> None:
    it = revision(environment={"KEY": "value"})
    await rig.engine.prepare(it)
    (instance,) = await of(rig.engine, it)
    uid = rig.accounts.uid("web")
    script = (
        f'[ "$KEY" = value ] && [ "$PWD" = "$HOME" ] && [ $(id -u) = {os.getuid() if uid is None else uid} ]'
    )
    assert await rig.engine.check(instance, _execute("sh", "-c", script), 10) == ""
    assert await rig.engine.check(instance, _execute("sh", "-c", "exit 3"), 10) == "sh ended with exit code 3"
    answer = await rig.engine.check(instance, _execute("no-such-check"), 10)
    assert answer == "no-such-check cannot be run: No such file or directory"


async def test_an_exec_check_that_hangs_is_ended_with_its_children(rig: LocalRig) -> None:
    it = revision()
    await rig.engine.prepare(it)
    (instance,) = await of(rig.engine, it)
    token = f"check-{uuid.uuid4().hex}"
    script = f"sh -c 'trap \"\" TERM; while :; do sleep 1; done' {token}; true"
    assert await rig.engine.check(instance, _execute("sh", "-c", script), 0.3) == "no answer within 0.3 s"

    async def gone() -> bool:
        return not living(token)

    await until(gone)


async def test_an_http_check_tells_the_status(rig: LocalRig) -> None:
    it = rig.serving(revision())
    await rig.engine.prepare(it)
    (instance,) = await running(rig.engine, it)
    assert await rig.engine.check(instance, Probe(http=HttpCheck(path="/")), 5) == ""
    answer = await rig.engine.check(instance, Probe(http=HttpCheck(path="no-such-page", port=8080)), 5)
    assert answer == "GET /no-such-page answered 404"


async def test_a_check_of_what_does_not_answer_tells_how(rig: LocalRig) -> None:
    silent = "import os, socket; s = socket.create_server(('127.0.0.1', int(os.environ['PORT']))); input()"
    it = command(revision(), "sh", "-c", f'sleep 1000 | {PYTHON} -c "{silent}"')
    await rig.engine.prepare(it)
    (instance,) = await running(rig.engine, it)
    assert await rig.engine.check(instance, Probe(http=HttpCheck()), 0.2) == "no answer within 0.2 s"
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    closed = Probe(tcp=TcpCheck(host="127.0.0.1", port=port))
    assert await rig.engine.check(instance, closed, 5) == f"nothing listens on 127.0.0.1:{port}"


def _execute(*argv: str) -> Probe:
    return Probe(exec=ExecCheck(command=argv))
