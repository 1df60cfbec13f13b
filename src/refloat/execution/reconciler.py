"""Keeps what is applied running: after a restart of the server, after a power cut, when a probe fails.

Level triggered: it compares what is recorded with what runs, in stage order, and only where no
deployment is open, whose business it would be. Environments do not wait for each other.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import structlog

from refloat.clock import Clock
from refloat.domain.errors import RefloatError
from refloat.domain.resources import Environment
from refloat.domain.revision import Instance, InstanceState, Revision
from refloat.domain.services import Probe
from refloat.execution import applied as applied_store
from refloat.execution.applied import Applied, Everywhere
from refloat.execution.deadline import OBSERVE_SECONDS, Overdue, within
from refloat.execution.inventory import keep_inventory
from refloat.execution.leftovers import end_leftovers, service_of
from refloat.execution.limits import DEADLINES, ready_deadline
from refloat.execution.looks import looked
from refloat.execution.places import Elsewhere, Platforms, platform_of
from refloat.execution.platform import Platform
from refloat.execution.readiness import ReadinessWait
from refloat.execution.revisions import in_hands_of
from refloat.planning.plan import StepName
from refloat.store import deployments as store
from refloat.store import resources
from refloat.store.database import Database
from refloat.store.sealing import Sealer

LOOK_SECONDS = 5.0
_AT_ONCE = 16
"""Environments in which something is started at the same time, as all are after a power cut."""
_NOTED_AT_ONCE = 20
_UP = frozenset(InstanceState) - {InstanceState.EXITED}

log = structlog.get_logger()


class Reconciler:
    """One loop over everything applied in the installation."""

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        clock: Clock,
        platforms: Platforms,
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._clock = clock
        self._platforms = platforms
        self._watched: dict[str, asyncio.Task[None]] = {}
        self._routed: dict[str, str] = {}
        """By service: the revision that its route was seen to lead to. Looked at once, not at every look."""
        self._well: dict[str, int] = {}
        """By revision: how many instances it needs, once it was seen to have them and to be led to."""
        self._silent: set[int] = set()
        """Platforms (by identity) that did not tell in time at this look: they hold up nobody else."""
        self._noted: set[str] = set()
        """Environments whose inventory this server has seen to; their deployments keep it from then on."""
        self._restoring: dict[str, asyncio.Task[None]] = {}
        """By environment: one that takes long holds up no other."""
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self.tidying: asyncio.Task[None] | None = None
        """Ends what is left over; may take long, and restoring does not wait for it."""
        self._everywhere = Everywhere()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await looked(self._begin(), "what runs could not be reconciled")
                await self._clock.sleep(LOOK_SECONDS)
        finally:
            tasks = [*self._watched.values(), *self._restoring.values()]
            tasks += [self.tidying] if self.tidying else []
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def look(self) -> None:
        """Compare once, and see what should run started again."""
        await self._begin()
        await asyncio.gather(*self._restoring.values())

    async def _begin(self) -> None:
        """Compare once: start again what should run and does not, end what should not and does."""
        everything = await self._everywhere.read(self._database.read)
        recorded = {m.revision_key for members in everything.values() for m in members}
        up = await self._up()
        self._doubt_routes(recorded, up)
        for environment_id in [known for known, task in self._restoring.items() if task.done()]:
            self._restoring.pop(environment_id).result()
        for environment_id, members in everything.items():
            if environment_id not in self._restoring and not all(self._is_well(it, up) for it in members):
                task = asyncio.create_task(self._look_closely(environment_id, members))
                self._restoring[environment_id] = task
        await self._note(everything)
        self._forget_all_but(recorded)
        if self.tidying is None or self.tidying.done():
            self.tidying = asyncio.create_task(self._tidy(everything))

    async def _up(self) -> Counter[str]:
        """How many instances every revision has, asked once for all: most need no closer look."""
        found: Counter[str] = Counter()
        self._silent = set()
        for platform in self._distinct():
            try:
                instances = await self._observed(platform)
            except Overdue:
                log.error("a cluster does not tell what runs", seconds=OBSERVE_SECONDS)
                self._silent.add(id(platform))
            else:
                found.update(i.revision_key for i in instances if i.state in _UP)
        return found

    def _doubt_routes(self, known: set[str], up: Counter[str]) -> None:
        """Where a revision runs that is not recorded, its deployment may not have led the route back."""
        for key in up.keys() - known:
            self._routed.pop(service_of(key), None)

    async def _observed(self, platform: Platform, environment_id: str | None = None) -> Sequence[Instance]:
        return await within(self._clock, platform.engine.observe(environment_id), OBSERVE_SECONDS)

    def _distinct(self) -> list[Platform]:
        return list({id(p): p for p in self._platforms.values()}.values())

    def _is_well(self, member: Applied, up: Counter[str]) -> bool:
        if not member.should_run:
            return True
        key, task = member.revision_key, self._watched.get(member.revision_key)
        led = not member.routed or self._routed.get(member.service_id) == key
        return led and key in self._well and up[key] >= self._well[key] and not (task and task.done())

    async def _look_closely(self, environment_id: str, members: Sequence[Applied]) -> None:
        async with self._slots:
            work = self._restore_where_free(environment_id, members)
            await looked(work, "an environment could not be reconciled", environment=environment_id)

    async def _restore_where_free(self, environment_id: str, members: Sequence[Applied]) -> None:
        with contextlib.suppress(Elsewhere):
            if platform := await self._free(environment_id):
                await self._restore(platform, environment_id, members)

    async def _free(self, environment_id: str) -> Platform | None:
        """Where its services run; None when that does not tell, or a deployment is at work there."""
        if await store.open_deployments(self._database.read, environment_id):
            return None
        environment = await resources.find(self._database.read, Environment, environment_id)
        if environment is None:
            return None
        platform = await platform_of(self._database.read, self._platforms, environment)
        return None if id(platform) in self._silent else platform

    async def _note(self, environments: Iterable[str]) -> None:
        """Keep the inventory that a server which died after a deployment, or an older one, did not keep."""
        for environment_id in [it for it in environments if it not in self._noted][:_NOTED_AT_ONCE]:
            self._noted.add(environment_id)
            await keep_inventory(self._database, self._clock, self._platforms, environment_id)

    async def _tidy(self, everything: Mapping[str, Sequence[Applied]]) -> None:
        serving = frozenset(
            m.revision_key for members in everything.values() for m in members if m.should_run
        )
        try:
            for platform in self._distinct():
                await end_leftovers(self._database, self._clock, platform, serving)
        except (RefloatError, Overdue) as error:
            log.error("what is left over could not be ended", reason=str(error))

    async def _restore(self, platform: Platform, environment_id: str, members: Sequence[Applied]) -> None:
        try:
            instances = await self._observed(platform, environment_id)
        except Overdue:
            return
        for member in members:
            if not member.should_run:
                continue
            up = [i for i in instances if i.revision_key == member.revision_key and i.state in _UP]
            revision = member.revision(self._sealer)
            if len(up) < revision.instances or not await self._led_to(platform, member):
                await self._start(platform, member)
                continue
            self._well[member.revision_key] = revision.instances
            if revision.liveness:
                self._watch(platform, member, revision, revision.liveness)

    async def _led_to(self, platform: Platform, member: Applied) -> bool:
        """Whether its route leads there; a server may have died, or a deployment begun, before it did."""
        if member.routed and self._routed.get(member.service_id) != member.revision_key:
            serving = await platform.router.serving(member.service_id)
            if serving is None or serving.revision_key != member.revision_key:
                return False
            self._routed[member.service_id] = member.revision_key
        return True

    async def _in_charge(self, member: Applied) -> Revision | None:
        """What to start, in the hands of the last deployment. None when it is not applied any more, or a
        deployment may be about to change that."""
        async with self._database.snapshot() as read:
            if await store.open_deployments(read, member.environment_id):
                return None
            last = await store.latest_claimed(read, member.environment_id)
            now = (await applied_store.of_environment(read, member.environment_id)).get(member.service_id)
        if now is None or not now.should_run or now.revision_key != member.revision_key:
            return None
        return in_hands_of(last, now.revision(self._sealer))

    async def _start(self, platform: Platform, member: Applied) -> None:
        if (revision := await self._in_charge(member)) is None:
            return
        log.warning("starting what should run and does not", service=revision.name, revision=revision.key)
        self._routed.pop(member.service_id, None)  # looked at again, should a deployment overtake us
        try:
            instances = await within(
                self._clock, platform.engine.prepare(revision), DEADLINES[StepName.PREPARE]
            )
            wait = ReadinessWait(platform.engine, self._clock, revision, routed=member.routed)
            await within(self._clock, wait.until_ready(), ready_deadline(revision.readiness))
            if member.routed:
                led = self._lead(platform, member, tuple(i.endpoint for i in instances))
                await within(self._clock, led, DEADLINES[StepName.SWITCH])
        except Overdue:  # the rest of its environment waits meanwhile
            log.error("it was not started in time", service=revision.name)
        except RefloatError as error:
            log.error("it could not be started", service=revision.name, reason=str(error))

    async def _lead(self, platform: Platform, member: Applied, endpoints: tuple[str, ...]) -> None:
        """A deployment that comes later waits for its turn, and leads the route where it wants."""
        async with platform.turn(member.service_id):
            if await self._in_charge(member):
                await platform.router.switch(member.service_id, member.revision_key, endpoints)

    # -- liveness

    def _watch(self, platform: Platform, member: Applied, revision: Revision, probe: Probe) -> None:
        known = self._watched.get(member.revision_key)
        if known is None or known.done():
            self._watched[member.revision_key] = asyncio.create_task(
                self._live(platform, member, revision, probe)
            )

    def _forget_all_but(self, keys: set[str]) -> None:
        self._well = {key: count for key, count in self._well.items() if key in keys}
        for key in [known for known in self._watched if known not in keys]:
            self._watched.pop(key).cancel()

    async def _live(self, platform: Platform, member: Applied, revision: Revision, probe: Probe) -> None:
        """Ask each period; after enough failures in a row start the revision again."""
        await self._clock.sleep(probe.initial_delay_seconds)
        failures = 0
        while True:
            complaint = await self._complaint(platform, revision, probe)
            failures = failures + 1 if complaint else 0
            if failures >= probe.failure_threshold and await self._in_charge(member):
                log.warning("not alive, starting it again", service=revision.name, reason=complaint)
                with contextlib.suppress(RefloatError):
                    await platform.engine.stop(revision.key, revision.grace_seconds)
                await self._start(platform, member)
                failures = 0
            await self._clock.sleep(probe.period_seconds)

    async def _complaint(self, platform: Platform, revision: Revision, probe: Probe) -> str:
        try:
            found = await self._observed(platform, revision.environment_id)
        except Overdue:
            return ""  # that says nothing of the revision
        mine: list[Instance] = [i for i in found if i.revision_key == revision.key]
        for instance in mine:
            if instance.state is InstanceState.RUNNING and (
                answer := await platform.engine.check(instance, probe, probe.timeout_seconds)
            ):
                return answer
        return ""
