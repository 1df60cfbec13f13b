"""Many seeds, played by several processes and told in order."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from tests.simulation.seeded.run import run

_PORTION = 20
"""Seeds that a process is given at once."""


class Outcome(NamedTuple):
    """What is told of one seed by the process that played it."""

    seed: int
    broken: str
    virtual_seconds: float


def outcomes(seeds: range, workers: int, portion: int = _PORTION) -> Iterator[Outcome]:
    """In the order of the seeds, however many processes play them."""
    portions = [seeds[at : at + portion] for at in range(0, len(seeds), portion)]
    fresh = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=fresh)
    try:
        for told in pool.map(_portion, portions):
            yield from told
    finally:
        pool.shutdown(cancel_futures=True)


def _portion(seeds: range) -> list[Outcome]:
    return [Outcome(seed, result.broken, result.virtual_seconds) for seed in seeds for result in (run(seed),)]
