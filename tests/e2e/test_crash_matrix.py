"""A server that is killed with -9 at any moment of any step changes nothing, on either store and engine.

Run with everything else: one kill in every kind of step on each store. `make crash` runs them all: step ×
before, during, after × SQLite, PostgreSQL × local, simulated.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.databases import STORES, PostgresServer
from tests.e2e.crashes import ENGINES, REPLACE, STEPS, UNDO, Stand, followers

MOMENTS = ("before", "during", "after")


@pytest.fixture
async def stand(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Stand]:
    store, engine = request.param
    server: PostgresServer | None = request.getfixturevalue("postgres") if store == "postgresql" else None
    made = Stand(folder, server, engine)
    yield made
    await made.remove()


def _stands(*engines: str) -> pytest.MarkDecorator:
    pairs = [(store, engine) for store in STORES for engine in engines]
    return pytest.mark.parametrize("stand", pairs, ids="-".join, indirect=True)


@_stands("local")
def test_a_server_killed_in_every_step_is_followed_by_one_that_goes_on(stand: Stand) -> None:
    stand.start("precheck:during")
    stand.make()
    stand.ask("redeploy")
    stand.dies()
    stand.start()
    stand.check_ended("DEPLOYED", "precheck")
    stand.check_serves("morning")
    stand.server.kill()
    stand.start("build:during")
    stand.change("evening")
    stand.ask("redeploy")
    stand.dies()
    for step in REPLACE[1:]:
        stand.start_and_die(f"{step}:during")
        stand.check_serves("morning", "evening")
    stand.start("revert:during")
    stand.check_ended("DEPLOYED", *REPLACE)
    stand.check_serves("evening")
    stand.change("broken")
    stand.ask("redeploy")
    stand.dies()
    stand.check_serves("evening")
    stand.start_and_die("discard:during")
    stand.start("withdraw:during")
    stand.check_ended("DEPLOYMENT_ERROR", *UNDO)
    stand.check_serves("evening")
    stand.check_one_runs()
    stand.ask("stop")
    stand.dies()
    stand.start("destroy:during")
    stand.check_ended("STOPPED", "withdraw")
    stand.check_serves("")
    stand.ask("uninstall")
    stand.dies()
    stand.start()
    stand.check_ended("DELETED", "destroy")
    stand.check_one_runs(0)


@pytest.mark.matrix
@_stands(*ENGINES)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_moment_of_any_step_is_resumed(stand: Stand, step: str, moment: str) -> None:
    place = f"{step}:{moment}"
    if step == "precheck":
        stand.start(place)
        stand.make()
    else:
        stand.start()
        stand.make()
        stand.ask("redeploy")
        stand.check_ended("DEPLOYED")
        stand.check_serves("morning")
        stand.server.kill()
        stand.start(place)
    verb = {"withdraw": "stop", "destroy": "uninstall"}.get(step, "redeploy")
    if verb == "redeploy":
        stand.change("broken" if step in UNDO else "evening")
    stand.ask(verb)
    stand.dies()
    if step in (*REPLACE, *UNDO):
        stand.check_serves("morning", "evening")
    stand.start()
    states = {"stop": "STOPPED", "uninstall": "DELETED"}
    expected = "DEPLOYMENT_ERROR" if step in UNDO else states.get(verb, "DEPLOYED")
    stand.check_ended(expected, step, *(followers(step) if moment == "after" else ()))
    if verb == "redeploy":
        stand.check_serves("morning" if step in UNDO else "evening")
    stand.check_one_runs(int(verb == "redeploy"))
