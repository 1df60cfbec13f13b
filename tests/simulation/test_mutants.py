"""Deliberate defects: each breaks a guarantee, and the simulation finds it."""

import asyncio
import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from refloat.domain.deployment import Attempt, Deployment, Step
from refloat.domain.errors import Fenced, StorageLost
from refloat.domain.progress import Action, Phase
from refloat.execution import (
    applied,
    basis,
    cron,
    executing,
    going_back,
    journal,
    queue,
    reconciler,
    runner,
    worker,
)
from refloat.execution.capacity import Room
from refloat.execution.journal import Journal
from refloat.execution.runner import Runner
from refloat.execution.steps import ServiceSteps
from refloat.execution.worker import Worker
from refloat.planning.plan import StepName
from refloat.store import deployments as store
from refloat.store.database import Transaction
from tests.simulation.seeded.run import run

SEEDS = 1000
Defect = Callable[[pytest.MonkeyPatch], None]


def no_fence_in_the_database(patch: pytest.MonkeyPatch) -> None:
    """Whoever believes to be the owner writes."""

    async def believed(self: Journal, tx: Any, service_id: str) -> Any:
        found = await store.find_deployment(tx, self.deployment.id)
        target = await store.find_target(tx, self.deployment.id, service_id)
        return bool(found and found.cancel_requested), target

    patch.setattr(Journal, "_own_target", believed)


def no_journal_before_a_step(patch: pytest.MonkeyPatch) -> None:
    """A step is written down only when it has ended."""
    begin, end = store.begin_step, store.end_step
    lines: dict[tuple[str, str, str], Step] = {}

    async def later(tx: Transaction, it: Step) -> None:
        lines[it.deployment_id, it.service_id, it.name] = it

    async def both(tx: Transaction, deployment: str, service: str, name: str, *rest: Any) -> None:
        await begin(tx, lines[deployment, service, name])
        await end(tx, deployment, service, name, *rest)

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


def no_drain(patch: pytest.MonkeyPatch) -> None:
    """Requests in flight are not waited for."""

    async def hasty(self: ServiceSteps) -> Any:
        return {"swap": {"served": None, "failed": None, "undrained": 0}}

    patch.setattr(ServiceSteps, "_drain", hasty)


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

    async def last(tx: Any, successor: Deployment, now: Any) -> None:
        waiting = await store.open_deployments(tx, successor.environment_id)
        await store.set_phase(tx, waiting[-1].id, Phase.QUEUED, "", now)

    patch.setattr(queue, "_promote", last)


def swallowed_fence(patch: pytest.MonkeyPatch) -> None:
    """A replaced owner carries on as if its writes had been accepted, and asks nobody."""
    begin, end = Journal._open, Journal._end

    async def deaf_begin(self: Journal, *arguments: Any) -> None:
        try:
            await begin(self, *arguments)
        except Fenced:
            return

    async def deaf_end(self: Journal, *arguments: Any) -> None:
        try:
            await end(self, *arguments)
        except Fenced:
            return

    async def sure(self: Journal) -> None: ...

    patch.setattr(Journal, "assert_ours", sure)
    patch.setattr(Journal, "_open", deaf_begin)
    patch.setattr(Journal, "_end", deaf_end)


def no_deadline(patch: pytest.MonkeyPatch) -> None:
    """Work may take for ever."""

    async def patient(clock: Any, work: Any, seconds: float) -> Any:
        return await work

    patch.setattr(journal, "within", patient)
    patch.setattr(basis, "within", patient)


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


def no_caps_at_the_claim(patch: pytest.MonkeyPatch) -> None:
    """Whoever is first in a queue begins, however much is under way on the cluster."""
    patch.setattr(Room, "_takes", lambda self, used, head, builds: True)


def builds_beside_each_other(patch: pytest.MonkeyPatch) -> None:
    """A deployment has more builds under way than it reserved."""

    async def at_once(self: Runner, steps: ServiceSteps) -> None:
        await self._guarded(steps, (StepName.BUILD,), asyncio.Semaphore(100))

    patch.setattr(Runner, "_build", at_once)


def an_instant_that_runs_twice(patch: pytest.MonkeyPatch) -> None:
    """The command of a run has another key when the next server goes on with it."""
    count = itertools.count()
    key = cron._key
    patch.setattr(cron, "_key", lambda run, attempt: f"{key(run, attempt)}-{next(count)}")


def missed_runs_are_made_up_for(patch: pytest.MonkeyPatch) -> None:
    """An instant runs however late it is."""
    patch.setattr(cron, "LATE_SECONDS", 1e9)


def a_rollback_launched_twice(patch: pytest.MonkeyPatch) -> None:
    """What failed is followed by two rollbacks."""
    accept = queue.accept

    async def twice(tx: Transaction, id: str, environment: Any, request: Any, *rest: Any) -> Any:
        first = await accept(tx, id, environment, request, *rest)
        if request.principal_id == going_back.WHO:
            await accept(tx, id, environment, request, *rest)
        return first

    patch.setattr(queue, "accept", twice)


def a_rollback_in_a_commit_of_its_own(patch: pytest.MonkeyPatch) -> None:
    """A server that dies leaves a rollback of what has not ended."""
    conclude = Runner._conclude

    async def apart(self: Runner) -> None:
        async with self._database.transaction() as tx:
            phase, _ = runner._outcome(self._journal.targets, self._canceled)
            await going_back.go_back(tx, self.deployment, phase, self._means.clock)
        await conclude(self)

    patch.setattr(Runner, "_conclude", apart)


