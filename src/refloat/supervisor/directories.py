"""Files and folders whose owner and mode matter.

Folders of a service belong to the service's user and nobody else can look into them; the folders above
belong to us and can be passed through, but not listed.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PASSABLE = 0o711
OWN = 0o750


def private(path: str, flags: int) -> int:
    """An `opener` for files that only we may read."""
    return os.open(path, flags, 0o600)


def write_private(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Replace a file atomically, readable by us only. `durable`: it also survives a power cut."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    Path(temporary).replace(path)


@contextmanager
def holding(lock: Path) -> Iterator[None]:
    """Alone among all processes of this machine; a killed holder holds no more."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def make_data_directory(path: Path) -> None:
    """Make a folder and what is missing above it.

    Root's are open to pass through whatever the umask, because its services have users of their own.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing if os.geteuid() == 0 else ():
        folder.chmod(folder.stat().st_mode | PASSABLE)


def make_passable(path: Path, above: Path) -> None:
    """Make `path` and every folder from `above` down to it ours, and open to pass through."""
    for folder in (above, *(above / part for part in _prefixes(path.relative_to(above)))):
        folder.mkdir(mode=PASSABLE, parents=True, exist_ok=True)
        mode = folder.stat().st_mode
        if mode & PASSABLE != PASSABLE:
            folder.chmod(mode | PASSABLE)


def own_directory(path: Path, uid: int | None, above: Path) -> Path:
    """A folder that belongs to `uid` (None: to us), mode 0750, below passable ones from `above` on.

    The parents belong to us, so that the user cannot put a link in its place.
    """
    make_passable(path.parent, above)
    path.mkdir(mode=OWN, exist_ok=True)
    path.chmod(OWN)
    if uid is not None:
        os.chown(path, uid, uid, follow_symlinks=False)
    return path


def obstacle(path: Path, uid: int | None = None) -> Path | None:
    """The topmost folder above `path` that other users, or this one, cannot pass through; else None."""
    for folder in reversed(path.absolute().parents):
        if folder.exists() and not _passes(folder.stat(), uid):
            return folder
    return None


def _passes(status: os.stat_result, uid: int | None) -> bool:
    return bool(status.st_mode & (0o100 if status.st_uid == uid else 0o001))


def _prefixes(relative: Path) -> list[Path]:
    return [Path(*relative.parts[: count + 1]) for count in range(len(relative.parts))]
