"""The kernel's table of TCP sockets, and which process holds which: asked over netlink, which filters by
state, else read from /proc.

The difference matters. An edge that opens a connection for each request leaves tens of thousands of
closed ones in the table for a minute; /proc prints them all (60 ms for 37 000, here), netlink skips
them (3 ms). Both may miss a connection while the table changes under them: look twice.
"""

import contextlib
import os
import re
import socket
import struct
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

CONNECTING, CONNECTED, LISTENING = 2, 1, 10

_SOCK_DIAG, _BY_FAMILY, _ROOT_AND_REQUEST = 4, 20, 0x301
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_MAPPED = b"\0" * 10 + b"\xff\xff"
_LINE = re.compile(
    rb"^ *\d+: ([0-9A-F]+):([0-9A-F]{4}) ([0-9A-F]+):([0-9A-F]{4}) ([0-9A-F]{2}) \S+ \S+ \S+ +\d+ +\d+ (\d+)",
    re.MULTILINE,
)
_SOCKET = re.compile(r"^socket:\[(\d+)\]$")


class Connection(msgspec.Struct, frozen=True):
    """One socket. Addresses are in network order; an IPv4 one has 4 bytes however it was opened."""

    local: bytes
    local_port: int
    remote: bytes
    remote_port: int
    inode: int


def connections(states: Collection[int]) -> list[Connection]:
    """Every TCP socket of this network namespace that is in one of these states."""
    try:
        return [found for family in (socket.AF_INET, socket.AF_INET6) for found in _ask(family, states)]
    except OSError:
        tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
        return [found for path in tables if path.exists() for found in parse(path.read_bytes(), states)]


def parse(table: bytes, states: Collection[int]) -> Iterator[Connection]:
    """The lines of /proc/net/tcp or tcp6 that are in one of the states."""
    wanted = {b"%02X" % state for state in states}
    for local, local_port, remote, remote_port, state, inode in _LINE.findall(table):
        if state in wanted:
            yield Connection(
                local=_address(local),
                local_port=int(local_port, 16),
                remote=_address(remote),
                remote_port=int(remote_port, 16),
                inode=int(inode),
            )


def sockets(pid: int) -> set[int]:
    """Inodes of the sockets a process holds; raises FileNotFoundError or ProcessLookupError when it has
    ended, PermissionError when it is not ours to look at."""
    folder, held = f"/proc/{pid}/fd", set[int]()
    for name in os.listdir(folder):  # noqa: PTH208 - thousands of descriptors, each a Path of its own
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # root may list what it may not read
            held.update(map(int, _SOCKET.findall(os.readlink(f"{folder}/{name}"))))  # noqa: PTH115
    return held


def _address(text: bytes) -> bytes:
    words = bytes.fromhex(text.decode())
    return _plain(b"".join(_network_order(words[at : at + 4]) for at in range(0, len(words), 4)))


def _network_order(word: bytes) -> bytes:
    return word[::-1] if sys.byteorder == "little" else word


def _plain(packed: bytes) -> bytes:
    return packed.removeprefix(_MAPPED) if len(packed) == 16 else packed


def _ask(family: int, states: Collection[int]) -> Iterator[Connection]:
    """One dump of the sock_diag family (man 7 sock_diag); raises OSError where that is not to be had."""
    mask = sum(1 << state for state in states)
    request = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, mask) + b"\0" * 40 + b"\xff" * 8
    header = _HEADER.pack(_HEADER.size + len(request), _BY_FAMILY, _ROOT_AND_REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as netlink:
        netlink.settimeout(5)
        netlink.sendto(header + request, (0, 0))
        while True:
            for kind, body in _messages(netlink.recv(1 << 17)):
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    raise OSError(-struct.unpack_from("=i", body)[0], "sock_diag refused")
                yield _connection(body)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        length, kind, *_ = _HEADER.unpack_from(data)
        yield kind, data[_HEADER.size : length]
        data = data[(length + 3) & ~3 :]


def _connection(body: bytes) -> Connection:
    """From `struct inet_diag_msg`: ports at 4, the addresses at 8 and 24, the inode at 68."""
    local_port, remote_port = struct.unpack_from(">HH", body, 4)
    length = 4 if body[0] == socket.AF_INET else 16
    return Connection(
        local=_plain(body[8 : 8 + length]),
        local_port=local_port,
        remote=_plain(body[24 : 24 + length]),
        remote_port=remote_port,
        inode=struct.unpack_from("=I", body, 68)[0],
    )
