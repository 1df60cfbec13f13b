"""The deterministic simulation: what it guarantees of itself, and a sample of its seeds."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.simulation.seeded import __main__ as command
from tests.simulation.seeded.loop import Nondeterministic, Stuck, VirtualClock, VirtualLoop
from tests.simulation.seeded.portions import Outcome, outcomes
from tests.simulation.seeded.remembered import Memory
from tests.simulation.seeded.run import run

_TEST = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)
SAMPLE = 30
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


def test_what_is_remembered_is_what_the_database_would_say(monkeypatch: pytest.MonkeyPatch) -> None:
    remembering = [run(seed) for seed in range(4)]
    monkeypatch.setattr(Memory, "of", lambda self, tables: {})
    assert [run(seed) for seed in range(4)] == remembering


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


def test_seeds_are_told_in_their_order_however_many_processes_play_them() -> None:
    alone = [(seed, result.broken, result.virtual_seconds) for seed in range(3) for result in (run(seed),)]
    assert list(outcomes(range(3), workers=2, portion=1)) == alone


def _told(*found: Outcome) -> Callable[[range, int], Iterator[Outcome]]:
    return lambda seeds, workers: iter(found)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([Outcome(7, "", 1.0)], "only 1 of 2 seeds were played; go on: make sim FROM=8"),
        ([Outcome(7, "G7", 1.0), Outcome(8, "", 1.0)], "1 broken"),
    ],
)
def test_a_run_of_seeds_that_ends_early_or_finds_something_fails(
    found: list[Outcome], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "outcomes", _told(*found))
    monkeypatch.setattr(sys, "argv", ["make sim", "--from", "7", "--seeds", "2", "--keep-going"])
    assert command.main() == 1
    assert words in capsys.readouterr().out


@pytest.mark.property
def test_every_guarantee_holds_in_a_sample_of_seeds() -> None:
    """`make sim`, which `make check` ends with, plays more of them, and replays one with its trace."""
    for seed in range(SAMPLE):
        result = run(seed)
        assert not result.broken, f"make sim SEED={seed}: {result.broken}"


def test_the_page_of_guarantees_names_tests_that_exist() -> None:
    root = Path(__file__).parents[2]
    named = set(re.findall(r"`(test_\w+)`", (root / "docs/concepts/guarantees.md").read_text()))
    found = {name for path in root.glob("tests/**/*.py") for name in _TEST.findall(path.read_text())}
    assert named and named <= found, named - found
