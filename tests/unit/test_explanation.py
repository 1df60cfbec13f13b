"""An explanation's end is one that no deployment exceeds, and every step has words."""

import datetime
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from schedules_support import ORIGIN, at, ended_at, plan_of, scheduled, shapes

from refloat.domain.deployment import Deployment, Step
from refloat.domain.progress import Phase
from refloat.domain.services import ExecCheck, GrpcCheck, HttpCheck, Probe, TcpCheck
from refloat.execution.explanation import Doing, Situation, explain
from refloat.execution.limits import ServiceLimits
from refloat.execution.wording import awaited
from refloat.planning.plan import Plan, StepName

SECOND = 1_000_000


def _seen(steps: Sequence[Step], now: int) -> list[Step]:
    """The journal as it was at that time."""
    begun = [step for step in steps if step.started_at <= at(now)]
    return [
        msgspec.structs.replace(step, finished_at=None, outcome=None)
        if step.finished_at and step.finished_at > at(now)
        else step
        for step in begun
    ]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Plan, Deployment, list[Step], int]:
    """A deployment whose steps take up to their deadlines, and a time in it."""
    plan, limits = plan_of(draw(shapes)), ServiceLimits()
    names = [("", StepName.PRECHECK), *((s.service_id, name) for s in plan.services for name in s.steps)]
    took = {key: draw(st.integers(1, int(limits.deadline(key[1]) * SECOND))) for key in names}
    schedule = scheduled(plan, took)
    running = msgspec.structs.replace(ended_at(schedule.end), phase=Phase.RUNNING, finished_at=None)
    return plan, running, schedule.steps, draw(st.integers(0, schedule.end))


@pytest.mark.property
@given(worlds())
def test_no_deployment_lasts_longer_than_its_explanation_says_at_any_time(
    world: tuple[Plan, Deployment, list[Step], int],
) -> None:
    plan, deployment, steps, now = world
    it = explain(deployment, (), _seen(steps, now), plan, {}, now=at(now))
    end = max(step.finished_at or ORIGIN for step in steps)
    assert it.situation is Situation.RUNNING and it.ends_by is not None
    assert it.ends_by >= end
    least = sum(ServiceLimits().undo_seconds for _ in plan.services)
    assert it.ends_by >= at(now) + datetime.timedelta(seconds=least)  # nothing is known to be done yet


def _doing(step: StepName, limits: ServiceLimits, *, routed: bool = True) -> Doing:
    return Doing(
        service_id="s",
        name="api",
        stage="backend",
        step=step,
        since=at(0),
        deadline=at(1),
        begun=1,
        limits=limits,
        routed=routed,
    )


@pytest.mark.parametrize("step", list(StepName))
def test_every_step_has_words_for_what_it_waits_for(step: StepName) -> None:
    assert awaited(_doing(step, ServiceLimits())).startswith(("for ", "until "))


@pytest.mark.parametrize(
    ("probe", "words"),
    [
        (Probe(http=HttpCheck(path="/up", port=81)), "an answer to http GET /up at port 81"),
        (Probe(tcp=TcpCheck()), "a connection at its port"),
        (Probe(grpc=GrpcCheck(port=9)), "a connection at port 9"),
        (Probe(exec=ExecCheck(command=("test", "-f"))), "its command 'test' has to end well"),
    ],
)
def test_every_kind_of_probe_has_words(probe: Probe, words: str) -> None:
    assert awaited(_doing(StepName.READY, ServiceLimits(readiness=probe))).endswith(words)


def test_without_a_probe_a_service_has_to_listen_or_to_live() -> None:
    assert "accepts connections" in awaited(_doing(StepName.READY, ServiceLimits()))
    assert "has lived" in awaited(_doing(StepName.READY, ServiceLimits(), routed=False))
