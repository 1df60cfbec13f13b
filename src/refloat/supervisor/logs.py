"""Reading the logs that shims write: the last lines across rotated files, and new lines as they come."""

import os
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from refloat.domain.revision import LogLine

CURRENT = "current"
_BLOCK = 65536
_MEGABYTE = 1024**2


def tail(folder: Path, count: int) -> tuple[LogLine, ...]:
    """The last `count` lines, oldest first; empty when there is no log."""
    lines: deque[LogLine] = deque()
    for raw in _backwards(folder):
        if len(lines) >= count:
            break
        if line := parse(raw):
            lines.appendleft(line)
    return tuple(lines)


def parse(raw: bytes) -> LogLine | None:
    """One line of a log file; None for one that a full disk or a crash has cut."""
    at, _, rest = raw.partition(b" ")
    stream, _, text = rest.partition(b" ")
    try:
        moment = datetime.fromisoformat(at.decode("ascii"))
    except ValueError:
        return None
    return LogLine(at=moment, stream=stream.decode("ascii", "replace"), text=text.decode("utf-8", "replace"))


def _backwards(folder: Path) -> Iterator[bytes]:
    for name in _newest_first(folder):
        try:
            file = (folder / name).open("rb")
        except FileNotFoundError:
            continue
        with file:
            yield from _lines_backwards(file)


def _newest_first(folder: Path) -> list[str]:
    names = [path.name for path in folder.glob(f"{CURRENT}*")] if folder.is_dir() else []
    return sorted(names, key=lambda name: int(name.partition(".")[2] or 0))


def _lines_backwards(file: BinaryIO) -> Iterator[bytes]:
    position, rest = file.seek(0, os.SEEK_END), b""
    while position > 0:
        start = max(0, position - _BLOCK)
        file.seek(start)
        first, *lines = (file.read(position - start) + rest).split(b"\n")
        yield from (line for line in reversed(lines) if line)
        position, rest = start, first
    if rest:
        yield rest


class Follower:
    """Gives each line of a log once, from its beginning, across rotations."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None
        self._rest = b""

    def new(self) -> list[LogLine]:
        """Complete lines not given yet, a megabyte at a time; none when all were given."""
        if self._file is None:
            self._move_on()
        lines = self._read()
        if not lines and self._move_on():
            lines = self._read()
        return lines

    def close(self) -> None:
        if self._file:
            self._file.close()
        self._file = None

    def _read(self) -> list[LogLine]:
        if self._file is None:
            return []
        *raw, self._rest = (self._rest + self._file.read(_MEGABYTE)).split(b"\n")
        return [line for line in map(parse, raw) if line]

    def _move_on(self) -> bool:
        """Open the file written after the one that was read; whether there is one."""
        newer: BinaryIO | None = None
        for name in _newest_first(self._folder):
            try:
                file = (self._folder / name).open("rb")
            except FileNotFoundError:
                continue
            if self._file and os.path.sameopenfile(file.fileno(), self._file.fileno()):
                file.close()
                break
            if newer:
                newer.close()
            newer = file
        if newer is None:
            return False
        self.close()
        self._file, self._rest = newer, b""
        return True
