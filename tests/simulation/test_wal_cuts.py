"""A power cut leaves some prefix of the write-ahead log: nothing half-done is seen, and work goes on."""

import shutil
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.databases import Store
from tests.simulation.control_plane import ControlPlane

_HEADER, _FRAME_HEADER = 32, 24


class Frame(NamedTuple):
    """Where a frame of the log ends, in bytes, and whether it ends a commit."""

    end: int
    commits: bool


def frames(log: bytes) -> Iterator[Frame]:
    """The frames of a log, as SQLite's file format describes them."""
    size = struct.unpack(">I", log[8:12])[0]
    salt = log[16:24]
    position = _HEADER
    while position + _FRAME_HEADER + size <= len(log):
        head = log[position : position + _FRAME_HEADER]
        if head[8:16] != salt:
            return
        position += _FRAME_HEADER + size
        yield Frame(position, commits=head[4:8] != b"\0\0\0\0")


class Cut:
    """A database as it was before a redeploy, and the log that the redeploy wrote."""

    def __init__(self, database: Path, log: bytes, folder: Path) -> None:
        self._database, self._folder = database, folder
        self.log = log
        self.frames = list(frames(log))

    def at(self, end: int) -> Path:
        """A copy whose log ends there."""
        path = self._folder / f"cut{end}.db"
        shutil.copyfile(self._database, path)
        path.with_name(path.name + "-wal").write_bytes(self.log[:end])
        return path


def content(path: Path) -> list[str]:
    """All that is in it; fails when it is not whole."""
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found = list(connection.iterdump())
    connection.close()
    return found


@pytest.fixture
async def redeployed(plane: ControlPlane, tmp_path: Path) -> tuple[Cut, str]:
    """The log of a redeploy that replaces two services in two stages; and their environment."""
    environment = await plane.environment()
    for name, stage in (("first", "DEFAULT DATABASE"), ("second", "DEFAULT APPLICATION")):
        await plane.application(environment, name, "release=ok", stage)
    assert (await plane.roll(environment))["environment"]["state"] == "DEPLOYED"
    database = tmp_path / "refloat.db"
    with sqlite3.connect(database) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    connection.close()
    before = tmp_path / "before.db"
    shutil.copyfile(database, before)
    body = {"key": "A", "value": "b", "is_secret": False, "variable_scope": "ENVIRONMENT"}
    await plane.call("POST", "/variable", {**body, "variable_parent_id": environment})
    assert (await plane.roll(environment))["environment"]["state"] == "DEPLOYED"
    return Cut(before, (tmp_path / "refloat.db-wal").read_bytes(), tmp_path), environment


async def test_a_log_cut_inside_a_commit_is_as_if_that_had_not_begun(redeployed: tuple[Cut, str]) -> None:
    cut, _ = redeployed
    seen = content(cut.at(_HEADER))
    states = 0
    for frame in cut.frames:
        now = content(cut.at(frame.end))
        assert (now != seen) == frame.commits
        states, seen = states + frame.commits, now
        torn = content(cut.at(frame.end - 1))  # and in the middle of a frame
        assert frame.commits or torn == seen
    assert states > 15


async def test_a_log_cut_after_any_commit_is_gone_on_from(
    redeployed: tuple[Cut, str], tmp_path: Path
) -> None:
    """All processes died with it: the cluster is empty, and in the end everything runs again."""
    cut, environment = redeployed
    for frame in (Frame(_HEADER, commits=True), *cut.frames):
        if not frame.commits:
            continue
        path = cut.at(frame.end)
        again = ControlPlane(tmp_path, store=Store(f"sqlite:///{path}"))
        await again.start()
        try:
            assert (await again.ended(environment))["environment"]["state"] == "DEPLOYED", frame
            assert (await again.roll(environment))["environment"]["state"] == "DEPLOYED", frame
            assert len(again.world.running) == 2
        finally:
            await again.close()
