"""How soon a cancel stops what it is asked to stop.

A real server and real processes: a release command that would run for ten minutes, and an application that
never gets ready. From the call of `cancelDeployment` to the end of the step that was under way, as the
journal has it (its processes are gone by then), and until a client that looks every 10 ms sees CANCELED.

    python benchmarks/cancel.py [--rounds N] [--stores SQLite PostgreSQL]
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path

from measuring import STORES, fdatasync_ms, load, place, table
from tests.e2e.installation import Installation, Repository, eventually

SLEEP = "import time; time.sleep(600)\n"
UNDER_WAY = {
    "execute": {"sleep.py": SLEEP, "Procfile": "web: python sleep.py\nrelease: python sleep.py\n"},
    "ready": {"sleep.py": SLEEP, "Procfile": "web: python sleep.py\n"},
}
LOOK_SECONDS = 0.01
TARGET_MS = 100


def round_of(it: Installation, environment: str, step: str) -> tuple[float, float]:
    """Milliseconds until the step was interrupted, and until CANCELED was seen."""

    def under_way() -> bool:
        return any(s["step"] == step and s["outcome"] is None for s in it.journal(environment))

    it.call("POST", f"/environment/{environment}/redeploy", expect=202)
    eventually(under_way)
    called, began = time.time(), time.perf_counter()
    it.call("POST", f"/environment/{environment}/cancelDeployment", expect=202)
    while it.status(environment)["state"] != "CANCELED":
        time.sleep(LOOK_SECONDS)
    seen = time.perf_counter() - began
    (ended,) = (s["finished_at"] for s in it.journal(environment) if s["step"] == step)
    return (datetime.fromisoformat(ended).timestamp() - called) * 1000, seen * 1000


async def measured(folder: Path, url: str, rounds: int) -> dict[str, list[tuple[float, float]]]:
    it, found = Installation(folder, **({"REFLOAT_DATABASE_URL": url} if url else {})), {}
    try:
        it.start()
        for step, files in UNDER_WAY.items():
            environment = it.environment(step)
            it.application(environment, "api", Repository(folder / step, files).url)
            found[step] = [round_of(it, environment, step) for _ in range(rounds)]
    finally:
        await it.remove()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--stores", nargs="+", choices=STORES, default=STORES)
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="refloat-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        floor = fdatasync_ms(folder)
        for store in given.stores:
            with place(store, folder / store) as at:
                (own := folder / store / "server").mkdir()
                url = at.server.database(migrated=False) if at.server else ""
                for step, found in asyncio.run(measured(own, url, given.rounds)).items():
                    interrupted, seen = zip(*found, strict=True)
                    shown = [
                        f"{statistics.median(it):.0f} and {max(it):.0f} ms" for it in (interrupted, seen)
                    ]
                    rows.append([f"{step}, {store}", *shown, f"{TARGET_MS} ms"])
    print(f"disk floor (fdatasync) {floor:.1f} ms; {load()}")
    print(table(["median and worst", "step interrupted", "CANCELED seen", "target (median)"], rows))


if __name__ == "__main__":
    main()
