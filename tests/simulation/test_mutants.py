"""Deliberate defects: each breaks a guarantee, and the simulation finds it."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from refloat.domain.errors import Fenced
from refloat.domain.progress import Phase
from refloat.execution import journal, queue, runner, worker
from refloat.execution.journal import Journal
from refloat.execution.runner import Runner
from refloat.execution.steps import ServiceSteps
from refloat.execution.worker import Worker
from refloat.simulated.world import World
from refloat.store import deployments as store
from tests.simulation.seeded.run import run

SEEDS = 1000
Defect = Callable[[pytest.MonkeyPatch], None]


def no_fence_in_the_database(patch: pytest.MonkeyPatch) -> None:
    """Whoever believes to be the owner writes."""

    async def believed(self: Journal, tx: Any) -> bool:
        found = await store.find_deployment(tx, self.deployment.id)
        return bool(found and found.cancel_requested)

    patch.setattr(Journal, "own", believed)


def no_journal_before_a_step(patch: pytest.MonkeyPatch) -> None:
    """A step is written down only when it has ended."""
    begin = store.begin_step
    effects: dict[int, Any] = {}

    async def later(tx: Any, it: Any) -> None:
        effects[id(tx)] = it

    async def both(tx: Any, deployment: str, service: str, name: str, *rest: Any) -> None:
        from datetime import UTC, datetime

        from refloat.domain.deployment import Step

        moment = datetime(2030, 1, 1, tzinfo=UTC)
        line = Step(
            deployment_id=deployment,
            service_id=service,
            name=name,
            ordinal=1,
            attempt=1,
            fence=1,
            started_at=moment,
        )
        await begin(tx, line)
        await end(tx, deployment, service, name, *rest)

    end = store.end_step
    patch.setattr(store, "begin_step", later)
    patch.setattr(store, "end_step", both)


def finished_steps_are_done_again(patch: pytest.MonkeyPatch) -> None:
    """A new owner does not fold what is written down."""

    async def forgetful(self: Journal) -> None:
        for target in await store.targets(self._database.read, self.deployment.id):
            self._targets[target.service_id] = target

    patch.setattr(Journal, "load", forgetful)


def no_drain_and_stop_of_the_old(patch: pytest.MonkeyPatch) -> None:
    """The old revision is not retired."""

    async def nothing(self: Runner, steps: ServiceSteps) -> None: ...

    patch.setattr(Runner, "_retire", nothing)


def stop_before_the_switch(patch: pytest.MonkeyPatch) -> None:
    """The old revision ends while requests still go to it."""
    switch = ServiceSteps._switch

    async def early(self: ServiceSteps) -> Any:
        if self.plan.replaces:
            await self._means.platform.engine.stop(self.plan.replaces, 10)
        return await switch(self)

    patch.setattr(ServiceSteps, "_switch", early)


def no_verification(patch: pytest.MonkeyPatch) -> None:
    """Done without an answer through the route."""

    async def assumed(self: ServiceSteps) -> Any:
        return {"status": 200, "endpoint": ""}

    patch.setattr(ServiceSteps, "_verify", assumed)


def forgotten_cancel(patch: pytest.MonkeyPatch) -> None:
    """What is canceled is called so and goes on running."""

    async def nothing(self: ServiceSteps) -> str:
        return self.plan.replaces or ""

    patch.setattr(ServiceSteps, "undo", nothing)


def wrong_successor(patch: pytest.MonkeyPatch) -> None:
    """The newest waiting request is promoted."""

    async def last(tx: Any, environment_id: str, now: Any) -> None:
        waiting = await store.open_deployments(tx, environment_id)
        if waiting:
            await store.set_phase(tx, waiting[-1].id, Phase.QUEUED, "", now)

    patch.setattr(queue, "_promote", last)


def swallowed_fence(patch: pytest.MonkeyPatch) -> None:
    """A replaced owner carries on as if its write had been accepted."""
    begin, end, own = Journal._begin, Journal._end, Journal.own

    async def deaf_begin(self: Journal, service_id: str, name: Any, phase: Any, despite_cancel: bool) -> None:
        try:
            await begin(self, service_id, name, phase, despite_cancel)
        except Fenced:
            return

    async def deaf_end(self: Journal, *arguments: Any) -> None:
        try:
            await end(self, *arguments)
        except Fenced:
            return

    assert own is Journal.own
    patch.setattr(Journal, "_begin", deaf_begin)
    patch.setattr(Journal, "_end", deaf_end)


def no_deadline(patch: pytest.MonkeyPatch) -> None:
    """Work may take for ever."""

    async def patient(clock: Any, work: Any, seconds: float) -> Any:
        return await work

    patch.setattr(journal, "within", patient)
    patch.setattr(worker, "within", patient)


def one_wake_up_or_never(patch: pytest.MonkeyPatch) -> None:
    """The queue moves only when somebody calls."""

    async def only_called(self: Worker) -> None:
        await self._wake.wait()

    patch.setattr(Worker, "_pause", only_called)


def no_order_after_a_clock_jump(patch: pytest.MonkeyPatch) -> None:
    """Ids are what the wall clock makes them."""
    patch.setattr(queue, "after", lambda earlier, wanted: wanted)


def storage_errors_fail_a_deployment(patch: pytest.MonkeyPatch) -> None:
    """A commit that fails is taken for the end of the deployment."""
    for module in (journal, runner, worker):
        patch.setattr(module, "STORAGE", ())


def the_world_takes_any_fence(patch: pytest.MonkeyPatch) -> None:
    """A new owner is refused nothing, an old one neither, and what was run is run again."""
    from refloat.simulated.engine import SimulatedEngine

    patch.setattr(World, "guard", lambda self, revision: None)
    run_once = SimulatedEngine.run

    async def again(self: SimulatedEngine, revision: Any, argv: Any, key: str, log: Any) -> Any:
        self._world.runs.pop(key, None)
        return await run_once(self, revision, argv, key, log)

    patch.setattr(SimulatedEngine, "run", again)


DEFECTS: tuple[Defect, ...] = (
    no_fence_in_the_database,
    no_journal_before_a_step,
    finished_steps_are_done_again,
    no_drain_and_stop_of_the_old,
    stop_before_the_switch,
    no_verification,
    forgotten_cancel,
    wrong_successor,
    swallowed_fence,
    no_deadline,
    one_wake_up_or_never,
    no_order_after_a_clock_jump,
    storage_errors_fail_a_deployment,
)


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
def test_a_deliberate_defect_is_found(defect: Defect, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        defect(patch)
        found = next((seed for seed in range(SEEDS) if run(seed).broken), None)
    assert found is not None, f"{defect.__name__} stays unseen in {SEEDS} seeds"
    assert asyncio.get_event_loop_policy() is not None
