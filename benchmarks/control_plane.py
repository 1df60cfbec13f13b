"""What the control plane itself costs, on both stores, beside the disk of the same run.

Everything is real but the cluster, which is the simulated one and takes no time, so that steps do nothing.
A restart has six: prepare, ready, switch, verify, drain, stop; the first deployment of an application has
seven: precheck, build, execute, prepare, ready, switch, verify. CPU is this process's; what PostgreSQL's own
processes use is told apart.

    python benchmarks/control_plane.py [--rounds N] [--deployments N] [--stores SQLite PostgreSQL]
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

from measuring import STORES, Place, fdatasync_ms, load, memory_mb, place, quiet, table
from tests.simulation.control_plane import ControlPlane

from refloat.app import event_loop
from refloat.domain.deployment import Deployment
from refloat.domain.progress import Phase
from refloat.metrics import Metrics
from refloat.store import deployments as store


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


class Call(NamedTuple):
    """A request for a deployment."""

    path: str
    body: dict[str, list[str]] | None = None


async def environment(plane: ControlPlane, number: int) -> tuple[Call, Call]:
    """A new one with one application: how it is deployed, and how it is restarted."""
    made = await plane.environment(f"e{number}")
    application = await plane.application(made, "api")
    restart = Call(f"/environment/{made}/service/restart-service", {"application_ids": [application]})
    return Call(f"/environment/{made}/redeploy"), restart


async def enqueue_to_first_step(plane: ControlPlane, counted: Counted, rounds: int) -> list[float]:
    """Milliseconds from the call to the beginning of the first step's effect, one at a time."""
    first, found = FirstStep(), []
    await plane.start(first)
    for number in range(rounds):
        (redeploy, _), over = await environment(plane, number), counted.count_to(1)
        first.begun.clear()
        began = time.perf_counter()
        await plane.call("POST", *redeploy, expect=202)
        await first.begun.wait()
        found.append((first.at - began) * 1000)
        await over.wait()
    await plane.stop()
    return sorted(found)


class Took(NamedTuple):
    """For so many deployments: seconds of the clock, of this process's CPU, of PostgreSQL's; and the steps
    of one."""

    count: int
    seconds: float
    cpu: float
    server: float
    steps: int

    def rows(self) -> dict[str, str]:
        what = f"{self.steps} steps that do nothing: deployments a second"
        return {
            what: f"{self.count / self.seconds:.0f}",
            f"{what} of CPU": f"{self.count / self.cpu:.0f}",
            f"{self.steps} steps: CPU of one": f"{self.cpu / self.count * 1000:.1f} ms",
            f"{self.steps} steps: CPU of one in PostgreSQL": f"{self.server / self.count * 1000:.1f} ms"
            if self.server
            else "",
        }


async def throughput(plane: ControlPlane, counted: Counted, at: Place, calls: list[Call]) -> Took:
    """One deployment of each, all of which wait at the start."""
    for call in calls:
        asked = await plane.call("POST", *call, expect=202)
    over = counted.count_to(len(calls))
    began, cpu, server = time.perf_counter(), time.process_time(), at.server_cpu()
    await plane.start()
    await over.wait()
    took = time.perf_counter() - began, time.process_time() - cpu, at.server_cpu() - server
    assert counted.outcomes == [Phase.DONE] * len(calls), counted.outcomes
    await plane.stop()
    steps = await store.steps(plane.database.read, asked["deployment_request_id"])
    return Took(len(calls), *took, len(steps))


async def measure(at: Place, rounds: int, count: int) -> dict[str, str]:
    plane, counted = ControlPlane(at.folder, store=at.store), Counted()
    plane.metrics = counted
    floor = fdatasync_ms(at.folder)
    latencies = await enqueue_to_first_step(plane, counted, rounds)
    calls = [await environment(plane, 100_000 + number) for number in range(count)]
    first = await throughput(plane, counted, at, [redeploy for redeploy, _ in calls])
    again = await throughput(plane, counted, at, [restart for _, restart in calls])
    await plane.close()
    return {
        "disk floor, fdatasync, before and after": f"{floor:.1f} and {fdatasync_ms(at.folder):.1f} ms",
        "call to the first step, p50": f"{statistics.median(latencies):.1f} ms",
        "the same, p99 and best": f"{latencies[int(len(latencies) * 0.99)]:.1f} and {latencies[0]:.1f} ms",
        **again.rows(),
        **first.rows(),
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
            loop = partial(event_loop, shared=name == "PostgreSQL")
            with place(name, Path(folder) / name) as at, asyncio.Runner(loop_factory=loop) as runner:
                found.append(runner.run(measure(at, given.rounds, given.deployments)))
    print(load())
    print(table(["", *given.stores], [[what, *(it[what] for it in found)] for what in found[0]]))


if __name__ == "__main__":
    main()
