"""Counted zero downtime: 100 rollouts of a slow application under a client that never retries.

The application boots for a second, holds requests for 50 ms to 2 s and drops them when it is told to end.
Rollouts alternate between a changed variable (`/redeploy`) and a new commit (`service/deploy`). The edge's
hold-and-retry is off. Exits 1 unless no request failed and the edge counted what the client counted.

    python benchmarks/zero_downtime.py [--rollouts N] [--mutate MUTATION]
"""

import argparse
import asyncio
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import websockets

from refloat.routers.caddy import CaddyRouter
from refloat.supervisor.processes import LocalSupervisor

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.e2e.installation import Installation, Repository

APP = """
import asyncio, os, signal, threading, time
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute

VERSION = "{version}"
SOCKETS = set()
time.sleep(1.0)

async def hold(request):
    await request.body()
    await asyncio.sleep(float(request.query_params.get("hold", "0")))
    return PlainTextResponse(VERSION + os.environ.get("ROUND", ""))

async def echo(socket):
    await socket.accept()
    SOCKETS.add(socket)
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    finally:
        SOCKETS.discard(socket)

async def leave():
    # A careless application: it says goodbye to WebSockets and drops every request in flight.
    for socket in list(SOCKETS):
        await socket.close(1001)
    await asyncio.sleep(0.05)
    os._exit(0)

def serve():
    app = Starlette(routes=[Route("/", hold, methods=["GET", "POST"]), WebSocketRoute("/ws", echo)])
    config = uvicorn.Config(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning")
    asyncio.run(run(uvicorn.Server(config)))

async def run(server):
    loop = asyncio.get_running_loop()
    LEAVE.append(lambda: asyncio.run_coroutine_threadsafe(leave(), loop))
    await server.serve()

LEAVE = []
signal.signal(signal.SIGTERM, lambda *_: LEAVE and LEAVE[0]())
threading.Thread(target=serve).start()
while True:
    time.sleep(3600)
"""
FILES = {
    "Procfile": "web: python app.py\n",
    "requirements.txt": "starlette\nuvicorn\nwebsockets\n",
}
CONNECTIONS = 64
PAUSE = 0.4
LONG_SHARE = 0.06
GOING_AWAY = (1000, 1001, 1012)


class Client:
    """Keep-alive GETs and POSTs and one WebSocket, never retried; every failure is kept."""

    def __init__(self, port: int, host: str) -> None:
        self.port, self.host = port, host
        self.sent = 0
        self.sockets = 0
        self.echoes = 0
        self.failures: list[str] = []
        self.over = False

    async def run(self) -> None:
        await asyncio.gather(self.websocket(), *(self.connection(i) for i in range(CONNECTIONS)))

    async def connection(self, number: int) -> None:
        dice = random.Random(number)
        reader = writer = None
        await asyncio.sleep(dice.random())
        while not self.over:
            self.sent += 1
            hold = dice.uniform(0.05, 2.0) if dice.random() < LONG_SHARE else 0.05
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                assert reader is not None
                await asyncio.wait_for(self.exchange(reader, writer, hold, dice.random() < 0.5), 30)
            except (OSError, EOFError, TimeoutError, ValueError) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                if writer:
                    writer.close()
                reader = writer = None
            await asyncio.sleep(PAUSE)
        if writer:
            writer.close()

    async def exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hold: float, post: bool
    ) -> None:
        body = b"x" * 512 if post else b""
        verb = "POST" if post else "GET"
        head = (
            f"{verb} /?hold={hold:.3f} HTTP/1.1\r\nHost: {self.host}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = next(line for line in answer.split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))
        if b" 200 " not in answer.split(b"\r\n")[0]:
            raise ValueError(answer.split(b"\r\n")[0].decode())

    async def websocket(self) -> None:
        while not self.over:
            self.sockets += 1
            try:
                async with websockets.connect(
                    f"ws://{self.host}/ws", host="127.0.0.1", port=self.port
                ) as socket:
                    while not self.over:
                        await socket.send("ping")
                        await asyncio.wait_for(socket.recv(), 10)
                        self.echoes += 1
                        await asyncio.sleep(0.2)
            except websockets.ConnectionClosed as closed:
                if closed.rcvd is None or closed.rcvd.code not in GOING_AWAY:
                    self.failures.append(f"WebSocket: {closed}")
            except (OSError, TimeoutError, websockets.InvalidHandshake) as error:
                self.failures.append(f"WebSocket: {error}")


class Mutated(Installation):
    """A server with one safety taken out of it."""

    def __init__(self, folder: Path, mutation: str | None, **settings: str) -> None:
        super().__init__(folder, **settings)
        self.mutation = mutation

    def spawn(self, **more: str) -> Any:
        if not self.mutation:
            return super().spawn(**more)
        import subprocess

        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, __file__, "--serve", "--mutate", self.mutation],
                env=self.environ(**more),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


