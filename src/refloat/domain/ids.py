"""Identifiers: UUIDv7 for things, `{environmentId}-{n}` for executions.

UUIDv7 sorts by creation, which clients use to order a queue. The time and the random bits are
arguments, so that a simulation makes the same ids again.
"""

import hashlib
import re
import uuid
from datetime import datetime


def uuid7(now: datetime, entropy: bytes) -> str:
    """A time-ordered UUID from `now` and at least 10 random bytes (RFC 9562, version 7)."""
    if len(entropy) < 10:
        raise ValueError("uuid7 needs at least 10 bytes of entropy")
    milliseconds = int(now.timestamp() * 1000) & 0xFFFF_FFFF_FFFF
    value = milliseconds << 80 | int.from_bytes(entropy[:10], "big")
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    return str(uuid.UUID(int=value))


class IdSequence:
    """UUIDv7s of one process, each greater than the one before, also within a millisecond or when the clock
    goes back: what is made later sorts later."""

    def __init__(self) -> None:
        self._last = 0

    def next(self, now: datetime, entropy: bytes) -> str:
        """The next id; see `uuid7`."""
        self._last = max(uuid.UUID(uuid7(now, entropy)).int, self._last + 1)
        return str(uuid.UUID(int=self._last))


def after(earlier: str, wanted: str) -> str:
    """The wanted UUIDv7, or one with its random bits that sorts after an earlier id: two are made in the
    same millisecond, or the wall clock went back."""
    if wanted > earlier:
        return wanted
    milliseconds = (uuid.UUID(earlier).int >> 80) + 1
    return str(uuid.UUID(int=milliseconds << 80 | uuid.UUID(wanted).int & ((1 << 80) - 1)))


_NUMBER = re.compile(r"[0-9]{1,9}")
"""No environment is deployed more often, and every store can compare it."""


def execution_id(environment_id: str, number: int) -> str:
    """How history and logs name the n-th deployment of an environment."""
    return f"{environment_id}-{number}"


def execution_number(environment_id: str, execution: str) -> int | None:
    """The n of an execution id of this environment, else None."""
    prefix, _, digits = execution.rpartition("-")
    return int(digits) if prefix == environment_id and _NUMBER.fullmatch(digits) else None


_BUILT_IN_VERSION = 8
"""Custom UUIDs; ids of things that people make are version 7, so the two cannot be confused."""


def built_in_id(environment_id: str, key: str) -> str:
    """The id of a variable that nobody wrote, the same at every reading."""
    digest = bytearray(hashlib.sha256(f"{environment_id} {key}".encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | _BUILT_IN_VERSION << 4
    digest[8] = digest[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(digest)))


def is_built_in(variable_id: str) -> bool:
    """Whether an id can only be that of a built-in variable."""
    return uuid.UUID(variable_id).version == _BUILT_IN_VERSION


def short(identifier: str) -> str:
    """Eight hexadecimal digits for names people read: hosts, log lines.

    The last digits, because a UUIDv7 begins with the time and neighbours would share its start.
    """
    return identifier.replace("-", "")[-8:]
