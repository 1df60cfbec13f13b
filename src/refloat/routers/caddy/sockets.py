"""Ports and connections of processes: who listens where, what is in flight, which ports are free.

A connection may be missed while the kernel's table changes under the reader, so one look that finds
nothing proves nothing: draining asks for two in a row.
"""

import asyncio
import contextlib
import errno
import ipaddress
import os
import random
import socket
from collections.abc import Iterable, Iterator

from refloat.domain.errors import Invalid
from refloat.supervisor.ports import candidates, first_outgoing, hold
from refloat.supervisor.tcp import CONNECTED, CONNECTING, LISTENING, connections, sockets

SETTLE_SECONDS = 0.05
"""A request that read its upstream just before a switch has connected to it by then. One that takes longer
is refused once the endpoint is gone, is held, and reads the new one."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.05
TAKEN, FORBIDDEN = "another process listens there", os.strerror(errno.EACCES)


def parse_endpoint(endpoint: str) -> tuple[bytes, int]:
    """Address and port of `host:port`, the host a numeric one, in brackets when IPv6; raises Invalid."""
    host, _, port = endpoint.rpartition(":")
    try:
        packed = ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).packed
        if not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
            raise ValueError
    except ValueError:
        raise Invalid(f"{endpoint!r} is not an endpoint: an address and a port are wanted") from None
    return packed, int(port)


def in_flight(endpoints: Iterable[str], pids: Iterable[int]) -> int:
    """How many connections these processes have, or are making, to the endpoints."""
    wanted = {parse_endpoint(endpoint) for endpoint in endpoints}
    open_now = connections((CONNECTED, CONNECTING))
    found = {each.inode for each in open_now if (each.remote, each.remote_port) in wanted}
    return len(found & _sockets(pids, found)) if found else 0


def listening(pid: int) -> frozenset[int]:
    """The TCP ports a process listens on."""
    ports = {each.inode: each.local_port for each in connections((LISTENING,))}
    return frozenset(ports[inode] for inode in _sockets([pid], set(ports)) & ports.keys())


async def wait_until_idle(endpoints: tuple[str, ...], pids: Iterable[int], seconds: float) -> int:
    """Wait until no request is in flight to the endpoints; how many are left after `seconds`."""
    loop = asyncio.get_running_loop()
    deadline, pause, quiet = loop.time() + seconds, _FIRST_PAUSE, 0
    await asyncio.sleep(min(SETTLE_SECONDS, seconds))
    while True:
        left = await asyncio.to_thread(in_flight, endpoints, pids)
        quiet = 0 if left else quiet + 1
        if quiet == 2 or loop.time() >= deadline:
            return left
        await asyncio.sleep(pause)
        pause = min(_LONGEST_PAUSE, pause * 1.5) if left else _FIRST_PAUSE


def can_listen(host: str, port: int) -> str:
    """Why this address cannot be listened on, "" when it can. Another's SO_REUSEPORT does not deceive it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return TAKEN if error.errno == errno.EADDRINUSE else str(error.strerror)
    return ""


def is_listened_on(port: int) -> bool:
    """Whether anybody listens on this port, at whichever address."""
    return any(each.local_port == port for each in connections((LISTENING,)))


@contextlib.contextmanager
def free_ports(taken: Iterable[int]) -> Iterator[Iterator[int]]:
    """Ports nobody listens on at loopback, none twice, and none that anybody else is given until this is
    left: two Caddys of one user that start with the same port share it, and neither would notice."""
    with contextlib.ExitStack() as kept:
        yield _free(set(taken), kept)


def _free(taken: set[int], kept: contextlib.ExitStack) -> Iterator[int]:
    among = candidates(first_outgoing())
    for port in random.sample(among, len(among)):
        if port not in taken and (held := hold(port, lambda port: not can_listen("127.0.0.1", port))):
            kept.enter_context(held)
            yield port


def _sockets(pids: Iterable[int], unless_known: set[int]) -> set[int]:
    """The sockets of processes. One whose files we may not see counts as owner of all `unless_known`."""
    owned: set[int] = set()
    for pid in pids:
        try:
            owned |= sockets(pid)
        except PermissionError:
            return unless_known
        except (FileNotFoundError, ProcessLookupError):
            continue
    return owned
