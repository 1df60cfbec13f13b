"""A server that is installed where users of services may not go, as root's own home is: what they run is
copied to the node, whole or not at all."""

import asyncio
import contextlib
import errno
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from refloat.builders import tools
from refloat.builders.tools import Tools
from refloat.engines.local import servers
from refloat.engines.local.servers import Server, Servers

NOBODY = 65534


def _of_a_wheel() -> list[Server]:
    return [it for it in (*servers._postgresql(), *servers._redis()) if it.wheel]


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody but us may enter the folder that the server is installed in."""
    monkeypatch.setattr(servers, "obstacle", lambda path, uid: path)
    may_run = tools.run_as

    def run_as(uid, argv, variables):  # type: ignore[no-untyped-def]
        inside = Path(argv[0]).is_relative_to(Path(tools.find_uv_bin()).parent)
        return (1, "") if inside else may_run(None, argv, variables)

    monkeypatch.setattr(tools, "run_as", run_as)


@pytest.mark.usefixtures("closed")
@pytest.mark.parametrize("server", _of_a_wheel(), ids=lambda it: f"{it.flavour} {it.version}")
def test_a_database_server_is_copied_with_its_libraries(server: Server, tmp_path: Path) -> None:
    program = Servers(tmp_path).usable(server, NOBODY)
    assert program.is_relative_to(tmp_path)
    others = [program.with_name("initdb")] if server.flavour == "postgresql" else []
    for each in (program, *others):
        told = subprocess.run([each, "--version"], capture_output=True, text=True)
        assert told.returncode == 0 and server.version in told.stdout, told.stderr


@pytest.mark.usefixtures("closed")
async def test_builds_that_begin_at_once_share_one_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied, copy, both = [], shutil.copyfile, threading.Barrier(2, timeout=1)

    def slow(source, target, **_):  # type: ignore[no-untyped-def]
        copied.append(target)
        with contextlib.suppress(threading.BrokenBarrierError):  # nobody else copies
            both.wait()
        return copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", slow)
    first, second = await asyncio.gather(Tools(tmp_path).uv(NOBODY), Tools(tmp_path).uv(NOBODY))
    assert first == second and len(copied) == 1


@pytest.mark.usefixtures("closed")
async def test_a_copy_for_which_there_is_no_room_leaves_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source, target, **_):  # type: ignore[no-untyped-def]
        Path(target).write_bytes(b"as much as there was room for")
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    assert Path(await Tools(tmp_path / "good").uv(NOBODY)).is_relative_to(tmp_path)
    monkeypatch.setattr(shutil, "copyfile", full)
    monkeypatch.setattr(shutil, "copy2", full)
    (tmp_path / "full").mkdir()
    with pytest.raises(OSError, match="No space left"):
        await Tools(tmp_path / "full").uv(NOBODY)
    for server in _of_a_wheel():
        with pytest.raises((OSError, shutil.Error), match="No space left"):
            Servers(tmp_path / "full").usable(server, NOBODY)
    assert [it for it in (tmp_path / "full").rglob("*") if it.is_file() and it.name != "lock"] == []
