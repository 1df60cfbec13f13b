"""One GET over HTTP/1.1, without pool or retry: what it reports happened exactly once."""

import asyncio
import contextlib
import ssl
import urllib.parse
from collections.abc import Mapping

import msgspec

_HEAD_LIMIT = 65536
_BODY_LIMIT, _BODY_SECONDS = 1024 * 1024, 1.0


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """Status and headers (names in lower case). Status 0: none came, `reason` says why; `uncertified`:
    because there was no certificate for the name."""

    status: int = 0
    headers: dict[str, str] = {}
    reason: str = ""
    uncertified: bool = False


async def get(
    port: int,
    path: str,
    headers: Mapping[str, str],
    timeout: float,
    secure: ssl.SSLContext | None = None,
    certificate_seconds: float = 30.0,
) -> Reply:
    """GET from 127.0.0.1, over TLS with the name of the `Host` header if there is a context. Never raises
    for what the other side does; the body is read and thrown away. A certificate that is only made because
    we ask has time of its own."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(certificate_seconds if secure else timeout):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1",
                port,
                limit=_HEAD_LIMIT,
                ssl=secure,
                server_hostname=headers["Host"] if secure else None,
            )
        async with asyncio.timeout(timeout):
            writer.write(_request(path, headers))
            reply = await _final(reader)
        await _discard(reader)
        return reply
    except TimeoutError:
        if secure and writer is None:
            late = f"there was no certificate for {headers['Host']} within {certificate_seconds:g} s"
            return Reply(reason=late, uncertified=True)
        return Reply(reason=f"no answer within {timeout:g} s")
    except ssl.SSLCertVerificationError as error:
        return Reply(reason=f"the certificate for {headers['Host']} is not valid: {error.verify_message}")
    except ssl.SSLError as error:
        none = f"the edge has no certificate for {headers['Host']} ({error.reason})"
        return Reply(reason=none, uncertified=True)
    except ConnectionRefusedError:
        return Reply(reason=f"nothing listens on port {port}")
    except (OSError, asyncio.IncompleteReadError):
        return Reply(reason="the connection was closed before an answer came")
    except (asyncio.LimitOverrunError, ValueError):
        return Reply(reason="the answer is not HTTP")
    finally:
        if writer:
            writer.close()


def _request(path: str, headers: Mapping[str, str]) -> bytes:
    target = urllib.parse.quote(path if path.startswith("/") else f"/{path}", safe="/?&=%:+,;@~!$'()*-._")
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode()


async def _final(reader: asyncio.StreamReader) -> Reply:
    """The first answer that is not merely a hint (1xx)."""
    reply = Reply(status=100)
    while 100 <= reply.status < 200 and reply.status != 101:
        reply = _parse(await reader.readuntil(b"\r\n\r\n"))
    return reply


def _parse(head: bytes) -> Reply:
    first, *lines = head.decode("latin-1").split("\r\n")
    version, status = first.split(" ", 2)[:2]
    if not version.startswith("HTTP/1."):
        raise ValueError(first)
    pairs = (line.partition(":") for line in lines if line)
    return Reply(status=int(status), headers={name.lower(): value.strip() for name, _, value in pairs})


async def _discard(reader: asyncio.StreamReader) -> None:
    """Read the body, so that the application does not see a client that breaks off; not for ever."""
    read = 0
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_BODY_SECONDS):
            while read < _BODY_LIMIT and (chunk := await reader.read(65536)):
                read += len(chunk)
