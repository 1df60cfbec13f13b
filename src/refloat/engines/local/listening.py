"""At which addresses a process tree accepts TCP connections, as the kernel tells it."""

import contextlib
import ipaddress
from collections.abc import Collection

from refloat.supervisor.tcp import LISTENING, Connection, connections, sockets

_EVERYWHERE = ("0.0.0.0", "[::]")


def listened(pids: Collection[int]) -> tuple[str, ...]:
    """Sorted `host:port`, IPv6 hosts in brackets. Who has ended meanwhile, or is not ours to look at, is as
    if it listened nowhere."""
    held: set[int] = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            held |= sockets(pid)
    return tuple(sorted(_address(each) for each in connections((LISTENING,)) if each.inode in held))


def leads_to(address: str, endpoint: str) -> bool:
    """Whether who connects to the IPv4 endpoint reaches this listener."""
    host, _, port = address.rpartition(":")
    wanted, _, number = endpoint.rpartition(":")
    return port == number and host in (wanted, *_EVERYWHERE)


def is_anothers(endpoint: str, pids: Collection[int]) -> bool:
    """Whether who connects to the endpoint reaches a listener that none of these holds. False when there are
    none, or one may not be looked at."""
    port = int(endpoint.rpartition(":")[2])
    there = [each for each in connections((LISTENING,)) if each.local_port == port]
    reached = {each.inode for each in there if _address(each) == endpoint} or {
        each.inode for each in there if leads_to(_address(each), endpoint)
    }
    held: set[int] = set()
    for pid in pids:
        try:
            held |= sockets(pid)
        except PermissionError:
            return False
        except OSError:
            continue
    return bool(pids and reached and not reached & held)


def _address(listener: Connection) -> str:
    host = ipaddress.ip_address(listener.local)
    return f"{f'[{host}]' if host.version == 6 else host}:{listener.local_port}"
