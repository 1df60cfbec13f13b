"""Nothing of a process tree outlives its end, however the tree resists and whoever was killed before."""

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from supervisor_support import (
    HOSTILE,
    NOBODY,
    PATH,
    ROOT,
    V1,
    layouts,
    living,
    node,
    said,
    shell,
    shim_of,
    until,
)
from tests.programs import for_others

from refloat.supervisor.base import Restart, Status
from refloat.supervisor.processes import LocalSupervisor

Node = tuple[Path, LocalSupervisor]


@pytest.fixture(params=layouts())
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Node]:
    async with node(cgroups_root=request.param) as found:
        yield found


@pytest.fixture
def name() -> str:
    return f"app-{uuid.uuid4().hex}"


async def hostile(supervisor: LocalSupervisor, name: str, **changes: Any) -> None:
    await supervisor.start(shell(name, HOSTILE, **changes))
    await said(supervisor, name, "ready")
    await until(lambda: len(living(name)) >= 2)


@pytest.mark.parametrize(
    "uid", [None, pytest.param(200_007, marks=pytest.mark.skipif(not ROOT, reason="root"))]
)
async def test_stop_leaves_nothing_of_a_tree_that_ignores_term(
    place: Node, name: str, uid: int | None
) -> None:
    _, supervisor = place
    await hostile(supervisor, name, uid=uid)
    await supervisor.stop(name, 0.2)
    assert living(name) == set()
    state = await supervisor.state(name)
    assert state is not None and state.status is Status.STOPPED


async def test_a_killed_shim_is_lost_and_stop_ends_what_it_left(place: Node, name: str) -> None:
    directory, supervisor = place
    await hostile(supervisor, name)
    os.kill(shim_of(directory, name), signal.SIGKILL)
    assert (await supervisor.wait(name)).status is Status.LOST
    assert len(living(name)) >= 2
    await supervisor.stop(name)
    assert living(name) == set()


async def test_starting_again_after_a_killed_shim_leaves_one_tree(place: Node, name: str) -> None:
    directory, supervisor = place
    await hostile(supervisor, name)
    before = living(name)
    os.kill(shim_of(directory, name), signal.SIGKILL)
    await supervisor.wait(name)
    state = await supervisor.start(shell(name, "echo again; exec sleep 1000"))
    assert state.status is Status.RUNNING
    assert not before & living(name)


async def test_a_process_that_ends_by_itself_leaves_no_daemon(place: Node, name: str) -> None:
    _, supervisor = place
    script = f"{HOSTILE.split('echo ready')[0]} exit 0"
    await supervisor.start(shell(name, script))
    state = await supervisor.wait(name)
    assert (state.status, state.exit_code) == (Status.EXITED, 0)
    assert living(name) == set()


async def test_a_tree_that_clears_its_environment_is_still_ended(place: Node, name: str) -> None:
    _, supervisor = place
    daemon = "trap '' TERM; while :; do /bin/sleep 1; done"
    script = f'( setsid env -i sh -c "{daemon}" "$0" & ); echo ready; sleep 99'
    await supervisor.start(shell(name, script))
    await said(supervisor, name, "ready")
    await supervisor.stop(name, 0.2)
    assert living(name) == set()


async def test_a_terminated_shim_takes_its_tree_along(place: Node, name: str) -> None:
    directory, supervisor = place
    await hostile(supervisor, name, grace_seconds=0.2)
    os.kill(shim_of(directory, name), signal.SIGTERM)
    assert (await supervisor.wait(name)).status is Status.STOPPED
    assert living(name) == set()


async def test_a_shorter_grace_overtakes_a_longer_one(place: Node, name: str) -> None:
    _, supervisor = place
    await hostile(supervisor, name)
    patient = asyncio.create_task(supervisor.stop(name, 3600))
    await until(lambda: '"stopping"' in (place[0] / "run" / name / "state.json").read_text())
    await supervisor.stop(name, 0)
    await patient
    assert living(name) == set()


async def test_a_forking_crowd_cannot_outrun_its_end(place: Node, name: str) -> None:
    _, supervisor = place
    member = "while :; do sh -c : $0; done"
    crowd = f"trap '' TERM; for n in 1 2 3 4 5; do sh -c '{member}' $0 & done; echo ready; wait"
    await supervisor.start(shell(name, crowd, pids=100))
    await said(supervisor, name, "ready")
    await supervisor.stop(name, 0)
    assert living(name) == set()


async def test_the_groups_are_removed_with_the_process(name: str) -> None:
    async with node(cgroups_root=V1) as (_, supervisor):
        await supervisor.start(shell(name, "exec sleep 1000", pids=10))
        await supervisor.stop(name)
        assert not list(V1.glob(f"*/refloat/*{name}"))


@pytest.mark.skipif(not ROOT, reason="only root can become someone else")
@for_others
async def test_without_root_nothing_is_left_either(name: str, tmp_path: Path) -> None:
    script = Path(__file__).with_name("supervisor_unprivileged.py")
    command = [sys.executable, str(script), str(NOBODY), name]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["stopped", "lost", "nothing left"], done.stderr
    assert living(f"un{name}") == set()


async def test_a_control_plane_killed_outright_leaves_its_processes_to_the_next(name: str) -> None:
    async with node() as (directory, supervisor):
        program = (
            "import asyncio, sys; from pathlib import Path\n"
            "from refloat.supervisor.base import Spec\n"
            "from refloat.supervisor.processes import LocalSupervisor\n"
            f"spec = Spec(id={name!r}, argv=('sleep', '1000'), cwd='/', environment={{'PATH': {PATH!r}}})\n"
            f"print(asyncio.run(LocalSupervisor(Path({str(directory)!r})).start(spec)).pid, flush=True)\n"
            "sys.stdin.read()"
        )
        owner = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert owner.stdout is not None
        pid = int(await owner.stdout.readline())
        owner.kill()
        await owner.communicate()
        state = await supervisor.state(name)
        assert state is not None and (state.status, state.pid) == (Status.RUNNING, pid)
        spec = shell(name, "exit 1", restart=Restart.ALWAYS)
        assert (await supervisor.start(spec)).pid == pid
        await supervisor.stop(name)
        assert not Path(f"/proc/{pid}").exists()
