"""`make sim SEEDS=1000` plays seeds; `make sim SEED=17` plays that one and prints all that happened.

Ends with 1 when a guarantee is broken. `--from` is the first seed, `--keep-going` collects all broken ones.
"""

import argparse
import sys
import time

from tests.simulation.seeded.run import Result, run

_REPORT_SECONDS = 5.0


def main() -> int:
    """Play what the command line asks for."""
    options = argparse.ArgumentParser(prog="make sim", description=__doc__)
    options.add_argument("--seeds", type=int, default=1000, help="how many seeds")
    options.add_argument("--from", dest="first", type=int, default=0, help="the first seed")
    options.add_argument("--seed", type=int, help="only this one, with its trace")
    options.add_argument("--keep-going", action="store_true", help="do not stop at the first broken seed")
    given = options.parse_args()
    if given.seed is not None:
        return _one(given.seed)
    return _many(range(given.first, given.first + given.seeds), given.keep_going)


def _one(seed: int) -> int:
    result = run(seed)
    print("\n".join(result.trace))
    print(f"seed {seed}: {result.broken or 'every guarantee holds'}; trace {result.digest[:16]}")
    return int(bool(result.broken))


def _many(seeds: range, keep_going: bool) -> int:
    started = told = time.monotonic()
    broken: list[Result] = []
    virtual = 0.0
    for done, seed in enumerate(seeds, 1):
        result = run(seed)
        virtual += result.virtual_seconds
        if result.broken:
            broken.append(result)
            print(f"seed {seed} breaks: {result.broken}\n  replay it: make sim SEED={seed}", flush=True)
            if not keep_going:
                print("\n".join(result.trace[-40:]))
                break
        if time.monotonic() - told > _REPORT_SECONDS or done == len(seeds):
            told = time.monotonic()
            rate = done / (told - started)
            days = virtual / 86400
            print(f"{done} of {len(seeds)} seeds, {rate:.1f} a second, {days:.1f} virtual days", flush=True)
    print(f"{len(broken)} broken" if broken else "every guarantee holds")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
