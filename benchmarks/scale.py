"""Whether what people wait for costs the same with ten environments and with ten thousand.

One control plane in this process, on the simulated cluster; every environment has one application and was
deployed once, ten make a project. At each size: reads, the 202 of a redeploy, the whole of a redeploy that
changes nothing, and what the server does while nobody asks for anything. Last, many deployments at once.

Each figure is a median in milliseconds, and in brackets the CPU of one; the last column is the dearest CPU
by the cheapest size's. On a busy machine only the CPU says something.

    python benchmarks/scale.py [--sizes 10 1000 10000] [--at-once 500] [--stores SQLite PostgreSQL]
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from control_plane import Counted
from measuring import STORES, Place, fdatasync_ms, load, memory_mb, place, quiet, table
from tests.simulation.control_plane import ControlPlane

from refloat.domain.progress import Phase
from refloat.execution.capacity import Capacity
from refloat.execution.cron import CronRuns
from refloat.execution.reconciler import Reconciler
from refloat.store import deployments

ROUNDS = 60
IDLE_SECONDS = 10
TOGETHER = 10
"""How many environments are made, and how many deployed, side by side; and how many make a project."""
BOOT_SECONDS = 15

READS = {
    "status of an environment": "/environment/{1}/status",
    "status of a service": "/application/{2}/status",
    "all statuses of an environment": "/environment/{1}/statuses",
    "environments of a project": "/project/{0}/environment",
    "history of an environment": "/environment/{1}/deploymentHistoryV2",
}
"""Paths, by the ids of project, environment and application."""

Cost = tuple[float, float]
"""Milliseconds of the clock and of CPU."""


class Installation:
    """Environments that grow in number, each deployed."""

    def __init__(self, at: Place) -> None:
        self.plane = ControlPlane(at.folder, store=at.store)
        self.plane.metrics = self.ends = Counted()
        self.made: list[tuple[str, str, str]] = []
        """Project, environment, application."""

    async def start(self) -> None:
        plane = self.plane
        await plane.start()
        given = (plane.database, plane.sealer, plane.clock, plane.platforms)
        self._beside = [asyncio.create_task(it(*given).run()) for it in (Reconciler, CronRuns)]

    async def stop_beside(self) -> None:
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)

    async def grow(self, size: int) -> None:
        for start in range(len(self.made), size, TOGETHER):
            numbers = range(start, min(size, start + TOGETHER))
            over = self.ends.count_to(len(numbers))
            path = f"/organization/{await self.plane.organization()}/project"
            project = (await self.plane.call("POST", path, {"name": f"p{start}"}))["id"]
            self.made += await asyncio.gather(*(self._one(project, number) for number in numbers))
            await over.wait()
            assert set(self.ends.outcomes) == {Phase.DONE}

    async def _one(self, project: str, number: int) -> tuple[str, str, str]:
        body = {"name": f"e{number}"}
        environment = (await self.plane.call("POST", f"/project/{project}/environment", body))["id"]
        application = await self.plane.application(environment, "api")
        await self.plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
        return project, environment, application

    async def get(self, path: str) -> None:
        await self.plane.call("GET", path)

    async def accept(self, environment: str) -> None:
        await self.plane.call("POST", f"/environment/{environment}/redeploy", expect=202)

    async def roll(self, environment: str) -> None:
        over = self.ends.count_to(1)
        await self.accept(environment)
        await over.wait()

    async def median(self, work: Callable[[str, str, str], Awaitable[None]]) -> Cost:
        """Of one after the other, spread over all environments."""
        seconds, cpu = [], []
        for round in range(ROUNDS):
            one = self.made[round * len(self.made) // ROUNDS]
            began, used = time.perf_counter(), time.process_time()
            await work(*one)
            seconds.append(time.perf_counter() - began)
            cpu.append(time.process_time() - used)
        return statistics.median(seconds) * 1000, statistics.median(cpu) * 1000

    async def measure(self) -> dict[str, Cost]:
        found = {
            what: await self.median(lambda *ids, path=path: self.get(path.format(*ids)))
            for what, path in READS.items()
        }
        found["redeploy with nothing changed, to its end"] = await self.median(lambda p, e, a: self.roll(e))
        over = self.ends.count_to(ROUNDS)
        found["202 of a redeploy"] = await self.median(lambda p, e, a: self.accept(e))
        if len(self.made) >= ROUNDS:  # else several become one
            await over.wait()
        await self.plane.eventually(self._rests)
        return found

    async def _rests(self) -> bool:
        return not await deployments.running(self.plane.database.read) and not await deployments.claimable(
            self.plane.database.read
        )

    async def idle(self) -> float:
        """Per cent of a core while nobody asks for anything."""
        cpu, began = time.process_time(), time.perf_counter()
        await asyncio.sleep(IDLE_SECONDS)
        return (time.process_time() - cpu) / (time.perf_counter() - began) * 100

    async def at_once(self, count: int) -> tuple[float, float, int]:
        """Seconds and CPU for so many deployments that boot for a while, and how many ran together."""
        plane = self.plane
        await plane.stop()
        plane.capacity = Capacity(deployments=count, builds=count)
        for _, environment, _ in self.made[:count]:
            body = {"key": "REFLOAT_SIMULATE", "value": f"boot_seconds={BOOT_SECONDS}", "is_secret": False}
            scope = {"variable_scope": "ENVIRONMENT", "variable_parent_id": environment}
            await plane.call("POST", "/variable", {**body, **scope})
            await self.accept(environment)
        over, most = self.ends.count_to(count), 0
        began, cpu = time.perf_counter(), time.process_time()
        await plane.start()
        while not over.is_set():
            most = max(most, len(await deployments.running(plane.database.read)))
            await asyncio.sleep(0.25)
        assert set(self.ends.outcomes) == {Phase.DONE}
        return time.perf_counter() - began, time.process_time() - cpu, most


async def run(at: Place, sizes: list[int], count: int) -> None:
    it = Installation(at)
    await it.start()
    print(f"\n{at.name}; disk floor (fdatasync) {fdatasync_ms(at.folder):.1f} ms; {load()}", flush=True)
    costs: list[dict[str, Cost]] = []
    idle, memory = [], []
    for size in sizes:
        await it.grow(size)
        costs.append(await it.measure())
        idle.append(await it.idle())
        memory.append(memory_mb())
    head = ["", *(f"{size:,} environments" for size in sizes), "CPU, last by first"]
    rows = []
    for what in costs[0]:
        shown = [f"{cost[what][0]:.1f} ms ({cost[what][1]:.1f})" for cost in costs]
        rows.append([what, *shown, f"{costs[-1][what][1] / costs[0][what][1]:.2f}"])
    rows.append(["idle, CPU", *(f"{value:.2f} %" for value in idle), ""])
    rows.append(["memory", *(f"{value:.0f} MB" for value in memory), ""])
    print(table(head, rows), flush=True)
    await it.stop_beside()
    if count <= len(it.made):
        seconds, cpu, most = await it.at_once(count)
        print(
            f"{count} deployments at once that boot for {BOOT_SECONDS} s: {most} at the same time,"
            f" {seconds:.1f} s, {cpu / count * 1000:.1f} ms of CPU each, {memory_mb():.0f} MB; {load()}"
        )
    await it.plane.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 1000])
    parser.add_argument("--at-once", type=int, default=500)
    parser.add_argument("--stores", nargs="+", choices=STORES, default=STORES)
    given = parser.parse_args()
    quiet()
    with tempfile.TemporaryDirectory(prefix="refloat-") as folder:
        for name in given.stores:
            with place(name, Path(folder) / name) as at:
                asyncio.run(run(at, given.sizes, given.at_once))


if __name__ == "__main__":
    main()
