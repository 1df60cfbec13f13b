"""How long a deployment stands still when its server dies: until its next owner has begun its step again.

Real servers on this machine, in the middle of a release command. *Restart*: the only server is killed with
-9 and started again; counted from the start of the new process, whose own CPU is told too: on a busy machine
only that says something. *Takeover* (PostgreSQL): another server stands by; counted from the kill.

    python benchmarks/resume.py [--rounds N] [--stores SQLite PostgreSQL]
"""

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from measuring import STORES, cpu_seconds, fdatasync_ms, load, place, table
from tests.e2e.installation import Installation, Repository, eventually
from tests.e2e.test_replicas import Pair, leads

COMMANDS = {
    "slow.py": "import time; time.sleep(600)\n",
    "Procfile": "web: python app.py\nrelease: python slow.py\n",
}
LOOK_SECONDS = 0.01
TARGETS = {"restart": 2.0, "takeover": 3.0}


def prepared(it: Installation, folder: Path) -> str:
    """An environment whose deployment stays in its release command."""
    environment = it.environment()
    repository = Repository(folder / "git")
    repository.commit(COMMANDS)
    it.application(environment, "api", repository.url)
    return environment


def begun(it: Installation, environment: str) -> int:
    """How often the release command's step was begun; 0 while nobody answers."""
    with contextlib.suppress(httpx.TransportError):
        return max((s["attempt"] for s in it.journal(environment) if s["step"] == "execute"), default=0)
    return 0


def until_resumed(it: Installation, environment: str) -> float:
    """Seconds until the step was begun a second time."""
    began = time.perf_counter()
    while begun(it, environment) < 2:
        assert time.perf_counter() - began < 60, it.log.read_text()
        time.sleep(LOOK_SECONDS)
    return time.perf_counter() - began


Round = tuple[float, float]
"""Seconds, and seconds of CPU of the server that goes on."""


def round_of(it: Installation, environment: str, lose: Callable[[], Installation]) -> Round:
    """One death in the middle; `lose` brings it about and tells who answers afterwards."""
    it.call("POST", f"/environment/{environment}/redeploy", expect=202)
    eventually(lambda: begun(it, environment) == 1)
    left = lose()
    assert left.process is not None
    before = cpu_seconds(left.process.pid)
    seconds = until_resumed(left, environment)
    cpu = cpu_seconds(left.process.pid) - before
    left.call("POST", f"/environment/{environment}/cancelDeployment", expect=202)
    assert left.ended(environment)["state"] == "CANCELED"
    return seconds, cpu


async def restarts(folder: Path, url: str, rounds: int) -> list[Round]:
    it = Installation(folder, **({"REFLOAT_DATABASE_URL": url} if url else {}))

    def again() -> Installation:
        it.kill()
        it.process = it.spawn()
        return it

    try:
        it.start()
        environment = prepared(it, folder)
        return [round_of(it, environment, again) for _ in range(rounds)]
    finally:
        await it.remove()


async def takeovers(folder: Path, url: str, rounds: int) -> list[Round]:
    pair, found = Pair(folder, url), []
    try:
        pair.start()
        environment = prepared(pair.leader, folder)
        for _ in range(rounds):
            found.append(round_of(pair.leader, environment, lambda: _lost(pair)))
            eventually(lambda: leads(pair.other))
            pair.leader, pair.other = pair.other, pair.leader
            pair.other.log.unlink()  # what it said of its leadership is over
            pair.other.start()
        return found
    finally:
        await pair.remove()


def _lost(pair: Pair) -> Installation:
    pair.leader.kill()
    return pair.other


def measured(folder: Path, name: str, rounds: int) -> list[tuple[str, list[Round]]]:
    with place(name, folder / name) as at:
        url = at.server.database(migrated=False) if at.server else ""
        (folder / name / "one").mkdir()
        found = [("restart", asyncio.run(restarts(folder / name / "one", url, rounds)))]
        if at.server:
            (folder / name / "two").mkdir()
            second = at.server.database(migrated=False)
            found.append(("takeover", asyncio.run(takeovers(folder / name / "two", second, rounds))))
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stores", nargs="+", choices=STORES, default=STORES)
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="refloat-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        floor = fdatasync_ms(folder)
        for store in given.stores:
            for what, found in measured(folder, store, given.rounds):
                middle, cpu = (statistics.median(it) for it in zip(*found, strict=True))
                worst = max(seconds for seconds, _ in found)
                shown = [f"{value:.2f} s" for value in (middle, worst, cpu)]
                row = [f"{what}, {store}", *shown, f"{TARGETS[what]:.0f} s"]
                rows.append(row)
                print(*row, flush=True)
    print(f"\ndisk floor (fdatasync) {floor:.1f} ms; {load()}")
    print(table(["until resumed", "median", "worst", "CPU, median", "target"], rows))


if __name__ == "__main__":
    main()
