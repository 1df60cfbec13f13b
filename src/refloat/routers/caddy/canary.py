"""The proof at every start: two endpoints of our own, and a switch between them that must be visible."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Protocol

from refloat.domain.errors import Unavailable
from refloat.routers.base import Answer
from refloat.routers.caddy.layout import CANARY

_ASK_SECONDS = 10.0


class Switching(Protocol):
    """What is to be proved."""

    async def switch(self, service_id: str, revision_key: str, endpoints: tuple[str, ...]) -> None: ...

    async def ask(self, service_id: str, path: str, timeout: float) -> Answer: ...


async def prove(router: Switching) -> None:
    """Switch the canary's route to one endpoint, then to another: each must be the one that answers.

    Raises Unavailable when one is not: an edge that does not follow its files would hide every failure.
    """
    try:
        async with _endpoint() as first, _endpoint() as second:
            for number, endpoint in enumerate((first, second), start=1):
                await router.switch(CANARY, f"proof-{number}", (endpoint,))
                answer = await router.ask(CANARY, "/", _ASK_SECONDS)
                if (answer.status, answer.endpoint) != (204, endpoint):
                    raise Unavailable(
                        f"the edge does not follow a switch: {endpoint} should have answered, got status "
                        f"{answer.status} from {answer.endpoint or 'nobody'} {answer.reason}".rstrip(),
                        hint="is the port of REFLOAT_HTTP_PORT shared with another program?",
                    )
    finally:
        await router.switch(CANARY, "", ())


@contextlib.asynccontextmanager
async def _endpoint() -> AsyncIterator[str]:
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"{host}:{port}"


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
    writer.close()
