"""What `--help` of every command costs, beside `python -c pass` of the same run; and how soon the emulator is
ready, from its start to its first answer.

python benchmarks/command_line.py [--rounds N]
"""

import argparse
import contextlib
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence

import click
from measuring import cpu_seconds, load
from tests.databases import free_port

from refloat.cli.main import main as refloat

TARGET = 8.0
"""Times `python -c pass`, at most."""
EMULATOR_SECONDS = 2.0


def commands(group: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The command and everything below it."""
    yield path
    context = click.Context(group)
    for name in group.list_commands(context) if isinstance(group, click.Group) else ():
        found = group.get_command(context, name)  # type: ignore[union-attr]
        assert found is not None
        yield from commands(found, (*path, name))


def milliseconds(argv: Sequence[str], rounds: int) -> float:
    """The median of as many runs."""
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1000


def until_ready(start: Sequence[str]) -> tuple[float, float]:
    """Seconds from the start of an emulator to its first answer, and of its CPU."""
    port, quiet = str(free_port()), subprocess.DEVNULL
    began = time.perf_counter()
    with subprocess.Popen([*start, "emulator", "--port", port], stdout=quiet, stderr=quiet) as process:
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz"):
                break
            time.sleep(0.005)
        found = time.perf_counter() - began, cpu_seconds(process.pid)
        process.terminate()
    return found


def main() -> int:
    words = argparse.ArgumentParser()
    words.add_argument("--rounds", type=int, default=9)
    rounds = words.parse_args().rounds
    floor = milliseconds([sys.executable, "-c", "pass"], rounds)
    start = [sys.executable, "-c", "from refloat.cli.main import main; main(prog_name='refloat')"]
    figures = {path: milliseconds([*start, *path, "--help"], rounds) for path in commands(refloat)}
    slowest = max(figures, key=lambda path: figures[path])
    print(f"| `python -c pass` | {floor:.0f} ms | |")
    for path in dict.fromkeys(((), slowest)):
        name = " ".join(("refloat", *path, "--help"))
        print(
            f"| `{name}` | {figures[path]:.0f} ms, {figures[path] / floor:.1f} times | {TARGET:.0f} times |"
        )
    print(
        f"| median of {len(figures)} commands | {statistics.median(figures.values()) / floor:.1f} times | |"
    )
    ready, cpu = (
        statistics.median(it) for it in zip(*(until_ready(start) for _ in range(rounds)), strict=True)
    )
    shown = f"{ready:.2f} s, {cpu:.2f} s of CPU"
    print(f"| `refloat emulator`, until it is ready | {shown} | {EMULATOR_SECONDS:.0f} s |")
    print(load())
    return 0 if figures[slowest] / floor <= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
