"""Counting requests from the edge's access log.

The edge writes one line for each request it has finished, whether this control plane runs or not. What
the lines say (Caddy 2.11):

- `error`: the edge answered itself. 502, 503 and 504 of this kind are failures; the same status without
  it was the application's own answer.
- neither `error` nor `upstream`: the response broke off in the middle. A line "aborting with incomplete
  response" for the same client comes before it: "reading: …" is the upstream's fault, except "reading:
  context canceled", which like "writing: …" is a client that went away by itself.

Not seen: requests in flight when the edge itself is killed, an upgraded connection (WebSocket) cut by
its application, and a response whose only end is the end of its connection, when that comes too soon.
"""

import asyncio
import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from refloat.routers.base import Counts

_EDGE_FAILURES = (502, 503, 504)
_ABORTED = b'"aborting with incomplete response"'
_ATTEMPTS, _PAUSE_SECONDS = 40, 0.005


class _Request(msgspec.Struct, frozen=True):
    remote_ip: str = ""
    remote_port: str = ""


class _Line(msgspec.Struct, frozen=True):
    request: _Request = _Request()
    msg: str = ""
    service: str = ""
    status: int = 0
    upstream: str | None = None
    error: str = ""


_DECODER = msgspec.json.Decoder(_Line)


class Position(msgspec.Struct, frozen=True):
    """A point in one process's log: which file (its inode, 0 when there was none) and how far into it."""

    inode: int = 0
    offset: int = 0


def mark(directories: Sequence[Path]) -> str:
    """The present end of every log, as text to keep."""
    return ",".join(
        f"{folder.name}:{at.inode}:{at.offset}" for folder in directories for at in [_end(folder)]
    )


async def count(
    directories: Sequence[Path], since: str, service_id: str, expected: frozenset[str]
) -> Counts | None:
    """Requests of the service in the logs since the mark, once the `expected` marks are written there."""
    data = b""
    for _ in range(_ATTEMPTS):
        data = await asyncio.to_thread(_read_all, directories, since)
        if all(f'"{text}"'.encode() in data for text in expected):
            break
        await asyncio.sleep(_PAUSE_SECONDS)
    return await asyncio.to_thread(tally, data, service_id)


def tally(data: bytes, service_id: str) -> Counts | None:
    """What these log lines say of the service."""
    served = failed = 0
    broken: dict[_Request, str] = {}
    wanted = b'"service":' + msgspec.json.encode(service_id)
    for line in data.split(b"\n"):
        if _ABORTED in line:
            entry = _decode(line)
            broken[entry.request] = entry.error
        elif wanted in line and (entry := _decode(line)).service == service_id:
            served += 1
            failed += _is_failure(entry, broken)
    return Counts(served=served, failed=failed) if served else None


def _is_failure(line: _Line, broken: dict[_Request, str]) -> bool:
    if line.error:
        return line.status in _EDGE_FAILURES
    if line.upstream is not None:
        return False
    reason = broken.pop(line.request, "")
    return reason.startswith("reading: ") and "context canceled" not in reason


def _decode(line: bytes) -> _Line:
    """A line cut off by a crash of the edge says nothing."""
    try:
        return _DECODER.decode(line)
    except msgspec.DecodeError:
        return _Line()


def _end(folder: Path) -> Position:
    try:
        status = (folder / "access.log").stat()
    except FileNotFoundError:
        return Position()
    return Position(status.st_ino, status.st_size)


def _read_all(directories: Sequence[Path], since: str) -> bytes:
    positions = _parse(since)
    return b"".join(_read(folder, positions.get(folder.name, Position())) for folder in directories)


def _parse(since: str) -> dict[str, Position]:
    positions = {}
    for part in filter(None, since.split(",")):
        name, inode, offset = part.split(":")
        positions[name] = Position(int(inode), int(offset))
    return positions


def _read(folder: Path, start: Position) -> bytes:
    """From `start` on, across rotated files. When its file has been rotated away: all that is left."""
    with contextlib.ExitStack() as stack:
        files = _open_all(folder, stack)
        inodes = [os.fstat(file.fileno()).st_ino for file in files]
        if start.inode in inodes:
            files = files[inodes.index(start.inode) :]
            files[0].seek(start.offset)
        return b"".join(file.read() for file in files)


def _open_all(folder: Path, stack: contextlib.ExitStack) -> list[BinaryIO]:
    """Every log file, oldest first; tries again when a rotation happens meanwhile."""
    for _ in range(_ATTEMPTS):
        names = list(_names(folder))
        with contextlib.suppress(FileNotFoundError):
            before = [name.stat().st_ino for name in names]
            files: list[BinaryIO] = [stack.enter_context(name.open("rb")) for name in names]
            opened = [os.fstat(file.fileno()).st_ino for file in files]
            if before == opened == [name.stat().st_ino for name in _names(folder)]:
                return files
    return []


def _names(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.glob("access-*.log"))
    if (folder / "access.log").exists():
        yield folder / "access.log"
