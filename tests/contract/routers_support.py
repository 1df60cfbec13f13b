"""Real sockets for router tests: applications with manners of their own, and clients that never retry."""

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import TracebackType

from tests.databases import free_port

from refloat.routers.caddy import CaddyRouter, Issuer, Tls
from refloat.supervisor.processes import LocalSupervisor


class Application:
    """An HTTP server on a free port. What the path asks for it does; it remembers every request's head."""

    def __init__(self, name: str = "ok") -> None:
        self.name = name
        self.heads: list[str] = []
        self.endpoint = ""
        self._release = asyncio.Event()
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> "Application":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.endpoint = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def stop(self) -> None:
        """Like the death of a process: whatever is in flight is cut."""
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        self.release()
        await self._server.wait_closed()

    async def __aenter__(self) -> "Application":
        return await self.start()

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.stop()

    def release(self) -> None:
        """Let requests for /hold answer."""
        self._release.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.heads.append(head)
            await reader.readexactly(_length(head))
            await self._answer(head.split(" ")[1], reader, writer)
        self._open.discard(writer)
        writer.close()

    async def _answer(self, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        status, body, declared = 200, self.name.encode(), 0
        if path in ("/500", "/503"):
            status = int(path[1:])
        elif path == "/slam":
            return
        elif path == "/broken":
            body, declared = b"x" * 40_000, 100_000
        elif path == "/large":
            body = b"x" * 1_000_000
        elif path == "/hold":
            await self._release.wait()
        elif path == "/upgrade":
            writer.write(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            while data := await reader.read(100):
                writer.write(data)
            return
        lines = f"HTTP/1.1 {status} X\r\nContent-Length: {declared or len(body)}\r\nConnection: close\r\n"
        writer.write(lines.encode() + b"X-Refloat-Endpoint: forged\r\n\r\n" + body)
        await writer.drain()
        if declared:
            await asyncio.sleep(0.1)


ROOTS: dict[int, Path] = {}
"""The root certificate to trust, by the ports of edges that speak TLS."""


class Client:
    """One keep-alive connection that is never opened a second time; over TLS where the edge speaks it.
    `name` is the one that the certificate is for, where it is not the host."""

    def __init__(self, port: int, host: str, name: str = "") -> None:
        self._port, self._host = port, host
        self._name = name or host.partition(":")[0].lower()

    async def __aenter__(self) -> "Client":
        root = ROOTS.get(self._port)
        secure = ssl.create_default_context(cafile=root) if root else None
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=secure, server_hostname=self._name if secure else None
        )
        return self

    @property
    def certificate(self) -> bytes:
        """What the edge has shown, in DER."""
        shown = self._writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return bytes(shown)

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def send(self, path: str = "/", method: str = "GET", body: bytes = b"", extra: str = "") -> None:
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
        self._writer.write(head.encode() + body)
        await self._writer.drain()

    async def receive(self) -> tuple[int, str, bytes]:
        """Status, head and body; raises when the connection ends before all of it came."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status = int(head.split(" ")[1])
        return status, head, b"" if status == 101 else await self._reader.readexactly(_length(head))

    async def request(self, path: str = "/", method: str = "GET", body: bytes = b"", extra: str = "") -> int:
        await self.send(path, method, body, extra)
        return (await self.receive())[0]

    async def echo(self, data: bytes) -> bytes:
        """Over an upgraded connection."""
        self._writer.write(data)
        return await self._reader.readexactly(len(data))


class Load:
    """Clients that request as fast as they are answered, GET and POST by turns. They reconnect only when
    the edge said `Connection: close`; anything else that is not a 200 is a lost request."""

    def __init__(self, port: int, host: str, clients: int = 8) -> None:
        self._port, self._host, self._clients = port, host, clients
        self.results: Counter[str] = Counter()
        self._over = False

    @property
    def total(self) -> int:
        return self.results.total()

    @property
    def lost(self) -> dict[str, int]:
        return {name: number for name, number in self.results.items() if name != "200"}

    async def __aenter__(self) -> "Load":
        self._tasks = [asyncio.create_task(self._one()) for _ in range(self._clients)]
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._over = True
        await asyncio.gather(*self._tasks)

    async def _one(self) -> None:
        while not self._over:
            try:
                async with Client(self._port, self._host) as client:
                    await self._until_asked_to_leave(client)
            except (OSError, EOFError) as error:
                self.results[type(error).__name__] += 1

    async def _until_asked_to_leave(self, client: Client) -> None:
        while not self._over:
            method, body = ("POST", b"x" * 100) if self.total % 2 else ("GET", b"")
            await client.send(method=method, body=body)
            status, head, _ = await client.receive()
            self.results[str(status)] += 1
            if "connection: close" in head.lower():
                return


def _length(head: str) -> int:
    lines = (line.lower().partition(":") for line in head.split("\r\n"))
    return next((int(value) for name, _, value in lines if name == "content-length"), 0)


@contextlib.asynccontextmanager
async def edge(node: Path, **settings: object) -> AsyncIterator[CaddyRouter]:
    """A started edge on a free port; every process of it is gone afterwards."""
    supervisor = LocalSupervisor(node)
    try:
        router = make_router(node, **settings)
        await router.start()
        yield router
    finally:
        for state in await supervisor.states("edge"):
            await supervisor.stop(state.id, 0)


def make_router(node: Path, **settings: object) -> CaddyRouter:
    """A router on a node directory, on a port of its own unless one is given."""
    options = {"http_port": free_port(), "domain": "localhost", "spare_slots": 8, "hold_seconds": 1.0}
    tls = settings.get("tls")
    if isinstance(tls, Tls):
        ROOTS[tls.port] = node.absolute() / "edge" / "storage" / "pki" / "authorities" / "local" / "root.crt"
    return CaddyRouter(node, LocalSupervisor(node), **{**options, **settings})  # type: ignore[arg-type]


def internal_tls(**more: str) -> Tls:
    """Certificates of the edge's own issuer, on a port of its own."""
    return Tls(port=free_port(), issuer=Issuer.INTERNAL, **more)


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


async def pid_of(node: Path, process: str = "edge") -> int:
    state = await LocalSupervisor(node).state(process)
    return state.pid if state else 0


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    """Wait for a condition; for what happens soon, with a limit for what never does."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.02)
