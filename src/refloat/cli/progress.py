"""A deployment as it goes on: stage, service, step, and how long each has taken.

Durations of what ended are the server's; what goes on is timed from when it was first heard of, so that the
two clocks need not agree.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import click

from refloat.cli import render
from refloat.cli.client import Json

_INDENT = "  "
_UNDONE = ("revert", "discard")


@dataclass
class Span:
    """When something began, by the server's clock and by ours, and when it ended."""

    began: datetime
    heard: float
    ended: datetime | None = None

    def seconds(self, now: float) -> float:
        return (self.ended - self.began).total_seconds() if self.ended else now - self.heard


@dataclass
class StepLine:
    """One step in its newest attempt; `outcome` None: it goes on."""

    name: str
    span: Span
    outcome: str | None = None


@dataclass
class ServiceLine:
    name: str
    state: str
    span: Span | None = None
    steps: dict[str, StepLine] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        return render.is_end(self.state)


class Progress:
    """Fed with changes of state and with the journal; `stages` is their order, as far as it is known."""

    def __init__(self, stages: Iterable[str] = ()) -> None:
        self._stages: dict[str, dict[str, ServiceLine]] = {name: {} for name in stages}
        self._services: dict[str, ServiceLine] = {}
        self._steps_of_all: dict[str, StepLine] = {}

    def change(self, line: Json, at: datetime, now: float) -> None:
        """A change of a service's state, as the stream of events tells it."""
        who, stage = line["details"]["transmitter"], line["details"]["stage"]
        if not stage["name"]:
            return
        service = self._services.get(who["id"])
        if service is None:
            service = self._services[who["id"]] = ServiceLine(who["name"], stage["step"])
            self._stages.setdefault(stage["name"], {})[who["id"]] = service
        service.state = stage["step"]
        if service.span is None and render.is_work(service.state):
            service.span = Span(at, now)
        if service.over and service.span:
            service.span.ended = at

    def journal(self, steps: Iterable[Json], now: float) -> None:
        """What was done, step by step, as the journal tells it."""
        for step in steps:
            service = self._services.get(step["service_id"] or "")
            lines = service.steps if service else self._steps_of_all
            if service is None and step["service_id"]:
                continue
            began, ended = datetime.fromisoformat(step["started_at"]), step["finished_at"]
            known = lines.get(step["step"])
            heard = known.span.heard if known and known.span.began == began else now
            span = Span(began, heard, datetime.fromisoformat(ended) if ended else None)
            lines[step["step"]] = StepLine(step["step"], span, step["outcome"])

    def lines(self, now: float, most: int = 10_000) -> list[str]:
        """The tree. Where it would be longer than `most`, stages that are over become one line each."""
        full = self._rendered(now, short=False)
        return full if len(full) <= most else self._rendered(now, short=True)

    def _rendered(self, now: float, *, short: bool) -> list[str]:
        told = [_step(it, now) for it in self._steps_of_all.values() if it.outcome is None]
        for stage, services in self._stages.items():
            lines = list(services.values())
            if short and lines and all(service.over for service in lines):
                told.append(f"{stage}  {_summary(lines)}")
            elif lines:
                told += [stage, *(line for service in lines for line in self._of(service, now))]
        return told

    def _of(self, service: ServiceLine, now: float) -> list[str]:
        width = max(len(it.name) for it in self._services.values())
        took = f"  {render.seconds(service.span.seconds(now))}" if service.span else ""
        head = f"{_INDENT}{service.name:<{width}}  {render.state(service.state)}{took}"
        if service.over and "ERROR" not in service.state:
            return [head]
        return [head, *(_INDENT * 2 + _step(step, now) for step in service.steps.values())]


def _step(step: StepLine, now: float) -> str:
    took = render.seconds(step.span.seconds(now))
    if step.outcome is None:
        return click.style(f"{step.name:<8} {took:>7} …", bold=True)
    if step.outcome == "done":
        colour = "yellow" if step.name in _UNDONE else "bright_black"
        return click.style(f"{step.name:<8} {took:>7}", fg=colour)
    return click.style(f"{step.name:<8} {took:>7} {step.outcome}", fg="red")


def _summary(services: Sequence[ServiceLine]) -> str:
    states = sorted({service.state for service in services})
    return ", ".join(f"{sum(s.state == word for s in services)} {render.state(word)}" for word in states)
