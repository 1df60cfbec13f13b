"""What the local engine adds to the contract: ports, users and homes."""

import asyncio
import os
import random
import signal
import socket
import stat
import uuid
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
from engines_support import (
    LISTENS,
    PYTHON,
    ROOT,
    Heard,
    LocalRig,
    changed,
    command,
    living,
    local,
    of,
    revision,
    running,
    until,
)

from refloat.domain.errors import StepFailed, Unavailable
from refloat.domain.revision import Artifact, DatabaseServer, InstanceState, Revision
from refloat.domain.services import DatabaseType, HttpCheck, Probe
from refloat.engines.local import engine, ports
from refloat.engines.local.engine import KEPT_REVISIONS, LocalEngine
from refloat.engines.local.ports import Ports
from refloat.routers.caddy import sockets as edges
from refloat.supervisor import tcp
from refloat.supervisor.ports import candidates
from refloat.supervisor.processes import LocalSupervisor

needs_root = pytest.mark.skipif(not ROOT, reason="only root can become someone else")


@pytest.fixture
async def rig() -> AsyncIterator[LocalRig]:
    async with local() as made:
        yield made


async def printed(rig: LocalRig, it: Revision, *argv: str) -> list[str]:
    """What a command of the service prints."""
    heard = Heard()
    key = f"{it.key}.{uuid.uuid4().hex}"
    assert (await rig.engine.run(it, argv, key, heard)).exit_code == 0, heard
    return heard[:-1]


async def told(rig: LocalRig, it: Revision, text: str) -> None:
    """Wait until an instance of the revision has written this line."""

    async def written() -> bool:
        return any(line.text == text for line in await rig.engine.logs(it.key, 1000))

    await until(written)


# -- ports


class Loaded(random.Random):
    """Dice that fall as they are told, then as the real ones."""

    def __init__(self, numbers: Iterable[int]) -> None:
        super().__init__(1)
        self._numbers = list(numbers)

    def randint(self, a: int, b: int) -> int:
        return self._numbers.pop(0) if self._numbers else super().randint(a, b)


def free_ports(count: int) -> list[int]:
    with socket.socket() as first:
        first.bind(("127.0.0.1", 0))
        start = 20_000 + first.getsockname()[1] % 5_000
    return list(range(start, start + count))


async def test_a_port_is_never_given_to_two_instances_that_do_not_listen_yet() -> None:
    wanted = free_ports(8)
    async with local(Ports(Loaded([port for port in wanted for _ in range(8)]))) as rig:
        them = [revision(service=name, instances=3) for name in ("a", "b")]
        prepared = await asyncio.gather(*(rig.engine.prepare(it) for it in them))
        endpoints = [instance.endpoint for instances in prepared for instance in instances]
        assert len(endpoints) == len(set(endpoints)) == 6


async def test_another_control_plane_gives_no_port_of_ours_away() -> None:
    (wanted, other) = free_ports(2)
    async with local(Ports(Loaded([wanted]))) as rig:
        (mine,) = await rig.engine.prepare(revision(service="a"))
        later = rig.reopened(Ports(Loaded([int(mine.endpoint.rpartition(":")[2]), other])))
        (its,) = await later.prepare(revision(service="b"))
        assert its.endpoint != mine.endpoint


async def test_a_port_somebody_listens_on_is_not_given() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = listener.getsockname()[1]
        with Ports(Loaded([taken] * 3)).take(()) as given:
            assert given.number != taken


