"""Every replica is dead for a while, under load, and then they come back.

Behind the edge: an application that counts its visits in a Redis beside it, another whose process is killed
over and over, a third whose supervision is killed with it, and a job of every minute. What has to hold is
said in `Figures.complaints`; `test_static_stability.py` asks for a short outage, `make static` for an hour.
"""

import asyncio
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.databases import PostgresServer
from tests.e2e.installation import Installation, eventually
from tests.e2e.outage_shop import Shop
from tests.e2e.replicas import Pair

KILL_SECONDS = (12.0, 60.0)
"""Between two deaths of one application, at least and at most: it counts as well after 10 s."""


@dataclass
class Figures:
    """What was counted."""

    outage_seconds: float
    requests: int
    failed: int
    edge_counted: int
    edge_failed: int
    visits_behind: int
    """How many answered visits the Redis does not know of."""
    killed: int
    started_again: int
    requests_to_the_killed: int
    failed_of_the_killed: int
    disturbed: int
    """Processes that nobody killed and that are not the same any more."""
    ticks_meanwhile: int
    ticks_caught_up: int
    repaired_at_return: bool
    redeploy: str
    requests_in_the_redeploy: int
    failed_in_the_redeploy: int

    def complaints(self) -> list[str]:
        """What did not hold; empty when all did."""
        held = {
            "a request of an application that nobody killed failed": self.failed == 0,
            "the edge counted otherwise than the client": self.edge_counted == self.requests,
            "the edge counted a failure": self.edge_failed == 0,
            "the database forgot a visit": self.visits_behind == 0,
            "what died was not started again": self.started_again == self.killed > 0,
            "more failed than was in flight at a death": self.failed_of_the_killed <= self.killed,
            "something that nobody killed was started again": self.disturbed == 0,
            "a job ran while no server was there": self.ticks_meanwhile == 0,
            "more than the newest instant was caught up with": self.ticks_caught_up <= 1,
            "the newest instant was not caught up with": self.outage_seconds < 61
            or self.ticks_caught_up == 1,
            "what had lost its supervision does not run again": self.repaired_at_return,
            "the redeploy did not succeed": self.redeploy == "DEPLOYED",
            "nothing was asked in the redeploy": self.requests_in_the_redeploy > 0,
            "a request failed in the redeploy": self.failed_in_the_redeploy == 0,
        }
        return [words for words, holds in held.items() if not holds]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


async def measure(folder: Path, postgres: PostgresServer, seconds: float) -> Figures:
    """Both servers dead for so many seconds; then both are back, and everything is rolled."""
    pair = Pair(folder, postgres.database(migrated=False), REFLOAT_HOLD_SECONDS="10")
    try:
        pair.start()
        return await _measure(pair, Shop(pair.leader, folder), seconds)
    finally:
        await pair.remove()


async def _measure(pair: Pair, shop: Shop, seconds: float) -> Figures:
    settled = {service: shop.state(service)["pid"] for service in (shop.calm,)}
    pair.leader.kill()
    pair.other.kill()
    down = time.time()
    router = shop.router()
    await router.start()
    mark = await router.mark(shop.calm)
    calm, mortal = shop.visitor(shop.calm), shop.visitor(shop.mortal)
    calm.start()
    mortal.start()
    shop.kill(shop.orphan, shim=True)
    killed = await asyncio.to_thread(_pass, shop, seconds)
    restarts = shop.state(shop.mortal)["restarts"]
    disturbed = sum(shop.state(service)["pid"] != pid for service, pid in settled.items())
    disturbed += shop.state(shop.cache)["restarts"] != 1
    failed = len(mortal.failures)
    up = time.time()
    pair.leader.start()
    pair.other.start()
    eventually(lambda: pair.leader.get(shop.orphan).status_code == 200)
    if up - down > 61:
        eventually(lambda: _caught_up(pair.leader, shop.job, down, up))
    asked = calm.sent + mortal.sent, len(calm.failures) + len(mortal.failures)
    for greeting in shop.greetings:
        pair.other.edit_variable(greeting, "GREETING", "evening")
    ended = pair.leader.roll(shop.environment)["state"]
    eventually(lambda: calm.last.startswith("evening") and mortal.last == "evening")
    for visitor in (calm, mortal):
        visitor.over.set()
        visitor.join()
    counts = await router.counts(shop.calm, mark)
    assert counts is not None
    return Figures(
        outage_seconds=round(up - down, 1),
        requests=calm.sent,
        failed=len(calm.failures),
        edge_counted=counts.served,
        edge_failed=counts.failed,
        visits_behind=max(0, calm.sent - len(calm.failures) - int(calm.last.split()[1])),
        killed=killed,
        started_again=restarts,
        requests_to_the_killed=mortal.sent,
        failed_of_the_killed=failed,
        disturbed=disturbed,
        ticks_meanwhile=shop.ticks(down + 5, up),
        ticks_caught_up=_caught_up(pair.leader, shop.job, down, up),
        repaired_at_return=_noticed(pair),
        redeploy=ended,
        requests_in_the_redeploy=calm.sent + mortal.sent - asked[0],
        failed_in_the_redeploy=len(calm.failures) + len(mortal.failures) - asked[1],
    )


def _pass(shop: Shop, seconds: float) -> int:
    """Let the time pass; how often an application was killed meanwhile. The Redis is killed once."""
    begin, deaths, cached = time.monotonic(), 0, False
    every = min(max(KILL_SECONDS[0], seconds / 60), KILL_SECONDS[1])
    while (passed := time.monotonic() - begin) < seconds:
        if passed >= 2 + deaths * every:
            shop.kill(shop.mortal)
            deaths += 1
            eventually(lambda wanted=deaths: shop.state(shop.mortal)["restarts"] == wanted)
            eventually(lambda: shop.state(shop.mortal)["status"] == "running")
        if not cached and passed >= seconds / 2:
            shop.kill(shop.cache)
            cached = True
        time.sleep(0.1)
    return deaths


def _caught_up(installation: Installation, job: str, down: float, up: float) -> int:
    """Runs that were begun after the return for an instant of the outage."""
    since, until = datetime.fromtimestamp(down, UTC), datetime.fromtimestamp(up, UTC)
    runs = installation.call("GET", f"/refloat/service/{job}/runs")["results"]
    found = [it for it in runs if since < datetime.fromisoformat(it["scheduled_at"]) <= until]
    return len([it for it in found if it["outcome"] != "missed"])


def _noticed(pair: Pair) -> bool:
    """Whether a server says that it started the orphan again."""
    words = "starting what should run and does not"
    return any(words in server.log.read_text() for server in (pair.leader, pair.other))
