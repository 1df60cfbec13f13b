"""Whether what people wait for costs the same with ten environments and with ten thousand.

One control plane for each size in this process, each with its database, on the simulated cluster; every
environment has one application and was deployed once, ten make a project. The sizes take turns, round by
round, so that whatever else goes on meets all of them: reads, the 202 of a redeploy, the whole of a redeploy
that changes nothing. Then what each does while nobody asks for anything, and many deployments at once.

Each figure is a median in milliseconds, and in brackets the CPU of one; the last column compares the CPU of
the last size with the first's. On a busy machine only the CPU says something.

    python benchmarks/scale.py [--sizes 10 1000 10000] [--at-once 500] [--stores SQLite PostgreSQL]
"""

import argparse
import asyncio
import statistics
import tempfile
import time
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
SETTLE_SECONDS = 2
TOGETHER = 10
"""How many environments are made, and how many deployed, side by side; and how many make a project."""
BOOT_SECONDS = 30

READS = {
    "status of an environment": "/environment/{1}/status",
    "status of a service": "/application/{2}/status",
    "all statuses of an environment": "/environment/{1}/statuses",
    "environments of a project": "/project/{0}/environment",
    "history of an environment": "/environment/{1}/deploymentHistoryV2",
}
"""Paths, by the ids of project, environment and application."""

ACCEPT, WHOLE = "202 of a redeploy", "redeploy with nothing changed, to its end"
Cost = tuple[float, float]
"""Milliseconds of the clock and of CPU."""


class Installation:
    """Environments that grow in number, each deployed."""

    def __init__(self, at: Place, number: int) -> None:
        folder = at.folder / str(number)
        folder.mkdir()
        self.plane = ControlPlane(folder, store=at.another(folder))
        self.plane.metrics = self.ends = Counted()
        self.made: list[tuple[str, str, str]] = []
        """Project, environment, application."""

    async def start_beside(self) -> None:
        plane = self.plane
        given = (plane.database, plane.sealer, plane.clock, plane.platforms)
        reconciler = Reconciler(*given)
        reconciler._noted.update(environment for _, environment, _ in self.made)  # as after its first minutes
        await reconciler.look()
        self._beside = [asyncio.create_task(it.run()) for it in (reconciler, CronRuns(*given))]

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

    async def accept(self, environment: str) -> None:
        await self.plane.call("POST", f"/environment/{environment}/redeploy", expect=202)

    async def turn(self, what: str, number: int) -> Cost:
        """One round, at one of all environments."""
        ids = self.made[number * len(self.made) // ROUNDS]
        began, used = time.perf_counter(), time.process_time()
        if path := READS.get(what):
            await self.plane.call("GET", path.format(*ids))
        else:
            over = self.ends.count_to(1)
            await self.accept(ids[1])
            if what == WHOLE:
                await over.wait()
        cost = (time.perf_counter() - began) * 1000, (time.process_time() - used) * 1000
        await self.plane.eventually(self._rests)
        return cost

    async def _rests(self) -> bool:
        return not await deployments.running(self.plane.database.read) and not await deployments.claimable(
            self.plane.database.read
        )

    async def idle(self) -> float:
        """Per cent of a core while nobody asks for anything, once it has looked at everything."""
        await self.start_beside()
        await asyncio.sleep(SETTLE_SECONDS)
        cpu, began = time.process_time(), time.perf_counter()
        await asyncio.sleep(IDLE_SECONDS)
        percent = (time.process_time() - cpu) / (time.perf_counter() - began) * 100
        await self.stop_beside()
        return percent

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


async def made(at: Place, number: int, size: int) -> tuple[Installation, float]:
    """An installation of this size, and the megabytes it added to this process."""
    before = memory_mb()
    it = Installation(at, number)
    await it.plane.start()
    await it.grow(size)
    return it, memory_mb() - before


async def compared(all_sizes: list[Installation]) -> dict[str, list[Cost]]:
    """The medians of every path, by size."""
    found = {}
    for what in (*READS, WHOLE, ACCEPT):
        rounds = [[await it.turn(what, number) for it in all_sizes] for number in range(ROUNDS)]
        by_size = [zip(*costs, strict=True) for costs in zip(*rounds, strict=True)]
        found[what] = [(statistics.median(wall), statistics.median(cpu)) for wall, cpu in by_size]
    return found


async def run(at: Place, sizes: list[int], count: int) -> None:
    print(f"\n{at.name}; disk floor (fdatasync) {fdatasync_ms(at.folder):.1f} ms; {load()}", flush=True)
    grown = [await made(at, number, size) for number, size in enumerate(sizes)]
    installations = [it for it, _ in grown]
    rows = []
    for what, costs in (await compared(installations)).items():
        shown = [f"{wall:.1f} ms ({cpu:.1f})" for wall, cpu in costs]
        rows.append([what, *shown, f"{costs[-1][1] / costs[0][1]:.2f}"])
    rows.append(["idle, CPU", *[f"{await it.idle():.2f} %" for it in installations], ""])
    rows.append(["memory for it", *(f"{more:.0f} MB" for _, more in grown), ""])
    head = ["", *(f"{size:,} environments" for size in sizes), "CPU, last by first"]
    print(table(head, rows), flush=True)
    if count <= sizes[-1]:
        seconds, cpu, most = await installations[-1].at_once(count)
        print(
            f"{count} deployments at once that boot for {BOOT_SECONDS} s: {most} at the same time,"
            f" {seconds:.1f} s, {cpu / count * 1000:.1f} ms of CPU each, {memory_mb():.0f} MB; {load()}"
        )
    for it in installations:
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
