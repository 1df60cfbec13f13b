"""Whether what people wait for costs the same with ten environments and with ten thousand.

One control plane in this process, on the simulated cluster; every environment has one application and was
deployed once. Then, at each size: reading a status, the 202 of a redeploy, the whole of a redeploy that
changes nothing, and what the server does while nobody asks for anything. Last, as many deployments at once
as are wanted, and the memory of it all.

    python benchmarks/scale.py [--sizes 10 1000 10000] [--at-once 500] [--postgresql]
"""

import argparse
import asyncio
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.databases import PostgresServer, Store, binaries, sqlite_store
from tests.simulation.control_plane import ControlPlane

from refloat.execution.capacity import Capacity
from refloat.execution.reconciler import Reconciler
from refloat.store import deployments

ROUNDS = 60
TOGETHER = 50
"""How many environments are made, and how many deployed, side by side."""


async def grow(plane: ControlPlane, made: list[str], size: int) -> None:
    """Environments up to this number, each deployed."""

    async def one(number: int) -> None:
        environment = await plane.environment(f"e{number}")
        await plane.application(environment, "api")
        await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
        made.append(environment)

    for start in range(len(made), size, TOGETHER):
        await asyncio.gather(*(one(number) for number in range(start, min(size, start + TOGETHER))))
    for environment in made:
        await over(plane, environment)


async def over(plane: ControlPlane, environment: str) -> None:
    while await deployments.open_deployments(plane.database.read, environment):  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def median_ms(environments: list[str], work: Callable[[str], Awaitable[object]]) -> float:
    """Of one after the other, spread over all environments."""
    seconds = []
    for round in range(ROUNDS):
        environment = environments[round * len(environments) // ROUNDS]
        began = time.perf_counter()
        await work(environment)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds) * 1000


async def measure(plane: ControlPlane, made: list[str]) -> dict[str, float]:
    async def accept(environment: str) -> None:
        await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)

    async def roll(environment: str) -> None:
        await accept(environment)
        await over(plane, environment)

    found = {"status": await median_ms(made, lambda e: plane.call("GET", f"/environment/{e}/status"))}
    found["whole redeploy"] = await median_ms(made, roll)
    found["202"] = await median_ms(made, accept)
    for environment in made:
        await over(plane, environment)
    cpu, began = time.process_time(), time.perf_counter()
    await asyncio.sleep(10)
    found["idle CPU %"] = (time.process_time() - cpu) / (time.perf_counter() - began) * 100
    found["memory MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


async def at_once(plane: ControlPlane, made: list[str], count: int) -> tuple[float, int]:
    """Seconds for so many deployments that boot for 15 s, and how many ran at the same time."""
    await plane.stop()
    plane.capacity = Capacity(deployments=count, builds=count)
    for environment in made[:count]:
        body = {"key": "REFLOAT_SIMULATE", "value": "boot_seconds=15", "is_secret": False}
        scope = {"variable_scope": "ENVIRONMENT", "variable_parent_id": environment}
        await plane.call("POST", "/variable", {**body, **scope})
        await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    began, most = time.perf_counter(), 0
    await plane.start()
    while any([await deployments.open_deployments(plane.database.read, e) for e in made[:count]]):
        most = max(most, len(await deployments.running(plane.database.read)))
        await asyncio.sleep(0.1)
    return time.perf_counter() - began, most


async def run(name: str, folder: Path, store: Store, sizes: list[int], count: int) -> None:
    plane, made = ControlPlane(folder, store=store), list[str]()
    await plane.start()
    keeper = asyncio.create_task(Reconciler(plane.database, plane.sealer, plane.clock, plane.platforms).run())
    first: dict[str, float] = {}
    print(name)
    for size in sizes:
        await grow(plane, made, size)
        found = await measure(plane, made)
        first = first or found
        words = [f"{what} {value:.2f} ({value / first[what]:.2f}x)" for what, value in found.items()]
        print(f"  {size} environments: {', '.join(words)}", flush=True)
    keeper.cancel()
    if count <= len(made):
        seconds, most = await at_once(plane, made, count)
        print(f"  {count} deployments that boot for 15 s: {seconds:.1f} s, {most} at once")
    await plane.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 1000, 10000])
    parser.add_argument("--at-once", type=int, default=500)
    parser.add_argument("--postgresql", action="store_true")
    given = parser.parse_args()
    import structlog

    structlog.configure(processors=[lambda *_: (_ for _ in ()).throw(structlog.DropEvent)])
    with tempfile.TemporaryDirectory(prefix="refloat-") as name:
        folder = Path(name)
        if not given.postgresql:
            asyncio.run(run("SQLite", folder, sqlite_store(folder), given.sizes, given.at_once))
            return
        programs = binaries()
        if programs is None:
            raise SystemExit("PostgreSQL is missing: apt-get install postgresql")
        server = PostgresServer(programs)
        try:
            server.start()
            store = Store(server.database())
            asyncio.run(run("PostgreSQL", folder, store, given.sizes, given.at_once))
        finally:
            server.remove()


if __name__ == "__main__":
    main()
