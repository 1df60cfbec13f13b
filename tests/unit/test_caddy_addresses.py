"""Ports that only some may have: what is said before Caddy is started, and what is left to it."""

import os
import socket
from pathlib import Path

import pytest

from refloat.domain.errors import Unavailable
from refloat.routers.caddy import addresses
from refloat.routers.caddy.sockets import FORBIDDEN

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
"""cap_net_bind_service=ep, as the kernel stores it with a file."""


@pytest.fixture
def forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """As somebody without rights sees a port below 1024, whoever runs the tests."""
    monkeypatch.setattr(addresses, "can_listen", lambda host, port: FORBIDDEN)


@pytest.fixture
def caddy(tmp_path: Path) -> Path:
    program = tmp_path / "caddy"
    program.write_text("")
    return program


def with_rights(program: Path) -> None:
    try:
        os.setxattr(program, "security.capability", CAPABILITY)
    except OSError:
        pytest.skip("only root gives a file capabilities, and not on every file system")


@pytest.mark.usefixtures("forbidden")
def test_a_port_that_needs_a_right_is_refused_with_the_command_that_gives_it(caddy: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        addresses.check_public((":80",), "REFLOAT_HTTP_PORT", str(caddy))
    assert "port 80 of this machine: Permission denied" in caught.value.message
    assert f"setcap cap_net_bind_service=+ep {caddy}" in caught.value.hint
    assert "REFLOAT_HTTP_PORT" in caught.value.hint


@pytest.mark.usefixtures("forbidden")
def test_a_caddy_with_the_right_of_its_own_is_let_try_unless_the_port_is_taken(caddy: Path) -> None:
    with_rights(caddy)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        addresses.check_public((f":{port}",), "REFLOAT_HTTP_PORT", str(caddy))
        other.listen()
        with pytest.raises(Unavailable, match=f"port {port}.*another process listens there"):
            addresses.check_public((f":{port}",), "REFLOAT_HTTP_PORT", str(caddy))