def a_rollback_to_the_first(patch: pytest.MonkeyPatch) -> None:
    """The oldest deployment that ended well is gone back to, not the last one."""

    async def oldest(read: Any, failed: Any) -> Any:
        earlier = await store.history(read, failed.environment_id, 200, before=failed.id)
        good = [it for it in earlier if it.phase is Phase.DONE and it.action is Action.DEPLOY]
        return good[-1] if good else None

    patch.setattr(going_back, "_last_success", oldest)


def a_rollback_to_what_is_configured(patch: pytest.MonkeyPatch) -> None:
    """A rollback deploys what a redeploy would."""

    async def as_now(tx: Any, sealer: Any, back_to: str, compiled: Any, services: Any) -> Any:
        return compiled

    patch.setattr(worker, "rolled_back", as_now)


def a_lost_connection_ends_the_work(patch: pytest.MonkeyPatch) -> None:
    """A server that cannot reach the database for a moment never looks at its queues again."""
    look = Worker._look

    async def once(self: Worker) -> None:
        try:
            await look(self)
        except StorageLost:
            await asyncio.Event().wait()

    patch.setattr(Worker, "_look", once)


def neighbours_are_recorded_as_stopped(patch: pytest.MonkeyPatch) -> None:
    """What is recorded for one service stops the others of its environment."""
    put = applied.put

    async def careless(tx: Transaction, it: applied.Applied) -> None:
        await put(tx, it)
        for other in (await applied.of_environment(tx, it.environment_id)).values():
            if other.service_id != it.service_id:
                await put(tx, other.stopped())

    patch.setattr(applied, "put", careless)


def leftovers_of_one_environment_are_those_of_all(patch: pytest.MonkeyPatch) -> None:
    """What one environment does not know is ended, though it is another's."""

    async def hasty(database: Any, clock: Any, platform: Any, serving: frozenset[str]) -> None:
        known = await applied.everywhere(database.read)
        first = {m.revision_key for members in list(known.values())[:1] for m in members}
        for instance in await platform.engine.observe():
            if known and instance.revision_key not in first:
                await platform.engine.stop(instance.revision_key, 60)

    patch.setattr(reconciler, "end_leftovers", hasty)


def what_is_kept_stays_in_the_hands_of_who_applied_it(patch: pytest.MonkeyPatch) -> None:
    """After a deployment that failed, what goes on to serve cannot be started again."""
    patch.setattr(reconciler, "in_hands_of", lambda deployment, revision: revision)


def what_a_job_has_come_to_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """The next server begins the first attempt again."""
    patch.setattr(Journal, "attempt", lambda self, service_id, name: None)


def an_attempt_is_ended_before_the_next_is_written_down(patch: pytest.MonkeyPatch) -> None:
    """A server that dies in between is followed by one that makes it once more."""
    repeated = executing.repeated

    async def hasty(clock: Any, it: executing.Attempts, reached: Attempt | None) -> Any:
        async def end_first(attempt: Attempt) -> None:
            await it.end(attempt.number - 1)
            await it.come_to(attempt)

        return await repeated(clock, dataclasses.replace(it, come_to=end_first), reached)

    patch.setattr(executing, "repeated", hasty)


def who_goes_on_ends_nothing_first(patch: pytest.MonkeyPatch) -> None:
    """The next server begins the second attempt beside the first."""
    repeated = executing.repeated

    async def hasty(clock: Any, it: executing.Attempts, reached: Attempt | None) -> Any:
        async def end(number: int) -> None:
            if reached is None or number >= reached.number:
                await it.end(number)

        return await repeated(clock, dataclasses.replace(it, end=end), reached)

    patch.setattr(executing, "repeated", hasty)


DEFECTS: dict[Defect, int] = {
    no_fence_in_the_database: 0,
    no_journal_before_a_step: 0,
    finished_steps_are_done_again: 4,
    no_drain_and_stop_of_the_old: 0,
    no_drain: 0,
    stop_before_the_switch: 0,
    no_verification: 15,
    forgotten_cancel: 2,
    wrong_successor: 3,
    swallowed_fence: 59,
    no_deadline: 16,
    one_wake_up_or_never: 1,
    no_order_after_a_clock_jump: 1,
    storage_errors_fail_a_deployment: 31,
    no_caps_at_the_claim: 8,
    builds_beside_each_other: 4,
    an_instant_that_runs_twice: 223,
    missed_runs_are_made_up_for: 271,
    a_rollback_launched_twice: 11,
    a_rollback_in_a_commit_of_its_own: 11,
    a_rollback_to_the_first: 11,
    a_rollback_to_what_is_configured: 3,
    a_lost_connection_ends_the_work: 23,
    neighbours_are_recorded_as_stopped: 0,
    leftovers_of_one_environment_are_those_of_all: 0,
    what_is_kept_stays_in_the_hands_of_who_applied_it: 8,
    what_a_job_has_come_to_is_forgotten: 5,
    an_attempt_is_ended_before_the_next_is_written_down: 98,
    who_goes_on_ends_nothing_first: 5,
}
"""With the first seed that found each; others are tried when that one does not any more."""


@pytest.mark.mutant
@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
def test_a_deliberate_defect_is_found(defect: Defect, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        defect(patch)
        found = next((seed for seed in (DEFECTS[defect], *range(SEEDS)) if run(seed).broken), None)
    assert found is not None, f"{defect.__name__} stays unseen in {SEEDS} seeds"
    assert not run(found).broken, f"seed {found} is broken without the defect, too"
