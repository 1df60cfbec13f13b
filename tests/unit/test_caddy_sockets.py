"""What is in flight, as the kernel tells it by two ways."""

import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from refloat.routers.caddy.sockets import can_listen, free_ports, in_flight, listening, wait_until_idle
from refloat.supervisor import tcp
from refloat.supervisor.tcp import CONNECTED, LISTENING, connections, parse

OURS = (os.getpid(),)


@pytest.fixture(params=["netlink", "proc"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "proc":

        def refused(*_: object) -> Iterator[tcp.Connection]:
            raise OSError("no netlink here")

        monkeypatch.setattr(tcp, "_ask", refused)
    return str(request.param)


@pytest.fixture(params=["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    if request.param != "127.0.0.1" and not Path("/proc/net/if_inet6").read_text():
        pytest.skip("no IPv6 here")
    family = socket.AF_INET if request.param == "127.0.0.1" else socket.AF_INET6
    with socket.socket(family) as listener:
        listener.bind((request.param, 0))
        listener.listen()
        yield listener


def endpoint_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    plain = host.removeprefix("::ffff:")
    return f"[{plain}]:{port}" if ":" in plain else f"{plain}:{port}"


def test_open_connections_to_an_endpoint_are_counted(way: str, listener: socket.socket) -> None:
    endpoint = endpoint_of(listener)
    assert in_flight((endpoint,), OURS) == 0
    with (
        socket.create_connection(listener.getsockname()[:2]),
        socket.create_connection(listener.getsockname()[:2]),
    ):
        assert in_flight((endpoint,), OURS) == 2
        assert in_flight((endpoint, "127.0.0.1:1"), OURS) == 2
        assert in_flight(("127.0.0.1:1",), OURS) == 0
    assert in_flight((endpoint,), OURS) == 0


def test_connections_of_other_processes_do_not_count(way: str, listener: socket.socket) -> None:
    with (
        socket.create_connection(listener.getsockname()[:2]),
        subprocess.Popen(["sleep", "1000"]) as another,
    ):
        assert in_flight((endpoint_of(listener),), (another.pid,)) == 0
        assert in_flight((endpoint_of(listener),), (2**22 + 1,)) == 0
        another.kill()


def test_connections_of_a_process_that_may_not_be_looked_at_count(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(link: str) -> str:
        raise PermissionError(13, "Permission denied", link)

    with socket.create_connection(listener.getsockname()[:2]):
        monkeypatch.setattr(tcp.os, "readlink", forbidden)
        assert in_flight((endpoint_of(listener),), OURS) >= 1


def test_listening_ports_are_those_of_the_process(way: str, listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    assert port in listening(os.getpid())
    listener.close()
    assert port not in listening(os.getpid())


async def test_waiting_ends_when_the_last_request_does_or_at_the_deadline(listener: socket.socket) -> None:
    endpoint = endpoint_of(listener)
    with socket.create_connection(listener.getsockname()[:2]):
        assert await wait_until_idle((endpoint,), OURS, 0.1) == 1
    assert await wait_until_idle((endpoint,), OURS, 30) == 0


def test_both_ways_tell_the_same(listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()[:2]):
        port = listener.getsockname()[1]
        files = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
        read = [found for file in files for found in parse(file.read_bytes(), (CONNECTED, LISTENING))]
        asked = connections((CONNECTED, LISTENING))
        of_ours = [
            {each for each in way if port in (each.local_port, each.remote_port)} for way in (read, asked)
        ]
        assert of_ours[0] == of_ours[1]
        assert len(of_ours[0]) == 3


def test_a_shared_port_is_not_free(listener: socket.socket) -> None:
    with socket.socket() as shared:
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        shared.bind(("127.0.0.1", 0))
        shared.listen()
        port = shared.getsockname()[1]
        assert can_listen("127.0.0.1", port) == "another process listens there"
        assert can_listen("0.0.0.0", port) == "another process listens there"
    assert can_listen("127.0.0.1", port) == ""


def test_free_ports_are_all_different_and_none_is_taken() -> None:
    with free_ports(()) as ports:
        first = list(itertools.islice(ports, 50))
    with free_ports(first) as again:
        assert len(set(first)) == 50
        assert not set(first) & set(itertools.islice(again, 300))


def test_who_chooses_ports_at_the_same_time_gets_others() -> None:
    """So that two edges of one user never listen on the same ones, which the kernel would let them share."""
    with free_ports(()) as ports:
        others = "import itertools, sys; from refloat.routers.caddy.sockets import free_ports\n"
        others += "with free_ports(()) as ports: print(*itertools.islice(ports, 300))"
        first = set(itertools.islice(ports, 300))
        said = subprocess.run([sys.executable, "-c", others], check=True, capture_output=True, text=True)
        second = set(map(int, said.stdout.split()))
        assert len(first) == len(second) == 300 and not first & second
