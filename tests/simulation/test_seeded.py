"""The deterministic simulation: what it guarantees of itself, and a sample of its seeds."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.seeded.loop import Nondeterministic, Stuck, VirtualClock, VirtualLoop
from tests.simulation.seeded.run import run

SAMPLE, CHUNK = 120, 30
_DIGEST = "from tests.simulation.seeded.run import run; print(run({seed}).digest)"


def test_the_same_seed_gives_the_same_trace_in_this_process_and_in_another() -> None:
    for seed in (7, 36):
        first = run(seed)
        assert first.trace and run(seed) == first
        found = subprocess.run(
            [sys.executable, "-c", _DIGEST.format(seed=seed)],
            env={**os.environ, "PYTHONHASHSEED": "12345"},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout.split() == [first.digest]


def test_different_seeds_are_different_stories() -> None:
    assert len({run(seed).digest for seed in range(5)}) == 5


def test_virtual_time_jumps_to_the_next_timer_and_the_wall_clock_can_be_set() -> None:
    loop = VirtualLoop()
    clock = VirtualClock(loop)
    before = clock.now()
    loop.run_until_complete(clock.sleep(3600))
    assert clock.monotonic() == pytest.approx(3600)
    clock.jump(-7200)
    assert (clock.now() - before).total_seconds() == pytest.approx(-3600)
    loop.close()


def test_threads_and_sockets_are_errors_and_a_wait_for_nothing_is_found() -> None:
    loop = VirtualLoop()
    with pytest.raises(Nondeterministic):
        loop.run_until_complete(asyncio.to_thread(print))
    with pytest.raises(Nondeterministic):
        loop.run_until_complete(asyncio.open_connection("127.0.0.1", 1))
    with pytest.raises(Stuck):
        loop.run_until_complete(asyncio.Event().wait())
    loop.close()


@pytest.mark.property
@pytest.mark.parametrize("first", range(0, SAMPLE, CHUNK))
def test_every_guarantee_holds_in_a_sample_of_seeds(first: int) -> None:
    """`make sim` plays more of them, and replays one with its trace."""
    for seed in range(first, first + CHUNK):
        result = run(seed)
        assert not result.broken, f"make sim SEED={seed}: {result.broken}"
