"""Ports that are given before anybody listens there.

A free port may be taken between the choice and the moment a server listens, and two servers of one user that
both allow it even share one without noticing. So who is given a port is given its name first: one that a
single process of the machine may have, whatever node directory it works on.
"""

import errno
import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

_LOWEST, _USUAL, _ENOUGH = 20_000, 32_768, 4096
"""Below the lowest are the ports that people choose for servers of their own."""


def first_outgoing() -> int:
    """The first of the ports that the kernel gives to outgoing connections, which it does without asking."""
    return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


def candidates(outgoing: int) -> range:
    """Those to choose from: below the outgoing ones, or where they usually are, should that leave too few."""
    return range(_LOWEST, outgoing if outgoing >= _LOWEST + _ENOUGH else _USUAL)


class Held:
    """A port that nobody else is given until this is left, and every process that inherited it is gone."""

    def __init__(self, number: int, name: socket.socket) -> None:
        self.number = number
        self._name = name

    def fileno(self) -> int:
        return self._name.fileno()

    def __enter__(self) -> "Held":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._name.close()


def hold(number: int, is_free: Callable[[int], bool] = lambda _: True) -> Held | None:
    """The port, or None when somebody is given it, or it is not free."""
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0refloat/port/{number}")
    except OSError as error:
        name.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return None
    if is_free(number):
        return Held(number, name)
    name.close()
    return None
