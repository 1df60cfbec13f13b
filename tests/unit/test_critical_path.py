"""The segments of a deployment cover its time exactly, along steps that really had to wait for each other."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from schedules_support import SWAP, Durations, Schedule, ended_at, plan_of, scheduled, shapes, step_of

from refloat.domain.deployment import Deployment, Step
from refloat.execution.critical_path import Kind, Segment, changes, critical_path
from refloat.planning.plan import Plan, StepName

S = StepName

# -- whatever is written down, the time is covered

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


def test_builds_that_take_turns_follow_one_another() -> None:
    plan = plan_of([[(S.BUILD, S.EXECUTE)] * 2])
    steps = [
        step_of("0.0", S.BUILD, 1, 0, 40),
        step_of("0.1", S.BUILD, 2, 40, 70),
        step_of("0.0", S.EXECUTE, 3, 70, 90),
        step_of("0.1", S.EXECUTE, 4, 70, 80),
    ]
    path = critical_path(ended_at(90), steps, plan)
    assert [(s.service_id, s.step) for s in path] == [("0.0", "build"), ("0.1", "build"), ("0.0", "execute")]


def test_in_a_large_stage_the_path_leads_through_the_place_that_became_free() -> None:
    plan = plan_of([[(S.VERIFY,)] * 8])
    steps = [step_of(f"0.{n}", S.VERIFY, n + 1, 0, 40 + n) for n in range(7)]
    steps.append(step_of("0.7", S.VERIFY, 8, 40, 100))
    path = critical_path(ended_at(100), steps, plan)
    assert [(s.service_id, s.kind) for s in path] == [("0.0", Kind.STEP), ("0.7", Kind.STEP)]
