"""Requests at a steady rate over keep-alive connections, never retried; stops on a line on stdin.

usage: load.py HOST:PORT REQUESTS_PER_SECOND NAME...
At the end it prints how many were sent, how many failed, and the first failures.
"""

import asyncio
import itertools
import sys

CONNECTIONS = 32
TIMEOUT = 30


class Load:
    """What was sent, and what came back wrong."""

    def __init__(self, address: str, names: list[str]) -> None:
        self.host, _, port = address.partition(":")
        self.port = int(port)
        self.names = itertools.cycle(names)
        self.sent = 0
        self.failures: list[str] = []
        self.over = False

    async def run(self, rate: float) -> None:
        connections = [Connection(self) for _ in range(CONNECTIONS)]
        await asyncio.gather(
            *(c.run(i / rate, CONNECTIONS / rate) for i, c in enumerate(connections)),
            asyncio.to_thread(self._wait_for_the_end),
        )

    def _wait_for_the_end(self) -> None:
        sys.stdin.readline()
        self.over = True


class Connection:
    """One keep-alive connection, one request at a time."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, delay: float, pause: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + delay
        while not self.load.over:
            await asyncio.sleep(max(0, due - loop.time()))
            due += pause
            await self.one()

    async def one(self) -> None:
        self.load.sent += 1
        try:
            status = await asyncio.wait_for(self.exchange(next(self.load.names)), TIMEOUT)
            if status != 200:
                self.load.failures.append(f"status {status}")
        except (OSError, EOFError, TimeoutError) as error:
            self.load.failures.append(f"{type(error).__name__}: {error}")
            self.close()

    async def exchange(self, name: str) -> int:
        if self.streams is None or self.streams[0].at_eof():
            self.close()
            self.streams = await asyncio.open_connection(self.load.host, self.load.port)
        reader, writer = self.streams
        writer.write(f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = next((h for h in head.split(b"\r\n") if h.startswith(b"content-length:")), b":0")
        await reader.readexactly(int(length.split(b":")[1]))
        if b"connection: close" in head:
            self.close()
        return int(head.split(b" ", 2)[1])

    def close(self) -> None:
        if self.streams:
            self.streams[1].close()
        self.streams = None


if __name__ == "__main__":
    load = Load(sys.argv[1], sys.argv[3:])
    asyncio.run(load.run(float(sys.argv[2])))
    print(load.sent, len(load.failures), *load.failures[:3], sep="\n", flush=True)
