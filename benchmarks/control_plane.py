"""What the control plane itself costs, on both stores, beside the disk of the same run.

Everything is real but the cluster, which is the simulated one and takes no time: six steps that do nothing.
CPU is this process's; what PostgreSQL's own processes use is told apart.

    python benchmarks/control_plane.py [--rounds N] [--deployments N] [--stores SQLite PostgreSQL]
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path

from measuring import STORES, Place, fdatasync_ms, load, memory_mb, place, quiet, table
from tests.simulation.control_plane import ControlPlane

from refloat.app import event_loop
from refloat.domain.deployment import Deployment
from refloat.domain.progress import Phase
from refloat.metrics import Metrics


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


class Counted(Metrics):
    """Tells when as many deployments have ended as are waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: list[Phase] = []
        self._enough = asyncio.Event()
        self._wanted = 0

    def ended(self, deployment: Deployment, phase: Phase, at: datetime) -> None:
        super().ended(deployment, phase, at)
        self.outcomes.append(phase)
        if len(self.outcomes) == self._wanted:
            self._enough.set()

    def count_to(self, wanted: int) -> asyncio.Event:
        """From now on; set when that many have ended."""
        self.outcomes, self._wanted, self._enough = [], wanted, asyncio.Event()
        return self._enough


async def environment(plane: ControlPlane, number: int) -> str:
    made = await plane.environment(f"e{number}")
    await plane.application(made, "api")
    return made


async def enqueue_to_first_step(plane: ControlPlane, counted: Counted, rounds: int) -> list[float]:
    """Milliseconds from the call to the beginning of the first step's effect, one at a time."""
    first, found = FirstStep(), []
    await plane.start(first)
    for number in range(rounds):
        made, over = await environment(plane, number), counted.count_to(1)
        first.begun.clear()
        began = time.perf_counter()
        await plane.call("POST", f"/environment/{made}/redeploy", expect=202)
        await first.begun.wait()
        found.append((first.at - began) * 1000)
        await over.wait()
    await plane.stop()
    return sorted(found)


async def throughput(
    plane: ControlPlane, counted: Counted, at: Place, count: int
) -> tuple[float, float, float]:
    """Seconds of the clock, of this process's CPU and of PostgreSQL's, for so many deployments that all
    wait at the start."""
    made = [await environment(plane, 100_000 + number) for number in range(count)]
    for one in made:
        await plane.call("POST", f"/environment/{one}/redeploy", expect=202)
    over = counted.count_to(count)
    began, cpu, server = time.perf_counter(), time.process_time(), at.server_cpu()
    await plane.start()
    await over.wait()
    took = time.perf_counter() - began, time.process_time() - cpu, at.server_cpu() - server
    assert counted.outcomes == [Phase.DONE] * count, counted.outcomes
    await plane.stop()
    return took


async def measure(at: Place, rounds: int, count: int) -> dict[str, str]:
    plane, counted = ControlPlane(at.folder, store=at.store), Counted()
    plane.metrics = counted
    floor = fdatasync_ms(at.folder)
    latencies = await enqueue_to_first_step(plane, counted, rounds)
    seconds, cpu, server = await throughput(plane, counted, at, count)
    await plane.close()
    return {
        "disk floor, fdatasync, before and after": f"{floor:.1f} and {fdatasync_ms(at.folder):.1f} ms",
        "call to the first step, p50": f"{statistics.median(latencies):.1f} ms",
        "the same, p99 and best": f"{latencies[int(len(latencies) * 0.99)]:.1f} and {latencies[0]:.1f} ms",
        "deployments of 6 steps that do nothing, a second": f"{count / seconds:.0f}",
        "the same, a second of CPU": f"{count / cpu:.0f}",
        "CPU of one": f"{cpu / count * 1000:.1f} ms",
        "CPU of one in PostgreSQL": f"{server / count * 1000:.1f} ms" if at.server else "",
        "memory at the end": f"{memory_mb():.0f} MB",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--deployments", type=int, default=300)
    parser.add_argument("--stores", nargs="+", choices=STORES, default=STORES)
    given = parser.parse_args()
    quiet()
    found = []
    with tempfile.TemporaryDirectory(prefix="refloat-") as folder:
        for name in given.stores:
            with place(name, Path(folder) / name) as at, asyncio.Runner(loop_factory=event_loop) as runner:
                found.append(runner.run(measure(at, given.rounds, given.deployments)))
    print(load())
    print(table(["", *given.stores], [[what, *(it[what] for it in found)] for what in found[0]]))


if __name__ == "__main__":
    main()
