"""What a supervised process gets, what is known of it, and how it is started again."""

import asyncio
import json
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest
from supervisor_support import PATH, ROOT, V1, living, node, said, shell, shim_of, until

from refloat.domain.errors import Invalid, NotFound
from refloat.supervisor import shim
from refloat.supervisor.base import Restart, Spec, Status
from refloat.supervisor.processes import LocalSupervisor

Node = tuple[Path, LocalSupervisor]
needs_root = pytest.mark.skipif(not ROOT, reason="only root can become someone else")


@pytest.fixture
async def place() -> AsyncIterator[Node]:
    async with node() as found:
        yield found


async def output(supervisor: LocalSupervisor, spec: Spec) -> list[str]:
    """What a command prints until it ends well."""
    await supervisor.start(spec)
    state = await supervisor.wait(spec.id)
    lines = supervisor.log(spec.id, 1000)
    assert state.exit_code == 0, lines
    return [line.text for line in lines if line.stream == "out"]


# -- what the process gets


async def test_the_environment_is_built_from_nothing(place: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_SECRET", "s3cret")
    given = {"PATH": PATH, "ITS_OWN": "value with\nnewline"}
    lines = await output(place[1], shell("env", "tr '\\0' '\\n' </proc/self/environ", environment=given))
    names = {line.partition("=")[0] for line in lines if "=" in line}
    assert names == {"PATH", "ITS_OWN", "REFLOAT_PROCESS_ID", "REFLOAT_NODE"}
    assert "REFLOAT_PROCESS_ID=env" in lines


async def test_secrets_stand_in_private_files_only(place: Node) -> None:
    directory, supervisor = place
    await supervisor.start(shell("app", "exec sleep 1000", environment={"PATH": PATH, "KEY": "s3cret"}))
    holders = set()
    for path in (directory / "run").rglob("*"):
        assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0, path
        if path.is_file() and b"s3cret" in path.read_bytes():
            holders.add(path.name)
    assert holders == {"spec.json"}
    for file in ("cmdline", "environ"):
        assert b"s3cret" not in Path(f"/proc/{shim_of(directory, 'app')}/{file}").read_bytes()


async def test_no_descriptor_of_ours_is_inherited(place: Node) -> None:
    lines = await output(place[1], shell("fds", "ls /proc/$$/fd; true"))
    assert lines == ["0", "1", "2"]


async def test_a_descriptor_kept_for_it_is_open_until_it_ended_and_is_not_inherited(place: Node) -> None:
    readable, kept = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    await place[1].start(shell("fds", "ls /proc/$$/fd; exec sleep 1000"), (kept,))
    os.close(kept)
    await until(lambda: len(place[1].log("fds", 10)) == 3)
    assert [line.text for line in place[1].log("fds", 10)] == ["0", "1", "2"]
    with pytest.raises(BlockingIOError):
        os.read(readable, 1)
    await place[1].stop("fds")
    os.set_blocking(readable, True)
    assert os.read(readable, 1) == b""
    os.close(readable)


async def test_umask_and_core_limit_are_set(place: Node) -> None:
    lines = await output(place[1], shell("limits", "umask; ulimit -c", umask=0o077))
    assert lines == ["0077", "0"]


async def test_no_signal_is_ignored_for_it_though_the_server_was_begun_in_the_background(place: Node) -> None:
    """A shell cannot even trap a signal that it was born to ignore."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGHUP)}
    try:
        lines = await output(place[1], shell("signals", "grep SigIgn /proc/self/status"))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    ignored = int(lines[0].removeprefix("SigIgn:"), 16)
    assert ignored & 0x7FFFFFFF == 0, f"{ignored:b}"  # the two above that are the C library's


async def test_the_argument_list_is_taken_as_it_is(place: Node) -> None:
    spec = shell("argv", "", argv=("printf", "%s|", "a b", "$HOME", "*", "'"))
    assert await output(place[1], spec) == ["a b|$HOME|*|'|"]


@needs_root
async def test_user_group_and_groups_are_dropped(place: Node) -> None:
    lines = await output(place[1], shell("user", "id -u; id -g; id -G", uid=200_001))
    assert lines == ["200001", "200001", "200001"]


@needs_root
async def test_a_dropped_user_may_open_its_standard_output_by_name(place: Node) -> None:
    lines = await output(place[1], shell("stdout", "echo by name >/dev/stdout", uid=200_001))
    assert lines == ["by name"]


@pytest.mark.skipif(not (V1 / "memory/cgroup.procs").exists() or not ROOT, reason="needs cgroups")
async def test_memory_beyond_the_limit_ends_the_process(place: Node) -> None:
    _, supervisor = place
    assert supervisor.limiting
    command = (sys.executable, "-c", "print(len(bytearray(b'x') * 200_000_000))")
    await supervisor.start(shell("hungry", "", argv=command, memory_bytes=30_000_000))
    assert (await supervisor.wait("hungry")).exit_code == 137


# -- what is known of it


async def test_starting_twice_gives_one_process(place: Node) -> None:
    _, supervisor = place
    spec = shell("one", "exec sleep 1000")
    first, second = await asyncio.gather(supervisor.start(spec), supervisor.start(spec))
    assert first.pid == second.pid
    assert (await LocalSupervisor(place[0]).start(spec)).pid == first.pid


async def test_a_cancelled_start_leaves_a_process_that_is_known(place: Node) -> None:
    _, supervisor = place
    starting = asyncio.create_task(supervisor.start(shell("one", "exec sleep 1000")))
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    state = await supervisor.state("one")
    assert state is None or state.status is Status.RUNNING


@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("kill -9 $$", 137), ("kill -TERM $$", 143)])
async def test_the_exit_code_is_the_shells(place: Node, script: str, code: int) -> None:
    await place[1].start(shell("ends", script))
    state = await place[1].wait("ends")
    assert (state.status, state.exit_code) == (Status.EXITED, code)


async def test_a_command_that_is_not_there_is_named_and_not_tried_again(place: Node) -> None:
    _, supervisor = place
    state = await supervisor.start(shell("no", "", argv=("no-such-command",), restart=Restart.ALWAYS))
    assert (state.status, state.exit_code) == (Status.EXITED, 127)
    assert [line.text for line in supervisor.log("no", 5)] == [
        "cannot run 'no-such-command': command not found"
    ]


async def test_a_directory_that_is_not_there_is_named(place: Node) -> None:
    state = await place[1].start(shell("no", "true", cwd="/no/such/place"))
    assert (state.status, state.exit_code) == (Status.EXITED, 126)
    (line,) = place[1].log("no", 5)
    assert line.text == "cannot enter the directory '/no/such/place': No such file or directory"


async def test_labels_are_kept_and_states_are_found_by_prefix(place: Node) -> None:
    _, supervisor = place
    for id in ("app.a.0", "app.b.0", "run.a"):
        await supervisor.start(shell(id, "exec sleep 1000", labels={"port": "1"}))
    found = await LocalSupervisor(place[0]).states("app.")
    assert [(state.id, state.labels) for state in found] == [
        ("app.a.0", {"port": "1"}),
        ("app.b.0", {"port": "1"}),
    ]


async def test_what_is_unknown_is_neither_stopped_nor_awaited(place: Node) -> None:
    _, supervisor = place
    await supervisor.stop("nobody")
    await supervisor.forget("nobody")
    assert await supervisor.state("nobody") is None
    assert supervisor.log("nobody", 5) == ()
    with pytest.raises(NotFound):
        await supervisor.wait("nobody")


async def test_an_id_cannot_lead_out_of_the_directory(place: Node) -> None:
    for id in ("../x", "a/b", "", ".hidden", "a" * 201):
        with pytest.raises(Invalid):
            await place[1].state(id)


async def test_stopping_what_ended_by_itself_keeps_its_exit_code(place: Node) -> None:
    _, supervisor = place
    await supervisor.start(shell("ends", "exit 4"))
    await supervisor.wait("ends")
    await supervisor.stop("ends")
    await supervisor.stop("ends")
    state = await supervisor.state("ends")
    assert state is not None and (state.status, state.exit_code) == (Status.STOPPED, 4)


async def test_forgetting_ends_the_process_and_deletes_its_directory(place: Node) -> None:
    directory, supervisor = place
    await supervisor.start(shell("gone", "exec sleep 1000", grace_seconds=1))
    await supervisor.forget("gone")
    assert not (directory / "run/gone").exists()
    assert living("gone") == set()


async def test_every_waiting_caller_learns_of_the_end(place: Node) -> None:
    _, supervisor = place
    await supervisor.start(shell("app", "exec sleep 1000"))
    waiting = [asyncio.create_task(supervisor.wait("app")) for _ in range(5)]
    given_up = asyncio.create_task(supervisor.wait("app"))
    await asyncio.sleep(0)
    given_up.cancel()
    await supervisor.stop("app")
    assert {(await task).status for task in waiting} == {Status.STOPPED}


# -- where it lives


async def test_a_directory_too_deep_for_a_socket_address_is_no_obstacle() -> None:
    async with node(Path(*["deep" * 10] * 5)) as (directory, supervisor):
        assert len(str(directory)) > 108
        await supervisor.start(shell("app", "exec sleep 1000"))
        await supervisor.stop("app")
        state = await supervisor.state("app")
        assert state is not None and state.status is Status.STOPPED


async def test_a_shim_of_an_older_version_goes_on_and_obeys(
    place: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, supervisor = place
    await supervisor.start(shell("older-shim", "exec sleep 1000"))
    newer = directory / "newer.py"
    newer.write_text(Path(shim.__file__).read_text() + "\n# newer\n")
    monkeypatch.setattr(shim, "__file__", str(newer))
    await supervisor.start(shell("newer-shim", "exec sleep 1000"))
    assert len(list((directory / "shims").iterdir())) == 2
    for id in ("older-shim", "newer-shim"):
        await supervisor.stop(id)
        assert living(id) == set()


async def test_nonsense_on_the_socket_does_not_disturb(place: Node) -> None:
    directory, supervisor = place
    await supervisor.start(shell("app", "exec sleep 1000"))
    path = str(directory / "run/app/ctl.sock")
    for nonsense in (
        b"\n",
        b"{}\n",
        b"[1]\n",
        b'"stop"\n',
        b'{"op": "stop", "grace": "x"}\n',
        b"\xff" * 9000,
    ):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(nonsense)
        assert await reader.read() == b""
        writer.close()
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b'{"op": "status"}\n')
    assert json.loads(await reader.readline())["status"] == "running"
    writer.close()


async def test_a_signal_can_be_sent_to_the_process(place: Node) -> None:
    directory, supervisor = place
    await supervisor.start(shell("app", "trap 'echo got it' USR1; echo ready; while :; do sleep 0.05; done"))
    await said(supervisor, "app", "ready")
    reader, writer = await asyncio.open_unix_connection(str(directory / "run/app/ctl.sock"))
    writer.write(json.dumps({"op": "signal", "signal": signal.SIGUSR1}).encode() + b"\n")
    await reader.readline()
    writer.close()
    await said(supervisor, "app", "got it")


# -- how it is started again


async def test_a_process_that_ends_is_started_again_after_growing_pauses(place: Node) -> None:
    _, supervisor = place
    await supervisor.start(shell("crash", "echo up; exit 7", restart=Restart.ALWAYS))
    await until(lambda: len([x for x in supervisor.log("crash", 99) if x.text == "up"]) >= 3)
    ups = [line.at for line in supervisor.log("crash", 99) if line.text == "up"]
    pauses = [(later - earlier).total_seconds() for earlier, later in pairwise(ups)]
    assert pauses[0] >= shim.FIRST_PAUSE and pauses[1] >= 2 * shim.FIRST_PAUSE
    state = await supervisor.state("crash")
    assert state is not None and state.restarts >= 2 and state.exit_code == 7


async def test_stop_during_a_pause_ends_it_at_once(place: Node) -> None:
    directory, supervisor = place
    await supervisor.start(shell("crash", "exit 7", restart=Restart.ALWAYS))
    await until(lambda: '"backoff"' in (directory / "run/crash/state.json").read_text())
    await supervisor.stop("crash", 3600)
    state = await supervisor.state("crash")
    assert state is not None and state.status is Status.STOPPED


async def test_nothing_of_a_crashed_generation_meets_the_next(place: Node) -> None:
    _, supervisor = place
    script = "(setsid sleep 1000 &); ls /proc/*/exe >/dev/null 2>&1; echo up; exit 1"
    await supervisor.start(shell("crash", script, restart=Restart.ALWAYS))
    await until(lambda: len([x for x in supervisor.log("crash", 99) if x.text == "up"]) >= 2)
    sleeping = [pid for pid in living("sleep") if b"REFLOAT_PROCESS_ID=crash" in _environ(pid)]
    assert len(sleeping) <= 1


def _environ(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


async def test_a_shim_that_is_gone_without_being_asked_is_lost(place: Node) -> None:
    directory, supervisor = place
    await supervisor.start(shell("app", "exec sleep 1000"))
    os.kill(shim_of(directory, "app"), signal.SIGKILL)
    assert (await supervisor.wait("app")).status is Status.LOST
    await supervisor.stop("app")
    state = await supervisor.state("app")
    assert state is not None and state.status is Status.STOPPED
