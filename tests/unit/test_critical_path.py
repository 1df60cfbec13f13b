"""The segments of a deployment cover its time exactly, along steps that really had to wait for each other."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refloat.domain.deployment import Deployment, Outcome, Request, Step, Verb
from refloat.domain.progress import Action, Phase
from refloat.execution.critical_path import Kind, Segment, changes, critical_path
from refloat.planning.plan import Change, Plan, ServicePlan, StagePlan, StepName

S = StepName
ORIGIN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
SWAP = (S.BUILD, S.EXECUTE, S.PREPARE, S.READY, S.SWITCH, S.VERIFY)
SHAPES = (
    (*SWAP, S.DRAIN, S.STOP),
    SWAP,
    (S.BUILD, S.EXECUTE),
    (S.VERIFY,),
    (S.STOP, S.PREPARE, S.READY, S.VERIFY),
    (S.WITHDRAW, S.DRAIN, S.STOP),
)
Durations = Mapping[tuple[str, str], int]


def at(microseconds: int) -> datetime.datetime:
    return ORIGIN + datetime.timedelta(microseconds=microseconds)


def plan_of(stages: Sequence[Sequence[Sequence[StepName]]]) -> Plan:
    return Plan(
        environment_id="e",
        verb=Verb.REDEPLOY,
        stages=tuple(
            StagePlan(
                stage_id=f"stage{n}",
                name=f"stage {n}",
                position=n,
                services=tuple(
                    ServicePlan(
                        service_id=f"{n}.{m}",
                        name=f"service {n}.{m}",
                        kind="application",
                        action=Action.DEPLOY,
                        change=Change.REPLACE,
                        steps=tuple(steps),
                    )
                    for m, steps in enumerate(services)
                ),
            )
            for n, services in enumerate(stages)
        ),
    )


def ended_at(microseconds: int, began: int = 0) -> Deployment:
    return Deployment(
        id="d",
        environment_id="e",
        request=Request(verb=Verb.REDEPLOY, principal_id="p", triggered_by="p"),
        phase=Phase.DONE,
        created_at=at(0),
        number=1,
        owner="o",
        started_at=at(began),
        finished_at=at(microseconds),
    )


def step_of(service: str, name: str, ordinal: int, start: int, end: int | None) -> Step:
    return Step(
        deployment_id="d",
        service_id=service,
        name=name,
        ordinal=ordinal,
        attempt=1,
        fence=1,
        started_at=at(start),
        finished_at=None if end is None else at(end),
        outcome=None if end is None else Outcome.DONE,
    )


# -- whatever is written down, the time is covered

shapes = st.lists(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3), min_size=1, max_size=3)
moments = st.integers(-50, 200)


@st.composite
def journals(draw: st.DrawFn) -> tuple[Deployment, list[Step], Plan]:
    """Any lines, in any order of times: clocks jump, ends are missing, steps were begun again."""
    plan = plan_of(draw(shapes))
    planned = [("", S.PRECHECK), *((s.service_id, name) for s in plan.services for name in s.steps)]
    undone = [(s.service_id, S.REVERT) for s in plan.services]
    chosen = draw(st.lists(st.sampled_from([*planned, *undone]), unique=True))
    steps = [
        msgspec.structs.replace(
            step_of(service, name, ordinal, draw(moments), draw(st.none() | moments)),
            attempt=draw(st.integers(1, 2)),
        )
        for ordinal, (service, name) in enumerate(chosen, 1)
    ]
    return ended_at(draw(moments), began=draw(moments)), steps, plan


@pytest.mark.property
@given(journals())
def test_segments_cover_the_time_from_the_request_to_the_end_without_gap_or_overlap(
    case: tuple[Deployment, list[Step], Plan],
) -> None:
    deployment, steps, plan = case
    assert deployment.finished_at is not None
    end = max(deployment.created_at, deployment.finished_at)
    path = critical_path(deployment, steps, plan)
    edges = [deployment.created_at, *(segment.ended_at for segment in path)]
    assert [segment.started_at for segment in path] == edges[:-1] and edges[-1] == end
    assert all(segment.ended_at >= segment.started_at for segment in path)
    own = [(s.service_id, s.step) for s in path if s.kind is Kind.STEP]
    assert len(own) == len(set(own)), "a step is on the path once"


# -- on a schedule without losses the path is steps alone


@dataclass
class Schedule:
    """When everything happens if nothing is ever late: the runner's rules, written down a second time."""

    steps: list[Step]
    end: int