def serve_mutated(mutation: str) -> None:
    """The real server, except for one thing."""
    from refloat.app import serve
    from refloat.execution.steps import ServiceSteps
    from refloat.planning import planner
    from refloat.planning.plan import StepName
    from refloat.settings import load

    async def nothing(self: ServiceSteps) -> dict[str, object]:
        return {}

    async def mark_only(self: ServiceSteps) -> dict[str, object]:
        return {"mark": await self._means.platform.router.mark(self.service_id)}

    if mutation == "stop-before-drain":
        planner._RETIRE = (StepName.STOP, StepName.DRAIN)
    elif mutation == "skip-verification":
        ServiceSteps._ready = nothing
        ServiceSteps._verify = nothing
    else:
        ServiceSteps._switch = mark_only
    asyncio.run(serve(load()))


async def measure(folder: Path, rollouts: int, mutation: str | None) -> bool:
    installation = Mutated(folder, mutation, REFLOAT_DRAIN_SECONDS="3", REFLOAT_HOLD_SECONDS="0")
    repository = Repository(folder / "git", {**FILES, "app.py": APP.replace("{version}", "0")})
    installation.start()
    try:
        environment = installation.environment()
        application = installation.application(environment, "api", repository.url)
        variable = installation.variable(application, "APPLICATION", "ROUND", "0")
        first = await asyncio.to_thread(installation.roll, environment)
        if mutation is None:
            assert first["state"] == "DEPLOYED", installation.log_text(environment)
        await asyncio.sleep(2)
        link = installation.call("GET", f"/application/{application}/link")["results"][0]
        client = Client(installation.http_port, link["url"].removeprefix("http://"))
        router = CaddyRouter(
            installation.node,
            LocalSupervisor(installation.node),
            http_port=installation.http_port,
            domain="localhost",
            hold_seconds=0,
        )
        await router.start()
        mark = await router.mark(application)
        load = asyncio.create_task(client.run())
        seconds, states = [], []
        for number in range(1, rollouts + 1):
            began = time.monotonic()
            await asyncio.to_thread(
                roll, installation, repository, environment, application, variable, number
            )
            seconds.append(time.monotonic() - began)
            states.append(installation.status(environment)["state"])
        await asyncio.sleep(1)
        client.over = True
        await load
        counts = await router.counts(application, mark)
        return report(client, counts, seconds, states)
    finally:
        await installation.remove()


def roll(
    installation: Installation,
    repository: Repository,
    environment: str,
    application: str,
    variable: str,
    number: int,
) -> None:
    if number % 2:
        installation.edit_variable(variable, "ROUND", str(number))
        installation.roll(environment)
        return
    commit = repository.commit({"app.py": APP.replace("{version}", str(number))})
    body = {"applications": [{"application_id": application, "git_commit_id": commit}]}
    installation.call("POST", f"/environment/{environment}/service/deploy", body, expect=202)
    installation.ended(environment)


def report(client: Client, counts: Any, seconds: list[float], states: list[str]) -> bool:
    good = sum(state == "DEPLOYED" for state in states)
    everything = client.sent + client.sockets
    edge = counts.served if counts else 0
    print(f"rollouts: {len(states)}, deployed: {good}, median {statistics.median(seconds):.2f} s each")
    print(f"requests sent: {client.sent}, WebSockets: {client.sockets} with {client.echoes} echoes")
    print(f"failed as the client saw it: {len(client.failures)}")
    print(f"the edge counted: {edge} of {everything}, failed: {counts.failed if counts else 0}")
    for failure in client.failures[:5]:
        print("  ", failure)
    return good == len(states) and not client.failures and edge == everything and counts.failed == 0


def main() -> int:
    words = argparse.ArgumentParser()
    words.add_argument("--rollouts", type=int, default=100)
    words.add_argument("--mutate", choices=["stop-before-drain", "skip-verification", "skip-switch"])
    words.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = words.parse_args()
    if given.serve:
        serve_mutated(given.mutate)
        return 0
    folder = Path(tempfile.mkdtemp(prefix="refloat-bench-"))
    folder.chmod(0o755)
    try:
        green = asyncio.run(measure(folder, given.rollouts, given.mutate))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("green" if green else "RED")
    return 0 if green else 1


if __name__ == "__main__":
    sys.exit(main())
