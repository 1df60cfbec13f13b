"""Which server holds a data directory: a lock that ends with the process, and the pid of its holder.

The kernel frees the lock however the server ends, so a pid read from a held lock is never a stale one.
"""

import fcntl
import os
import pwd
from pathlib import Path

from refloat.domain.errors import Unavailable

NAME = "refloat.lock"


def occupy(data_dir: Path) -> int:
    """Hold the data directory for this process's life; Unavailable when another server does.

    Also when it belongs to another user: root could go on with it, but that user not any more.
    """
    descriptor = os.open(data_dir / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    owner = os.fstat(descriptor).st_uid
    if owner != os.geteuid():
        os.close(descriptor)
        raise Unavailable(
            f"the data directory {data_dir} belongs to another user, {user_name(owner)}",
            hint="start the server as that user, or choose another REFLOAT_DATA_DIR",
        )
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise Unavailable(
            f"another server runs on {data_dir}", hint="stop it, or choose another REFLOAT_DATA_DIR"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def user_name(uid: int) -> str:
    """As `sudo -u` takes it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def occupant(data_dir: Path) -> int | None:
    """The pid of the server that holds the data directory; None when there is none."""
    try:
        descriptor = os.open(data_dir / NAME, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        text = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
        return int(text) if text.isdecimal() else None
    finally:
        os.close(descriptor)
