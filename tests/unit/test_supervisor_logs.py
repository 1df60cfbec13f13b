"""Logs tell what a process wrote, and stay within their bounds whatever it writes."""

from collections.abc import AsyncIterator
from datetime import UTC
from pathlib import Path

import pytest
from supervisor_support import node, shell, shim_of, until

from refloat.supervisor import logs, shim
from refloat.supervisor.processes import LocalSupervisor

Node = tuple[Path, LocalSupervisor]
BYTES, FILES = 200_000, 3
BLOCK = 64 * (shim.LINE + 64)
"""How far a file may go beyond its limit: the lines written at once."""


@pytest.fixture
async def place() -> AsyncIterator[Node]:
    async with node(log_bytes=BYTES, log_files=FILES) as found:
        yield found


async def test_lines_carry_stream_and_a_time_in_microseconds(place: Node) -> None:
    _, supervisor = place
    await supervisor.start(shell("app", "echo to out; echo to err >&2; printf unfinished; exit 2"))
    state = await supervisor.wait("app")
    lines = supervisor.log("app", 10)
    assert {(line.stream, line.text) for line in lines[:-1]} == {
        ("out", "to out"),
        ("err", "to err"),
        ("out", "unfinished"),
    }
    assert lines[-1].stream == "shim" and lines[-1].text.startswith("ended with exit code 2")
    assert all(line.at.tzinfo == UTC for line in lines)
    assert state.started_at is not None and state.started_at <= lines[0].at
    raw = supervisor.log_path("app").read_text().splitlines()[0]
    assert len(raw.split(" ")[0]) == len("2026-11-24T10:00:00.123456Z")


@pytest.mark.parametrize(
    "writer", ["yes", "yes ''", "cat /dev/zero", "cat /dev/urandom", "yes >&2 & exec cat /dev/zero"]
)
async def test_endless_output_stays_within_its_bounds(place: Node, writer: str) -> None:
    directory, supervisor = place
    await supervisor.start(shell("loud", writer))
    folder = supervisor.log_path("loud").parent
    await until((folder / "current.2").exists)
    oldest = (folder / "current.2").stat().st_ino
    await until(lambda: (folder / "current.2").stat().st_ino != oldest)
    files = list(folder.iterdir())
    assert {path.name for path in files} <= {"current", "current.1", "current.2"}
    assert sum(path.stat().st_size for path in files if path.exists()) <= FILES * (BYTES + BLOCK)
    assert _resident_kilobytes(shim_of(directory, "loud")) < 60_000
    assert all(len(line.text.encode()) <= 4 * shim.LINE for line in supervisor.log("loud", 100))
    await supervisor.stop("loud", 0)


async def test_bytes_that_are_no_text_do_not_break_a_line(place: Node) -> None:
    _, supervisor = place
    await supervisor.start(shell("app", "printf 'a\\377\\000b\\r\\nnext\\n'"))
    await supervisor.wait("app")
    assert [line.text for line in supervisor.log("app", 10)][:2] == ["a\ufffd\0b", "next"]


async def test_a_line_without_end_is_cut(place: Node) -> None:
    _, supervisor = place
    await supervisor.start(shell("app", f"head -c {3 * shim.LINE} /dev/zero | tr '\\0' x"))
    await supervisor.wait("app")
    lines = [line.text for line in supervisor.log("app", 10) if line.stream == "out"]
    assert "".join(lines) == "x" * 3 * shim.LINE
    assert all(len(line) <= shim.LINE for line in lines)


async def test_the_tail_goes_back_over_rotated_files(place: Node) -> None:
    _, supervisor = place
    await supervisor.start(shell("app", "i=0; while [ $i -lt 8000 ]; do echo line $i; i=$((i+1)); done"))
    await supervisor.wait("app")
    assert supervisor.log_path("app").with_name("current.1").exists()
    lines = [line.text for line in supervisor.log("app", 5001) if line.stream == "out"]
    assert lines == [f"line {number}" for number in range(3000, 8000)]


async def test_a_follower_gives_every_line_once(place: Node) -> None:
    _, supervisor = place
    await supervisor.start(
        shell("app", "i=0; while [ $i -lt 8000 ]; do echo line $i; i=$((i+1)); done; exec sleep 999")
    )
    follower = logs.Follower(supervisor.log_path("app").parent)
    seen: list[str] = []

    def all_seen() -> bool:
        seen.extend(line.text for line in follower.new())
        return len(seen) >= 8000

    await until(all_seen)
    follower.close()
    assert seen == [f"line {number}" for number in range(8000)]


def test_a_line_cut_by_a_full_disk_is_left_out(tmp_path: Path) -> None:
    whole = b"2026-11-24T10:00:00.000001Z out whole\n"
    (tmp_path / "current").write_bytes(whole + b"2026-11-2\n" + whole)
    assert [line.text for line in logs.tail(tmp_path, 10)] == ["whole", "whole"]


def _resident_kilobytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])
