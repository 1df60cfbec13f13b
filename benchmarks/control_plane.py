"""What the control plane itself costs, on both stores, beside the disk of the same run.

Everything is real but the cluster, which is the simulated one and takes no time: six steps that do nothing.

    python benchmarks/control_plane.py [--rounds N] [--deployments N]
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.databases import PostgresServer, Store, binaries, sqlite_store
from tests.simulation.control_plane import ControlPlane

from refloat.store import deployments


class FirstStep:
    """Crash points that never crash: they tell when a step's effect begins."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.at = 0.0

    def hit(self, step: str, moment: str) -> None: ...

    def arm(self, step: str) -> None:
        if not self.begun.is_set():
            self.at = time.perf_counter()
            self.begun.set()


def fdatasync_ms(folder: Path, rounds: int = 300) -> float:
    """The floor of every durable write: one page and its way to the disk."""
    seconds = []
    with (folder / "floor").open("wb") as file:
        for _ in range(rounds):
            file.write(b"x" * 4096)
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds) * 1000


async def environment(plane: ControlPlane, number: int) -> str:
    made = await plane.environment(f"e{number}")
    await plane.application(made, "api")
    return made


async def enqueue_to_first_step(plane: ControlPlane, rounds: int) -> list[float]:
    """Milliseconds from the call to the beginning of the first step's effect, one at a time."""
    first, found = FirstStep(), []
    await plane.start(first)
    for number in range(rounds):
        made = await environment(plane, number)
        first.begun.clear()
        began = time.perf_counter()
        await plane.call("POST", f"/environment/{made}/redeploy", expect=202)
        await first.begun.wait()
        found.append((first.at - began) * 1000)
        await plane.ended(made)
    await plane.stop()
    return sorted(found)


async def throughput(plane: ControlPlane, count: int) -> tuple[float, float]:
    """Seconds of the clock and of this process's CPU for so many deployments, all waiting at the start."""
    made = [await environment(plane, 100_000 + number) for number in range(count)]
    for one in made:
        await plane.call("POST", f"/environment/{one}/redeploy", expect=202)
    began, cpu = time.perf_counter(), time.process_time()
    await plane.start()
    for one in made:
        while await deployments.open_deployments(plane.database.read, one):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    took = time.perf_counter() - began, time.process_time() - cpu
    for one in made:
        found = await plane.statuses(one)
        assert found["environment"]["state"] == "DEPLOYED", found
    await plane.stop()
    return took


async def measure(name: str, folder: Path, store: Store, rounds: int, count: int) -> None:
    plane = ControlPlane(folder, store=store)
    latencies = await enqueue_to_first_step(plane, rounds)
    seconds, cpu = await throughput(plane, count)
    await plane.close()
    print(f"{name}: disk floor (fdatasync) {fdatasync_ms(folder):.2f} ms")
    print(
        f"  enqueue to first step: p50 {statistics.median(latencies):.1f} ms,"
        f" p99 {latencies[int(len(latencies) * 0.99)]:.1f} ms, best {latencies[0]:.1f} ms"
    )
    print(
        f"  deployments of 6 steps that do nothing: {count / seconds:.0f} a second,"
        f" {count / cpu:.0f} a second of CPU ({cpu / count * 1000:.1f} ms each)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--deployments", type=int, default=200)
    given = parser.parse_args()
    import structlog

    structlog.configure(processors=[lambda *_: (_ for _ in ()).throw(structlog.DropEvent)])
    with tempfile.TemporaryDirectory(prefix="refloat-") as name:
        folder = Path(name)
        (folder / "sqlite").mkdir()
        (folder / "postgresql").mkdir()
        store = sqlite_store(folder / "sqlite")
        asyncio.run(measure("SQLite", folder / "sqlite", store, given.rounds, given.deployments))
        programs = binaries()
        if programs is None:
            print("PostgreSQL: not on this machine (apt-get install postgresql)")
            return
        server = PostgresServer(programs)
        try:
            server.start()
            store = Store(server.database())
            place = folder / "postgresql"
            asyncio.run(measure("PostgreSQL", place, store, given.rounds, given.deployments))
        finally:
            server.remove()


if __name__ == "__main__":
    main()
