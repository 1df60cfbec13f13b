"""Moves every queue of the installation: one level-triggered loop that compares and acts.

It claims what waits, takes over what a dead owner left, interrupts what was canceled. A wake-up only
makes it look sooner; a lost one costs a tick.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import structlog
from structlog.contextvars import bind_contextvars

from refloat.clock import Clock
from refloat.domain.deployment import Deployment, Target
from refloat.domain.errors import STORAGE, Fenced, RefloatError, Unavailable
from refloat.domain.progress import Phase
from refloat.domain.replicas import Term
from refloat.execution import queue
from refloat.execution.basis import Basis, basis_of, check_what_was_asked_for, plan_for
from refloat.execution.capacity import Capacity, Head, Room, Use
from refloat.execution.crash import CrashPoints, NoCrash
from refloat.execution.going_back import go_back
from refloat.execution.inventory import keep_inventory_after
from refloat.execution.journal import Journal
from refloat.execution.looks import looked
from refloat.execution.means import Means
from refloat.execution.places import Elsewhere, Platforms, addressed, addresses_on, platform_for, remember
from refloat.execution.platform import Platform
from refloat.execution.rollback import rolled_back
from refloat.execution.runner import Runner
from refloat.execution.snapshot import (
    Snapshot,
    compile_environment,
    open_snapshot,
)
from refloat.execution.telemetry import Silent, Telemetry
from refloat.planning.plan import Plan
from refloat.store import deployments as store
from refloat.store import facts, figures, ownership
from refloat.store.configuration import read_configuration, read_place
from refloat.store.database import Database, Reader, Transaction
from refloat.store.sealing import Sealer

TICK_SECONDS = 1.0
_SIDE_BY_SIDE = 10
"""Claims that are made ready at once and stored together: each commit costs more than the claim does."""

log = structlog.get_logger()


class Worker:
    """The owner of running deployments in this process. A new id at every start: a former self is
    another owner, whose writes are refused.

    Alone on its database it moves every queue. With a `term` it is one of several, moves the queues of the
    clusters of its node, and only for as long as the term lasts: then every other owner there is dead.
    """

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        clock: Clock,
        platforms: Platforms,
        *,
        domain: str,
        drain_seconds: float = 30.0,
        capacity: Capacity | None = None,
        crash: CrashPoints | None = None,
        owner: str | None = None,
        term: Term | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.owner = owner or (term.owner if term else secrets.token_hex(8))
        self._term = term
        self._database = database
        self._sealer = sealer
        self._clock = clock
        self._platforms = platforms
        self._domain = domain
        self._drain_seconds = drain_seconds
        self._capacity = capacity or Capacity()
        self._needs: dict[str, int] = {}
        """Builds of those that did not fit, so that their plan is not made at every look."""
        self._crash = crash or NoCrash()
        self._telemetry = telemetry or Silent()
        self._looked_at = clock.monotonic()
        self.refusal: RefloatError | None = None
        """Why nothing could be stored when it was last tried."""
        self._runners: dict[str, Runner] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}  # in the order they began
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """There may be something to do."""
        self._wake.set()

    @property
    def idle(self) -> bool:
        """Nothing is under way here."""
        return not self._tasks

    @property
    def silent_seconds(self) -> float:
        """How long ago it came round to the queues."""
        return self._clock.monotonic() - self._looked_at

    async def run(self) -> None:
        """Until cancelled; work under way is left for the next owner."""
        try:
            while True:
                self._wake.clear()
                self._looked_at = self._clock.monotonic()
                self._note(await looked(self._look(), "the queue could not be moved"))
                with contextlib.suppress(TimeoutError):
                    await self._pause()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _note(self, error: RefloatError | None) -> None:
        if error is None or isinstance(error, STORAGE):
            self.refusal = error

    async def _pause(self) -> None:
        waits = [
            asyncio.ensure_future(self._wake.wait()),
            asyncio.ensure_future(self._clock.sleep(TICK_SECONDS)),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _look(self) -> None:
        for deployment_id, canceled in await store.running(self._database.read):
            if runner := self._runners.get(deployment_id):
                if canceled:
                    runner.cancel()
            elif (left := await store.find_deployment(self._database.read, deployment_id)) and (
                left.owner and not left.ended and await self._is_here(left)
            ):
                await self._take_over(left)
        heads = [Head(*found) for found in await store.claimable(self._database.read)]
        self._needs = {h.deployment_id: n for h in heads if (n := self._needs.get(h.deployment_id))}
        if not heads:
            return
        room = Room(self._capacity, await self._used(self._database.read), self._needs)
        for at in range(0, len(heads), _SIDE_BY_SIDE):
            some = heads[at : at + _SIDE_BY_SIDE]
            await self._claim_in_turn([head for head in some if not room.is_full_for(head)], room)

    async def _used(self, read: Reader) -> dict[str, Use]:
        return {cluster: Use(*counts) for cluster, counts in (await figures.used(read)).items()}

    # -- becoming the owner

    async def _take_over(self, deployment: Deployment) -> None:
        """Go on where a dead owner stopped, or a runner of ours, with a router that may know no address."""
        async with self._database.transaction() as tx:
            await self._assert_in_office(tx)
            if not await store.take_over(tx, deployment, self.owner):
                return
        self._telemetry.taken_over()
        log.warning(
            "a deployment is taken over",
            deployment=deployment.id,
            environment=deployment.environment_id,
            former_owner=deployment.owner,
        )
        taken = await store.find_deployment(self._database.read, deployment.id)
        assert taken is not None
        plan_text, sealed = await store.claimed_documents(self._database.read, taken.id)
        plan, snapshot = msgspec.json.decode(plan_text, type=Plan), open_snapshot(sealed, self._sealer)
        environment, cluster, services = await read_place(self._database.read, taken.environment_id)
        platform = platform_for(self._platforms, cluster)
        with contextlib.suppress(Unavailable):  # told by the step that needs the edge
            await addresses_on(platform, environment.id, services, self._domain)
        self._start(self._runner(_Work(taken, plan, snapshot, platform)))

    async def _claim_in_turn(self, heads: Sequence[Head], room: Room) -> None:
        """Units of work are entered in the order of the heads, and those of several share a commit."""
        bases = await asyncio.gather(*(self._basis(head) for head in heads), return_exceptions=True)
        claims = (self._claim(head, basis, room) for head, basis in zip(heads, bases, strict=True))
        for ended in await asyncio.gather(*claims, return_exceptions=True):
            if ended is not None:
                raise ended

    async def _basis(self, head: Head) -> Basis:
        read, platforms = self._database.read, self._platforms
        return await basis_of(read, platforms, self._clock, self._domain, head.environment_id)

    async def _claim(self, head: Head, basis: Basis | BaseException, room: Room) -> None:
        try:
            if isinstance(basis, BaseException):
                raise basis
            claimed = await self._claim_with_plan(head, basis, room)
        except Elsewhere:  # a server of its node claims it
            return
        except (Fenced, *STORAGE):
            raise
        except RefloatError as error:
            await self._refuse(head.deployment_id, error)
            return
        if claimed:
            self._telemetry.claimed(claimed.deployment, self._clock.now())
            self._start(claimed)

    async def _claim_with_plan(self, head: Head, basis: Basis, room: Room) -> Runner | None:
        """None when it is nothing to begin now. The request is read with everything else that decides: others
        may join it until then."""
        environment, addresses = basis.environment, basis.addresses
        async with self._database.transaction() as tx:
            await self._assert_in_office(tx)
            found = await store.find_head(tx, head.deployment_id)
            if found is None or found.deployment.ended or found.deployment.owner:
                return None
            deployment = found.deployment
            configuration = await read_configuration(tx, environment)
            if not addressed(configuration.services) <= addresses.keys():
                self.wake()
                return None
            compiled = await compile_environment(tx, self._sealer, environment, addresses, configuration)
            if back_to := deployment.request.back_to:
                compiled = await rolled_back(tx, self._sealer, back_to, compiled, deployment.request.services)
            plan = plan_for(environment.id, deployment.request, compiled, basis.observed)
            check_what_was_asked_for(deployment.request, plan)
            builds = room.builds_of(plan)
            if not room.takes(Use(found.used_deployments, found.used_builds), head, builds):
                return None
            sealed = compiled.snapshot.seal(self._sealer)
            number = found.number
            claimed = await queue.claim(tx, deployment, self.owner, plan, sealed, builds, self._clock, number)
            if claimed is None:
                return None
            if self._term:
                await remember(tx, self._term.node, environment, addresses)
            work = _Work(claimed.deployment, plan, compiled.snapshot, basis.platform, claimed.targets)
            runner = self._runner(work)
            await runner.begin(tx)
        return runner

    async def _assert_in_office(self, tx: Transaction) -> None:
        if self._term is None:
            return
        try:
            await facts.assert_leads(tx, self._term)
        except Fenced:
            self._telemetry.refused()
            raise

    async def _is_here(self, deployment: Deployment) -> bool:
        if self._term is None:
            return True
        try:
            place = await read_place(self._database.read, deployment.environment_id)
            platform_for(self._platforms, place.cluster)
        except Elsewhere:
            return False
        return True

    async def _refuse(self, deployment_id: str, error: RefloatError) -> None:
        """End a request that cannot begin; nothing was touched."""
        async with self._database.transaction() as tx:
            await self._assert_in_office(tx)
            refused = await store.find_deployment(tx, deployment_id)
            if refused is None or refused.ended or refused.owner:
                return
            await queue.fail_all(tx, refused, str(error), self._clock)
        self._telemetry.ended(refused, Phase.FAILED, self._clock.now())

    # -- running

    def _start(self, runner: Runner) -> None:
        deployment = runner.deployment
        self._runners[deployment.id] = runner
        if deployment.cancel_requested:
            runner.cancel()
        task = asyncio.create_task(self._supervised(deployment, runner))
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    async def _supervised(self, deployment: Deployment, runner: Runner) -> None:
        """Run it to its end, or until nothing can be stored: then it is taken up again at a later tick.

        What is logged on the way, also by engines, routers and builders, tells which deployment it is of.
        """
        bind_contextvars(deployment=deployment.id, environment=deployment.environment_id)
        try:
            await self._run(deployment, runner)
        except STORAGE as error:
            self._note(error)
            log.error("a deployment waits for the database", reason=str(error))
        else:
            self.wake()
            database, clock, platforms = self._database, self._clock, self._platforms
            await keep_inventory_after(database, clock, platforms, deployment, runner.ended_with)
        finally:
            self._runners.pop(deployment.id, None)

    async def _run(self, deployment: Deployment, runner: Runner) -> None:
        try:
            await runner.run()
        except STORAGE:
            raise
        except Exception as error:
            log.exception("a deployment stopped unexpectedly")
            with contextlib.suppress(Fenced):
                await self._give_up(deployment, f"internal error: {type(error).__name__}")

    def _runner(self, work: "_Work") -> Runner:
        journal = Journal(
            self._database,
            self._clock,
            work.deployment,
            self.owner,
            self._crash,
            self._telemetry,
            fresh=work.targets,
        )
        means = Means(
            platform=work.platform,
            journal=journal,
            read=self._database.read,
            sealer=self._sealer,
            clock=self._clock,
            drain_seconds=self._drain_seconds,
        )
        return Runner(self._database, means, work.plan, work.snapshot)

    async def _give_up(self, deployment: Deployment, reason: str) -> None:
        """No deployment stays open because of a defect of ours."""
        async with self._database.transaction() as tx:
            await ownership.assert_owned(tx, deployment.id, self.owner, deployment.fence)
            await go_back(tx, deployment, Phase.FAILED, self._clock)
            await queue.fail_all(tx, deployment, reason, self._clock)
        self._telemetry.ended(deployment, Phase.FAILED, self._clock.now())


@dataclass(frozen=True)
class _Work:
    """A deployment that became ours. Of one that was just claimed, the `targets` too: nothing else of it is
    written down yet."""

    deployment: Deployment
    plan: Plan
    snapshot: Snapshot
    platform: Platform
    targets: Sequence[Target] | None = None