async def test_a_port_is_its_instances_alone_before_anything_listens_there_and_until_it_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither another installation nor an edge gives it away meanwhile: both would answer in its place."""
    wanted, other, spare = free_ports(3)
    monkeypatch.setattr(edges.random, "sample", lambda candidates, _: list(candidates))

    def given_to_an_edge() -> int:
        with edges.free_ports(range(wanted)) as fresh:
            return next(fresh)

    async with local(Ports(Loaded([wanted]))) as rig, local() as stranger:
        silent = command(revision(), "sleep", "1000")
        (mine,) = await rig.engine.prepare(silent)
        (its,) = await stranger.reopened(Ports(Loaded([wanted, other]))).prepare(silent)
        assert (mine.endpoint, its.endpoint) == (f"127.0.0.1:{wanted}", f"127.0.0.1:{other}")
        assert given_to_an_edge() == spare
        await rig.engine.stop(silent.key, 5)
        assert given_to_an_edge() == wanted


async def _answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    writer.close()


@pytest.mark.parametrize("probe", [LISTENS, Probe(http=HttpCheck(path="/"))])
async def test_another_process_that_answers_on_its_port_does_not_make_it_well(
    rig: LocalRig, monkeypatch: pytest.MonkeyPatch, probe: Probe
) -> None:
    """It came first, and the application that cannot listen there is about to end. What runs on beside the
    one that answers has made it do so."""
    it = command(revision(), "sh", "-c", "echo up; exec sleep 1000")
    (instance,) = await rig.engine.prepare(it)
    await told(rig, it, "up")
    host, _, port = instance.endpoint.rpartition(":")
    async with await asyncio.start_server(_answer, host, int(port)):
        assert await rig.engine.check(instance, probe, 5) == f"another process answers on {instance.endpoint}"
        monkeypatch.setattr(engine, "SETTLED_SECONDS", 0)  # a forwarder of a container is not of its tree
        assert await rig.engine.check(instance, probe, 5) == ""
    assert "nothing listens" in await rig.engine.check(instance, probe, 5)


async def test_a_helper_without_marks_that_listens_for_it_makes_it_well(
    rig: LocalRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are no control groups; it is a descendant of the shim."""
    serve = f"env -i setsid {PYTHON} -I -m http.server --bind $HOST $PORT"
    it = command(revision(), "sh", "-c", f"({serve} &); exec sleep 1000")
    supervisor = LocalSupervisor(rig.node_dir, cgroups_root=rig.node_dir / "none")
    bare = LocalEngine(rig.node_dir, supervisor, rig.accounts)
    monkeypatch.setattr(engine, "SETTLED_SECONDS", 1000)
    await bare.prepare(it)
    await running(bare, it)


