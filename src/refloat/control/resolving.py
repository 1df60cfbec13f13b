"""What a name resolves to, as this machine sees it."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

from refloat.domain.errors import Unavailable
from refloat.domain.hosts import is_below

Resolve = Callable[[str], Awaitable[frozenset[str]]]
"""Addresses of a name; none when it has none. Raises Unavailable when that cannot be found out."""

_SECONDS = 5.0
_NO_ADDRESS = (socket.EAI_NONAME, socket.EAI_NODATA)


async def resolve(name: str) -> frozenset[str]:
    """By the machine's own resolver. `localhost` and names below it are this machine, always (RFC 6761)."""
    if is_below(name, "localhost"):
        return frozenset({"127.0.0.1", "::1"})
    look = asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    try:
        found = await asyncio.wait_for(look, _SECONDS)
    except TimeoutError:
        raise Unavailable(f"{name} could not be looked up within {_SECONDS:g} s") from None
    except socket.gaierror as error:
        if error.errno in _NO_ADDRESS:
            return frozenset()
        raise Unavailable(f"{name} could not be looked up: {error.strerror}") from None
    return frozenset(str(address[0]) for *_, address in found)
