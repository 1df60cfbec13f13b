"""A disk that is full, whoever meets it: nothing is decided by it, and it is tried again."""

import contextlib
import errno
from collections.abc import Iterator

from refloat.domain.errors import StorageFull

_FULL = (errno.ENOSPC, errno.EDQUOT)
_HINT = "free disk space: `refloat doctor` shows how much there is, `refloat clean` frees what builds keep"


@contextlib.contextmanager
def refused_when_full() -> Iterator[None]:
    """Raises StorageFull for a file of the node that cannot be written for want of room."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        where = f" for {error.filename}" if error.filename else ""
        raise StorageFull(f"there is no space left{where}", hint=_HINT) from None
