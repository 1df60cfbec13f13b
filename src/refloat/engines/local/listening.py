"""At which addresses a process tree accepts TCP connections, read from the kernel's own tables.

A process that ends meanwhile, or that is not ours to look at, is as if it listened nowhere.
"""

import contextlib
import os
import socket
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

_LISTEN = "0A"
_FAMILIES = {"tcp": socket.AF_INET, "tcp6": socket.AF_INET6}
_WORD = 8
"""Hexadecimal digits of the 32-bit words of which addresses consist, each in the machine's byte order."""


def listened(pids: Collection[int]) -> tuple[str, ...]:
    """Sorted `host:port`, IPv6 hosts in brackets."""
    found: set[str] = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            inodes = set(_sockets(pid))
            found |= {address for inode, address in _listeners(pid) if inode in inodes}
    return tuple(sorted(found))


def leads_to(address: str, endpoint: str) -> bool:
    """Whether who connects to the IPv4 endpoint reaches this listener."""
    host, _, port = address.rpartition(":")
    wanted, _, number = endpoint.rpartition(":")
    return port == number and host in (wanted, "0.0.0.0", "[::]")


def _sockets(pid: int) -> Iterator[str]:
    """Inodes of the sockets a process holds."""
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):  # noqa: PTH208 - thousands of descriptors, each a Path of its own
        with contextlib.suppress(OSError):
            kind, _, rest = os.readlink(f"{folder}/{name}").partition(":[")  # noqa: PTH115
            if kind == "socket":
                yield rest.removesuffix("]")


def _listeners(pid: int) -> Iterator[tuple[str, str]]:
    """Inode and address of everything that listens where this process is."""
    for name, family in _FAMILIES.items():
        with contextlib.suppress(FileNotFoundError):
            for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN:
                    yield fields[9], _address(fields[1], family)


def _address(text: str, family: socket.AddressFamily) -> str:
    packed, _, port = text.partition(":")
    words = (packed[at : at + _WORD] for at in range(0, len(packed), _WORD))
    raw = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
    host = socket.inet_ntop(family, raw)
    return f"{f'[{host}]' if family is socket.AF_INET6 else host}:{int(port, 16)}"
