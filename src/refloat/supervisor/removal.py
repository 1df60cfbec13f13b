"""Deleting and measuring trees that others write to, also as root: nothing is reached but by an open folder.

A path inside such a tree can be exchanged for a link at any moment. So every step down is taken from an
open folder and follows no link, and rights are changed on what was opened, never on a path.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST = 64
"""Levels that are measured; what lies deeper is not counted."""
_BLOCK = 512
_MOST_PASSES = 100_000
"""Each pass deletes a level; one who goes on making files is not waited for without end."""


def remove(path: Path) -> None:
    """Delete a tree, a file or a link that may be gone already. Links in it are deleted, not followed;
    folders that are closed even to their owner are opened, and no depth is too deep.

    The folder above must be one that only we write to. Raises OSError for what cannot be deleted.
    """
    try:
        above = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        _remove_at(above, path.name)
    finally:
        os.close(above)


def _remove_at(above: int, name: str) -> None:
    """Folders inside are moved up one after the other, so that two open ones are enough for any depth."""
    if _unlinked(above, name):
        return
    with _entered(above, name) as top:
        count = 0
        for _ in range(_MOST_PASSES):
            if not (inside := _names(top)):
                break
            for each in inside:
                if _unlinked(top, each):
                    continue
                with _entered(top, each) as folder:
                    for deeper in _names(folder):
                        if not _unlinked(folder, deeper):
                            count = _moved_up(folder, deeper, top, count)
                _gone(top, each)
    _gone(above, name)


def _names(folder: int) -> list[str]:
    return os.listdir(folder)


def _unlinked(above: int, name: str) -> bool:
    """Whether it is gone now; False for a folder."""
    try:
        if stat.S_ISDIR(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
            return False
        os.unlink(name, dir_fd=above)
    except FileNotFoundError:
        pass
    except IsADirectoryError:  # exchanged in between
        return False
    return True


def _moved_up(folder: int, name: str, top: int, count: int) -> int:
    """The count after it; names are tried until one is free."""
    with _entered(folder, name):  # a folder can only be moved by who may write to it
        pass
    while True:
        count += 1
        try:
            os.rename(name, f".{count}", src_dir_fd=folder, dst_dir_fd=top)
        except FileNotFoundError:
            return count
        except OSError:
            if not _is_taken(top, f".{count}"):
                raise
        else:
            return count


def _is_taken(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _gone(above: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(name, dir_fd=above)


@contextlib.contextmanager
def _entered(above: int, name: str) -> Iterator[int]:
    """The folder of this name, open, and writable to us whatever its mode was."""
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    try:
        same = f"/proc/self/fd/{handle}"  # leads to what was opened, wherever it is now
        if os.fstat(handle).st_mode & stat.S_IRWXU != stat.S_IRWXU:
            Path(same).chmod(stat.S_IRWXU)
        folder = os.open(same, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(handle)
    try:
        yield folder
    finally:
        os.close(folder)


def size(path: Path) -> int:
    """Bytes on the disk of a tree or file; what cannot be looked into counts nothing."""
    try:
        above = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return _size_at(above, path.name, _DEEPEST)
    finally:
        os.close(above)


def _size_at(above: int, name: str, depth: int) -> int:
    try:
        found = os.stat(name, dir_fd=above, follow_symlinks=False)
        own = found.st_blocks * _BLOCK
        if not stat.S_ISDIR(found.st_mode) or not depth:
            return own
        folder = os.open(name, _FOLDER, dir_fd=above)
    except OSError:
        return 0
    try:
        return own + sum(_size_at(folder, each, depth - 1) for each in _names(folder))
    except OSError:
        return own
    finally:
        os.close(folder)