async def test_whose_processes_may_not_be_looked_at_is_believed(
    rig: LocalRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of another user are by root in a container."""

    def forbidden(link: str) -> str:
        raise PermissionError(13, "Permission denied", link)

    it = rig.serving(revision())
    monkeypatch.setattr(engine, "SETTLED_SECONDS", 1000)
    monkeypatch.setattr(tcp.os, "readlink", forbidden)
    await rig.engine.prepare(it)
    await running(rig.engine, it)


async def test_two_who_start_a_database_at_the_same_time_start_one() -> None:
    async with local() as rig:
        (version, *_) = rig.engine.capabilities().databases[DatabaseType.REDIS]
        port = int((await rig.engine.reserve("web")).rpartition(":")[2])
        server = DatabaseServer(
            type=DatabaseType.REDIS, version=version, host="127.0.0.1", port=port,
            login="", password="sesame", database="0",
        )  # fmt: skip
        it = revision(database=server)
        prepared = await asyncio.gather(*(each.prepare(it) for each in (rig.engine, rig.reopened())))
        assert prepared[0] == prepared[1] and len(prepared[0]) == 1


@pytest.mark.parametrize("first", [1024, 1500, 10_000, 20_001, 32_768, 49_152])
def test_ports_are_below_those_of_connections_and_never_privileged_or_people_s_own(first: int) -> None:
    among = candidates(first)
    assert among[0] >= 20_000 and len(among) >= 4096
    assert among[-1] < first or first < 25_000


async def test_no_free_port_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_is_free", lambda port: False)
    with pytest.raises(Unavailable, match="no free port"):
        Ports().take(())


async def test_an_instance_started_again_keeps_its_port(rig: LocalRig) -> None:
    it = revision()
    (before,) = await rig.engine.prepare(it)
    await rig.engine.stop(it.key, 5)
    (after,) = await rig.engine.prepare(it)
    assert after.endpoint == before.endpoint


# -- what a process gets


async def test_variables_of_the_user_win_except_for_the_port(rig: LocalRig) -> None:
    artifact = Artifact(
        key="a", location="", web=(), environment={"PATH": "/usr/bin:/bin", "BUILT": "1", "X": "1"}
    )
    it = command(
        revision(artifact=artifact, environment={"X": "2", "HOST": "0.0.0.0", "PORT": "1"}),
        *("sh", "-c", "env; exec sleep 1000"),
    )
    (instance,) = await rig.engine.prepare(it)
    port = instance.endpoint.rpartition(":")[2]
    await told(rig, it, f"PORT={port}")
    lines = {line.text for line in await rig.engine.logs(it.key, 100)}
    assert {"PATH=/usr/bin:/bin", "BUILT=1", "X=2", "HOST=0.0.0.0", "LANG=C.UTF-8"} <= lines
    assert f"HOME={rig.node_dir / 'services/web/home'}" in lines
    assert f"TMPDIR={rig.node_dir / 'services/web/tmp'}" in lines


async def test_it_listens_on_the_loopback_unless_told_otherwise(rig: LocalRig) -> None:
    it = command(revision(), "sh", "-c", "echo host $HOST; exec sleep 1000")
    await rig.engine.prepare(it)
    await told(rig, it, "host 127.0.0.1")


async def test_it_runs_in_the_release(rig: LocalRig) -> None:
    place = rig.node_dir / "services/web/releases/one"
    place.mkdir(parents=True)
    for folder in (place, *place.parents[:4]):
        folder.chmod(0o755)
    it = revision(artifact=Artifact(key="a", location=str(place), web=()))
    assert await printed(rig, it, "pwd") == [str(place)]


async def test_a_command_that_is_not_there_is_named(rig: LocalRig) -> None:
    it = command(revision(), "no-such-command")
    (instance,) = await rig.engine.prepare(it)
    assert (instance.state, instance.exit_code) == (InstanceState.EXITED, 127)
    assert [line.text for line in await rig.engine.logs(it.key, 5)] == [
        "cannot run 'no-such-command': command not found"
    ]


async def test_no_command_at_all_is_refused(rig: LocalRig) -> None:
    with pytest.raises(StepFailed, match="no command"):
        await rig.engine.prepare(command(revision()))


# -- users and homes


@needs_root
async def test_each_service_runs_as_a_user_that_cannot_look_at_the_others(rig: LocalRig) -> None:
    a, b = revision(service="a"), revision(service="b")
    (first,), (second,) = [await printed(rig, it, "id", "-u") for it in (a, b)]
    assert first != second and min(int(first), int(second)) >= 200_000
    await printed(rig, a, "sh", "-c", "echo private >~/secret; chmod 644 ~/secret")
    theirs = rig.node_dir / "services/a/home/secret"
    assert await printed(rig, b, "sh", "-c", f"cat {theirs} 2>/dev/null || echo denied") == ["denied"]
    state = rig.node_dir / "run"
    assert await printed(rig, b, "sh", "-c", f"ls {state} 2>/dev/null || echo denied") == ["denied"]


async def test_without_users_of_their_own_the_capabilities_say_so(rig: LocalRig) -> None:
    assert rig.engine.capabilities().isolation is ROOT


@needs_root
async def test_a_directory_nobody_can_pass_through_is_named_before_anything_starts(rig: LocalRig) -> None:
    rig.node_dir.parent.chmod(0o700)
    with pytest.raises(StepFailed, match=f"cannot pass through {rig.node_dir.parent}"):
        await rig.engine.prepare(revision())
    assert await rig.engine.observe() == ()


async def test_files_are_written_below_home_for_the_service_alone(rig: LocalRig) -> None:
    home = rig.node_dir / "services/web/home"
    files = {"config/app.toml": "one", "~/two": "two", str(home / "three"): "three"}
    it = revision(files=files)
    assert await printed(rig, it, "sh", "-c", "cd; cat config/app.toml two three") == ["onetwothree"]
    for path in ("config/app.toml", "two", "three"):
        assert stat.S_IMODE((home / path).stat().st_mode) == 0o600
    assert await printed(rig, changed(it, files={"two": "new"}), "sh", "-c", "cat ~/two") == ["new"]


@pytest.mark.parametrize("mount", ["/etc/passwd", "../../x", "~/../x", "", "a/../../b", "/"])
async def test_files_elsewhere_are_refused(rig: LocalRig, mount: str) -> None:
    with pytest.raises(StepFailed, match="outside of the service's home"):
        await rig.engine.prepare(revision(files={mount: "content"}))


async def test_a_link_the_service_planted_leads_nowhere(rig: LocalRig, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("untouched")
    it = revision()
    await printed(rig, it, "sh", "-c", f"ln -s {tmp_path} ~/folder; ln -s {tmp_path / 'victim'} ~/file")
    with pytest.raises(StepFailed, match="cannot be written"):
        await rig.engine.prepare(changed(it, files={"folder/victim": "overwritten"}))
    await rig.engine.prepare(changed(it, files={"file": "own"}))
    assert (tmp_path / "victim").read_text() == "untouched"


async def test_secrets_stand_in_private_files_only(rig: LocalRig) -> None:
    it = revision(environment={"KEY": "s3cret"})
    await rig.engine.prepare(it)
    holders = [p for p in rig.node_dir.rglob("*") if p.is_file() and b"s3cret" in p.read_bytes()]
    assert [path.name for path in holders] == ["spec.json"]
    assert stat.S_IMODE(holders[0].stat().st_mode) == 0o600


async def test_destroying_deletes_files_and_frees_the_user(rig: LocalRig) -> None:
    it = revision()
    await printed(rig, it, "sh", "-c", "mkdir -p ~/a/b; touch ~/a/b/c; chmod 0 ~/a/b")
    first = rig.accounts.uid("web")
    await rig.engine.destroy("web")
    assert not (rig.node_dir / "services/web").exists()
    assert not list((rig.node_dir / "run").iterdir())
    if first is not None:
        assert rig.accounts.uid("web") != first


# -- what becomes of it


async def test_an_instance_whose_shim_was_killed_has_exited_and_starts_anew(rig: LocalRig) -> None:
    it = rig.serving(revision())
    await rig.engine.prepare(it)
    (before,) = await running(rig.engine, it)
    state = await rig.supervisor.state(f"app.{it.key}.0")
    assert state is not None
    os.kill(_parent(state.pid), signal.SIGKILL)
    await rig.supervisor.wait(state.id)
    (lost,) = await of(rig.engine, it)
    assert (lost.state, lost.endpoint) == (InstanceState.EXITED, before.endpoint)
    assert lost.exit_code is None, "nobody saw how it ended"
    await rig.engine.prepare(it)
    await running(rig.engine, it)
    assert state.pid not in living("http.server")


async def test_logs_of_the_newest_revisions_are_kept(rig: LocalRig) -> None:
    count = KEPT_REVISIONS + 2
    them = [
        command(revision(number), "sh", "-c", "echo up; exec sleep 1000") for number in range(1, count + 1)
    ]
    for it in them:
        await rig.engine.prepare(it)
        await told(rig, it, "up")
    for it in them[1:]:
        await rig.engine.stop(it.key, 5)
    assert len(await of(rig.engine, them[0])) == 1, "a live one is never deleted"
    kept = [it.key for it in them if await rig.engine.logs(it.key, 5)]
    assert kept == [them[0].key, *(it.key for it in them[-KEPT_REVISIONS:])]


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
