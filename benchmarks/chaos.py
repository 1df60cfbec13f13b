"""Real servers on one PostgreSQL, killed, frozen and restarted at random, under load.

Three servers share a node and a database. Six environments, each with a job that runs at every deployment
and an application under a client that never retries, are redeployed all the time through whichever server
answers. Meanwhile servers are killed with -9, frozen and thawed, or restarted in order; PostgreSQL crashes;
the edge is killed. Then everything goes well again, and the accounts are made up:

- lost: a request that was answered by 202 and is not in the history
- stuck: one that has not ended two minutes after the last fault
- doubled: a job that ran more often than its step was begun in the journal
- failed requests, apart from those in the moment after the edge itself was killed
- wrong: an application that does not serve its last configuration, or processes that nothing accounts for

Exits 1 unless all of them are 0.

    python benchmarks/chaos.py [--minutes N] [--seed N] [--write]
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from refloat.supervisor.processes import LocalSupervisor

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.chaos_site import Client, Deployer, Environment, Site, ended, make_environment
from tests.databases import PostgresServer, binaries

ENVIRONMENTS = 6
CALM_SECONDS = 120.0
EDGE_SECONDS = 2.0
"""How long after the edge was killed a refused request counts as its doing."""
RESULT = Path(__file__).parent / "chaos.json"


class Faults:
    """What goes wrong, one thing after the other."""

    def __init__(self, site: Site, dice: random.Random) -> None:
        self._site, self._dice = site, dice
        self.count: Counter[str] = Counter()
        self.edge_killed: list[float] = []

    def one(self) -> None:
        kinds: list[tuple[Callable[[], None], int]] = [
            (self._kill, 40),
            (self._freeze, 20),
            (self._restart, 15),
            (self._crash_database, 15),
            (self._kill_edge, 10),
        ]
        fault = self._dice.choices([f for f, _ in kinds], [w for _, w in kinds])[0]
        self.count[fault.__name__.strip("_").replace("_", " ")] += 1
        fault()

    def _kill(self) -> None:
        server = self._dice.choice(self._site.servers)
        server.kill()
        time.sleep(self._dice.uniform(0, 2))
        server.start()

    def _freeze(self) -> None:
        server = self._dice.choice(self._site.servers)
        process = server.process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        time.sleep(self._dice.uniform(0.5, 8))
        process.send_signal(signal.SIGCONT)
        if process.poll() is not None:  # ended by another one, which waited for a lock that it held
            server.start()

    def _restart(self) -> None:
        server = self._dice.choice(self._site.servers)
        assert server.process is not None
        server.process.terminate()
        server.process.wait(60)
        server.start()

    def _crash_database(self) -> None:
        self._site.postgres.crash()
        time.sleep(self._dice.uniform(0, 1))
        self._site.postgres.start()

    def _kill_edge(self) -> None:
        states = asyncio.run(LocalSupervisor(self._site.servers[0].node).states())
        edges = [s.pid for s in states if s.id.startswith("edge") and s.pid]
        self.edge_killed.append(time.monotonic())
        for pid in edges:
            os.kill(pid, signal.SIGKILL)


async def accounts(site: Site, environments: list[Environment]) -> dict[str, Any]:
    """What the database says of all deployments, beside what was asked and what was really done."""
    connection = await asyncpg.connect(site.url)
    deployments = await connection.fetch("SELECT id, phase, ended FROM deployment")
    begun = await connection.fetch("SELECT service_id, outcome FROM step WHERE name = 'execute'")
    again = await connection.fetchval("SELECT count(*) FROM step WHERE attempt > 1")
    await connection.close()
    known = {row["id"] for row in deployments}
    phases = Counter(row["phase"] for row in deployments)
    doubled = 0
    for it in environments:
        mine = [row for row in begun if row["service_id"] == it.job]
        ran = len(it.ledger.read_text())
        done = sum(row["outcome"] == "done" for row in mine)
        doubled += max(0, ran - len(mine)) + max(0, done - ran)
    return {
        "deployments": len(deployments),
        "ended": dict(sorted(phases.items())),
        "accepted": sum(len(it.accepted) for it in environments),
        "without_an_answer": sum(it.unanswered for it in environments),
        "jobs_run": sum(len(it.ledger.read_text()) for it in environments),
        "steps_begun_again": again,
        "lost": sum(id not in known for it in environments for id in it.accepted),
        "stuck": sum(not row["ended"] for row in deployments),
        "doubled": doubled,
    }


def wrong(site: Site, environments: list[Environment]) -> int:
    """After a last redeploy of everything: who does not serve what is configured, and what is left over."""
    bad = 0
    for it in environments:
        site.ask("POST", f"/environment/{it.id}/redeploy")
    for it in environments:
        while not ended(site, it):
            time.sleep(0.1)
        state = site.ask("GET", f"/environment/{it.id}/status")["state"]
        port = site.servers[0].http_port
        answer = httpx.get(f"http://127.0.0.1:{port}/", headers={"Host": it.host}, timeout=10)
        bad += state != "DEPLOYED" or answer.text != str(it.round)
    time.sleep(10)  # old revisions drain, what is left over is ended
    states = asyncio.run(LocalSupervisor(site.servers[0].node).states())
    live = [s.id for s in states if s.status in ("running", "starting") and s.id.startswith("app.")]
    return bad + abs(len(live) - len(environments))


def measure(folder: Path, minutes: float, seed: int) -> dict[str, Any]:
    programs = binaries()
    if programs is None:
        raise SystemExit("PostgreSQL is missing: apt-get install postgresql")
    postgres = PostgresServer(programs)
    postgres.start()
    dice = random.Random(seed)
    site = Site(folder, postgres, random.Random(seed + 1))
    try:
        site.start()
        environments = [make_environment(site, n) for n in range(ENVIRONMENTS)]
        clients = [Client(site.servers[0].http_port, it.host) for it in environments]
        deployers = [Deployer(site, environments[n::3], seed + n) for n in range(3)]
        faults = Faults(site, dice)
        for thread in (*clients, *deployers):
            thread.start()
        until = time.monotonic() + minutes * 60
        while time.monotonic() < until:
            time.sleep(dice.uniform(1, 6))
            faults.one()
        for deployer in deployers:
            deployer.over.set()
            deployer.join(90)
        calm = time.monotonic() + CALM_SECONDS
        while time.monotonic() < calm and not all(ended(site, it) for it in environments):
            time.sleep(0.5)
        found = asyncio.run(accounts(site, environments))
        found["wrong"] = wrong(site, environments)
        for client in clients:
            client.over.set()
            client.join()
        errors = [repr(d.error) for d in deployers if d.error]
        return {**found, **requests(clients, faults), "faults": dict(faults.count), "errors": errors}
    finally:
        asyncio.run(site.remove())
        postgres.remove()


def requests(clients: list[Client], faults: Faults) -> dict[str, Any]:
    failures = [failure for client in clients for failure in client.failures]
    of_edge = [f for f in failures if any(0 <= f[0] - at + 0.5 <= EDGE_SECONDS for at in faults.edge_killed)]
    failed = [words for at, words in failures if (at, words) not in of_edge]
    for words in failed[:10]:
        print("failed:", words)
    return {
        "requests": sum(client.sent for client in clients),
        "failed_while_the_edge_was_dead": len(of_edge),
        "failed": len(failed),
    }


def commit() -> str:
    words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def main() -> int:
    words = argparse.ArgumentParser()
    words.add_argument("--minutes", type=float, default=10)
    words.add_argument("--seed", type=int, default=int(time.time()))
    words.add_argument("--write", action="store_true", help=f"keep the result in {RESULT.name}")
    given = words.parse_args()
    version, folder = commit(), Path(tempfile.mkdtemp(prefix="refloat-chaos-"))
    folder.chmod(0o755)
    try:
        found = measure(folder, given.minutes, given.seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found = {"commit": version, "seed": given.seed, "minutes": given.minutes, **found}
    print(json.dumps(found, indent=2))
    if given.write:
        RESULT.write_text(json.dumps(found, indent=2) + "\n")
    green = not any(found[name] for name in ("lost", "stuck", "doubled", "failed", "wrong", "errors"))
    print("green" if green else "RED")
    return 0 if green else 1


if __name__ == "__main__":
    sys.exit(main())