def scheduled(plan: Plan, took: Durations) -> Schedule:
    steps: list[Step] = []

    def run(service: str, names: Sequence[StepName], start: int) -> int:
        for name in names:
            end = start + took[service, name]
            steps.append(step_of(service, name, len(steps) + 1, start, end))
            start = end
        return start

    now, ends = run("", (S.PRECHECK,), 0), [0]
    for stage in plan.stages:
        building = [s for s in stage.services if S.BUILD in s.steps]
        now = max([run(s.service_id, (S.BUILD,), now) for s in building], default=now)
        done = []
        for service in stage.services:
            cut = service.steps.index(S.VERIFY) + 1 if S.VERIFY in service.steps else len(service.steps)
            main = [name for name in service.steps[:cut] if name is not S.BUILD]
            done.append(run(service.service_id, main, now))
            ends.append(run(service.service_id, service.steps[cut:], done[-1]))
        now = max(done)
    return Schedule(steps, max(now, *ends))


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Plan, dict[tuple[str, str], int]]:
    plan = plan_of(draw(shapes))
    names = [("", S.PRECHECK), *((s.service_id, name) for s in plan.services for name in s.steps)]
    return plan, {key: draw(st.integers(1, 1000)) for key in names}


def path_of(plan: Plan, took: Durations) -> tuple[tuple[Segment, ...], Schedule]:
    schedule = scheduled(plan, took)
    return critical_path(ended_at(schedule.end), schedule.steps, plan), schedule


@pytest.mark.property
@given(worlds())
def test_where_nothing_is_late_the_path_is_steps_that_follow_one_another(
    world: tuple[Plan, dict[tuple[str, str], int]],
) -> None:
    plan, took = world
    path, schedule = path_of(plan, took)
    assert {segment.kind for segment in path} == {Kind.STEP}
    assert sum(took[segment.service_id, segment.step] for segment in path) == schedule.end


@pytest.mark.property
@given(worlds(), st.data(), st.integers(1, 10_000))
def test_a_step_that_became_slower_is_named_with_how_much(
    world: tuple[Plan, dict[tuple[str, str], int]], data: st.DataObject, more: int
) -> None:
    plan, took = world
    before, schedule = path_of(plan, took)
    slow = data.draw(st.sampled_from(before))
    after, _ = path_of(plan, {**took, (slow.service_id, slow.step): took[slow.service_id, slow.step] + more})
    first = changes(after, before, schedule.steps)[0]
    assert (first.service_id, first.step) == (slow.service_id, slow.step)
    assert first.more == pytest.approx(more / 1e6)


# -- what lies between steps


def test_waits_are_named_by_what_they_were() -> None:
    plan = plan_of([[SWAP[:1] + SWAP[2:]]])
    steps = [
        step_of("0.0", S.BUILD, 1, 30, 50),
        msgspec.structs.replace(step_of("0.0", S.PREPARE, 2, 90, 95), attempt=2),
    ]
    path = critical_path(ended_at(100, began=25), steps, plan)
    assert [(s.kind, s.step, round(s.seconds * 1e6)) for s in path] == [
        (Kind.QUEUED, "", 25),
        (Kind.BETWEEN, "build", 5),
        (Kind.STEP, "build", 20),
        (Kind.TAKEOVER, "prepare", 40),
        (Kind.STEP, "prepare", 5),
        (Kind.CONCLUDING, "", 5),
    ]


def test_what_never_began_was_queued_all_the_time() -> None:
    deployment = msgspec.structs.replace(ended_at(70), started_at=None, number=None)
    assert [(s.kind, s.seconds) for s in critical_path(deployment, (), None)] == [(Kind.QUEUED, 70e-6)]


def test_in_a_large_stage_the_path_leads_through_the_place_that_became_free() -> None:
    plan = plan_of([[(S.VERIFY,)] * 8])
    steps = [step_of(f"0.{n}", S.VERIFY, n + 1, 0, 40 + n) for n in range(7)]
    steps.append(step_of("0.7", S.VERIFY, 8, 40, 100))
    path = critical_path(ended_at(100), steps, plan)
    assert [(s.service_id, s.kind) for s in path] == [("0.0", Kind.STEP), ("0.7", Kind.STEP)]
