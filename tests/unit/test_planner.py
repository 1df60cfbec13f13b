"""Plans: deterministic, complete, and different exactly when the intention is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refloat.domain.deployment import Verb
from refloat.domain.errors import IllegalTransition
from refloat.domain.progress import ARROWS, TERMINAL, Action, Phase, advance, legal
from refloat.planning.plan import Change, Plan, StepName
from refloat.planning.planner import plan
from refloat.planning.wanted import COMMIT, Current, Wanted, Way

pytestmark = pytest.mark.property

_values = st.sampled_from(["", "1", "2"])
_fields = st.fixed_dictionaries({COMMIT: _values, "cpu": _values, "variable.A": _values})


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Wanted], dict[str, Current]]:
    """Services in stages, as wanted; some of them as they are now."""
    wanted, current = [], {}
    for number in range(draw(st.integers(1, 6))):
        key = f"s{number}"
        fields = draw(_fields)
        wanted.append(
            Wanted(
                service_id=key,
                name=draw(st.sampled_from(["a", "b", "c"])) + key,
                kind="application",
                stage_id=f"stage{(position := draw(st.integers(0, 3)))}",
                stage_name=f"stage {position}",
                stage_position=position,
                is_skipped=draw(st.booleans()),
                routed=draw(st.booleans()),
                way=draw(st.sampled_from([Way.SWAP, Way.IN_PLACE])),
                commit_id=fields[COMMIT] or None,
                fields=fields,
            )
        )
        if draw(st.booleans()):
            current[key] = Current(
                service_id=key,
                revision_key=f"{key}.1",
                fields=draw(st.one_of(st.just(fields), _fields)),
                should_run=draw(st.booleans()),
                runs=draw(st.booleans()),
            )
    return wanted, current


def _plan(world: tuple[list[Wanted], dict[str, Current]], verb: Verb) -> Plan:
    return plan("e", verb, world[0], world[1])


@given(worlds(), st.sampled_from(list(Verb)))
def test_a_plan_depends_on_nothing_but_its_inputs(
    world: tuple[list[Wanted], dict[str, Current]], verb: Verb
) -> None:
    wanted, current = world
    again = plan("e", verb, list(reversed(wanted)), dict(reversed(current.items())))
    assert _plan(world, verb).hash == again.hash


@given(worlds(), st.sampled_from(list(Verb)))
def test_every_service_is_planned_once_or_omitted_with_a_reason(
    world: tuple[list[Wanted], dict[str, Current]], verb: Verb
) -> None:
    made = _plan(world, verb)
    planned = [s.service_id for s in made.services]
    omitted = [o.service_id for o in made.omitted]
    assert sorted(planned + omitted) == sorted(w.service_id for w in world[0])
    assert all(o.reason for o in made.omitted)


@given(worlds())
def test_what_runs_and_does_not_differ_is_skipped_and_nothing_else_is(
    world: tuple[list[Wanted], dict[str, Current]],
) -> None:
    wanted, current = world
    by_id = {w.service_id: w for w in wanted}
    expected = dict.fromkeys(by_id, 7.0)
    for service in plan("e", Verb.REDEPLOY, wanted, current, expected=expected).services:
        now = current.get(service.service_id)
        same = (
            now is not None and now.should_run and now.runs and now.fields == by_id[service.service_id].fields
        )
        assert (service.change is Change.SKIP) == same
        assert (service.steps == (StepName.VERIFY,)) == same
        assert (service.expected_seconds is None) == same
        assert same or service.causes


@given(worlds())
def test_stages_go_forward_to_deploy_and_backward_to_stop_and_delete(
    world: tuple[list[Wanted], dict[str, Current]],
) -> None:
    for verb in Verb:
        positions = [stage.position for stage in _plan(world, verb).stages]
        backwards = verb.action in (Action.STOP, Action.DELETE)
        assert positions == sorted(set(positions), reverse=backwards)


@given(worlds())
def test_only_a_service_with_storage_is_interrupted_by_a_deployment(
    world: tuple[list[Wanted], dict[str, Current]],
) -> None:
    stateful = {w.service_id for w in world[0] if w.way is Way.IN_PLACE}
    for service in _plan(world, Verb.REDEPLOY).services:
        if service.interruption:
            assert service.service_id in stateful
        elif service.replaces and StepName.STOP in service.steps:
            before = service.steps.index(StepName.VERIFY) < service.steps.index(StepName.STOP)
            assert before != (service.service_id in stateful)  # in place: it stops first, as nothing runs


@given(worlds(), st.data())
def test_a_plan_is_stale_as_soon_as_one_value_differs(
    world: tuple[list[Wanted], dict[str, Current]], data: st.DataObject
) -> None:
    import msgspec

    wanted, current = world
    made = _plan(world, Verb.REDEPLOY)
    if not made.services:
        return
    chosen = data.draw(st.sampled_from([s.service_id for s in made.services]))
    changed = [
        msgspec.structs.replace(w, fields={**w.fields, "cpu": w.fields["cpu"] + "x"})
        if w.service_id == chosen
        else w
        for w in wanted
    ]
    assert plan("e", Verb.REDEPLOY, changed, current).hash != made.hash
    assert _plan(world, Verb.DEPLOY).hash == made.hash


@given(st.sampled_from(list(Action)), st.sampled_from(list(Phase)), st.sampled_from(list(Phase)))
def test_only_arrows_of_the_table_can_be_walked(action: Action, one: Phase, other: Phase) -> None:
    if one is other:
        assert advance(action, one, other) is one
    elif other in ARROWS[one] and legal(action, other):
        assert advance(action, one, other) is other
    else:
        with pytest.raises(IllegalTransition, match=f"{one} to {other}"):
            advance(action, one, other)


def test_the_end_is_the_end_and_can_be_reached_from_everywhere() -> None:
    assert {phase for phase, following in ARROWS.items() if not following} == TERMINAL
    for start in Phase:
        reached, queue = {start}, [start]
        while queue:
            fresh = ARROWS[queue.pop()] - reached
            reached |= fresh
            queue.extend(fresh)
        assert reached & TERMINAL


@given(worlds(), st.sampled_from(list(Verb)))
def test_what_runs_on_and_is_not_recorded_is_ended_by_a_stop_and_before_its_data_are_used_again(
    world: tuple[list[Wanted], dict[str, Current]], verb: Verb
) -> None:
    lingering = {w.service_id for w in world[0]}
    in_place = {w.service_id for w in world[0] if w.way is Way.IN_PLACE}
    for service in plan("e", verb, *world, lingering=lingering).services:
        steps = service.steps
        if verb.action is Action.STOP:
            assert StepName.STOP in steps
        if service.service_id in in_place and StepName.PREPARE in steps:
            before = steps[: steps.index(StepName.PREPARE)]
            assert StepName.STOP in before
            assert service.routed == (StepName.WITHDRAW in before), "it is led away from first"
