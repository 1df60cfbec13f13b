"""Each of the 28 states is produced by calls of the public API; no test writes a state."""

import pytest
from tools import states

from refloat.api.states import State
from tests.databases import on_both_stores
from tests.simulation.control_plane import ControlPlane

NEVER_OF_AN_ENVIRONMENT = (State.EXECUTING, State.RECAP, *(s for s in State if s.startswith("WAITING_")))


@on_both_stores
@pytest.mark.parametrize("state", list(State))
async def test_every_state_is_reached_by_its_recipe(state: State, plane: ControlPlane) -> None:
    recipe = states.RECIPES[state]
    environment = await plane.environment()
    stages = [f"stage {n}" if recipe.apart else "" for n in range(recipe.services)]
    services = [
        await plane.application(environment, f"s{n}", recipe.script, stage) for n, stage in enumerate(stages)
    ]
    for call in recipe.calls:
        if call.isupper():
            await plane.until(environment, call)
            await plane.ended(environment) if call == "DEPLOYED" else None
        elif call == "restart":
            path = f"/environment/{environment}/service/restart-service"
            await plane.call("POST", path, {"application_ids": services}, expect=202)
        else:
            await plane.call("POST", f"/environment/{environment}/{call}", expect=202)
    if state is State.RECAP:
        await plane.ended(environment)
        lines = await plane.call("GET", f"/environment/{environment}/logs")
        assert [n for n, line in enumerate(lines) if line["details"]["stage"]["step"] == state] == [
            len(lines) - 1
        ]
    else:
        await plane.until(environment, state)
    shown = {s.removeprefix("environment ") for s in plane.seen if s.startswith("environment")}
    assert not shown & set(NEVER_OF_AN_ENVIRONMENT)


def test_there_are_exactly_the_28_published_states() -> None:
    assert len(State) == 28
    assert set(states.RECIPES) == set(State)


@pytest.mark.golden
def test_the_page_of_states_is_up_to_date() -> None:
    assert states.PAGE.read_text() == states.render(), "run: make states"
