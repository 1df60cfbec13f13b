"""The guide on observing names every figure, situation and kind of segment that there is, and no other."""

import re
from pathlib import Path

from refloat.execution.critical_path import Kind
from refloat.execution.explanation import Situation
from refloat.execution.telemetry import QueueFigures
from refloat.metrics import Metrics

GUIDE = (Path(__file__).parents[2] / "docs/guides/observing.md").read_text()


def test_the_guide_has_exactly_the_figures_that_are_given_out() -> None:
    text = Metrics().text(QueueFigures(waiting=0, running=0, oldest_seconds=0)).decode()
    given = {name for name in re.findall(r"^# HELP (\S+)", text, re.M) if not name.endswith("_created")}
    assert set(re.findall(r"`(refloat_[a-z_]+)`", GUIDE)) == given


def test_the_guide_has_every_situation_and_every_kind_of_segment() -> None:
    row = next(line for line in GUIDE.splitlines() if line.startswith("| `situation`"))
    assert set(re.findall(r"`([a-z_]+)`", row)) - {"situation"} == set(Situation)
    told = re.findall(
        r"^\| `([a-z]+)` \| [^|]+\|$", GUIDE.partition("`kind`")[2].partition("`changes`")[0], re.M
    )
    assert set(told) == set(Kind)
