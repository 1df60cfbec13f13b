"""`make sim SEEDS=1000` plays seeds on all cores; `make sim SEED=17` plays one and prints what happened.

Ends with 1 when a guarantee is broken, or when fewer seeds were played than asked for. `--from` is the first
seed, `--keep-going` collects all broken ones, `--workers` is how many processes play.
"""

import argparse
import os
import sys
import time
from concurrent.futures.process import BrokenProcessPool

from tests.simulation.seeded.portions import outcomes
from tests.simulation.seeded.run import run

_REPORT_SECONDS = 5.0


def main() -> int:
    """Play what the command line asks for."""
    options = argparse.ArgumentParser(prog="make sim", description=__doc__)
    options.add_argument("--seeds", type=int, default=1000, help="how many seeds")
    options.add_argument("--from", dest="first", type=int, default=0, help="the first seed")
    options.add_argument("--seed", type=int, help="only this one, with its trace")
    options.add_argument("--keep-going", action="store_true", help="do not stop at the first broken seed")
    options.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="how many processes play")
    given = options.parse_args()
    if given.seed is not None:
        return _one(given.seed)
    return _many(range(given.first, given.first + given.seeds), given.keep_going, given.workers)


def _one(seed: int) -> int:
    result = run(seed)
    print("\n".join(result.trace))
    print(f"seed {seed}: {result.broken or 'every guarantee holds'}; trace {result.digest[:16]}")
    return int(bool(result.broken))


def _many(seeds: range, keep_going: bool, workers: int) -> int:
    started = told = time.monotonic()
    played = broken = 0
    virtual = 0.0
    try:
        for outcome in outcomes(seeds, workers):
            played += 1
            virtual += outcome.virtual_seconds
            if outcome.broken:
                broken += 1
                print(f"seed {outcome.seed} breaks: {outcome.broken}", flush=True)
                print(f"  replay it: make sim SEED={outcome.seed}", flush=True)
                if not keep_going:
                    print("\n".join(run(outcome.seed).trace[-40:]))
                    return 1
            if time.monotonic() - told > _REPORT_SECONDS or played == len(seeds):
                told = time.monotonic()
                rate, days = played / (told - started), virtual / 86400
                print(
                    f"{played} of {len(seeds)} seeds, {rate:.1f} a second, {days:.1f} virtual days",
                    flush=True,
                )
    except BrokenProcessPool:
        print("a process that played seeds was killed, by a lack of memory perhaps", flush=True)
    if played < len(seeds):
        print(f"only {played} of {len(seeds)} seeds were played; go on: make sim FROM={seeds.start + played}")
        return 1
    print(f"{broken} broken" if broken else "every guarantee holds")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
