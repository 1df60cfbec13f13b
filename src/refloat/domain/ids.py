"""Identifiers: UUIDv7 for things, `{environmentId}-{n}` for executions.

UUIDv7 sorts by creation, which clients use to order a queue. The time and the random bits are
arguments, so that a simulation makes the same ids again.
"""

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


def execution_id(environment_id: str, number: int) -> str:
    """How history and logs name the n-th deployment of an environment."""
    return f"{environment_id}-{number}"


def execution_number(environment_id: str, execution: str) -> int | None:
    """The n of an execution id of this environment, else None."""
    prefix, _, digits = execution.rpartition("-")
    return int(digits) if prefix == environment_id and digits.isdecimal() else None


def short(identifier: str) -> str:
    """Eight hexadecimal digits for names people read: hosts, log lines.

    The last digits, because a UUIDv7 begins with the time and neighbours would share its start.
    """
    return identifier.replace("-", "")[-8:]
