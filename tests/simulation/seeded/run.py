"""One run: everything that a seed decides, from the first request to the last check."""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from refloat.control.context import Context
from refloat.control.organizations import bootstrap
from refloat.domain.resources import ClusterKind
from refloat.execution.platform import Platform
from refloat.execution.reconciler import Reconciler
from refloat.settings import Settings
from refloat.simulated.builder import SimulatedBuilder
from refloat.simulated.engine import SimulatedEngine
from refloat.simulated.router import SimulatedRouter
from refloat.simulated.world import World
from refloat.store.sealing import Sealer
from tests.simulation.seeded import store as stores
from tests.simulation.seeded.api import Client
from tests.simulation.seeded.caps import drawn_capacity
from tests.simulation.seeded.clients import Caller, Reader
from tests.simulation.seeded.doors import doors
from tests.simulation.seeded.faults import Faults
from tests.simulation.seeded.healing import Healing
from tests.simulation.seeded.host import (
    Clockwork,
    Host,
    HostClock,
    HostCrash,
    HostDatabase,
    Server,
    reached_by,
)
from tests.simulation.seeded.loop import Stuck, VirtualClock, VirtualLoop
from tests.simulation.seeded.monitor import CLOCK, KEEPER, Monitor
from tests.simulation.seeded.scenario import Scenario
from tests.simulation.seeded.trace import Broken, Trace, stream

_LEASE_SECONDS = 10.0
_WATCH_SECONDS = 5.0
_REST_SECONDS = 120.0
_REBOOTS = 0.3
"""How often the machine goes down once more when all deployments have ended."""
"""Longer than anything that is left over may take to be ended."""


@dataclass(frozen=True)
class Result:
    """`broken` is the guarantee that does not hold, "" when all do."""

    seed: int
    digest: str
    broken: str
    trace: tuple[str, ...]
    virtual_seconds: float


def run(seed: int) -> Result:
    """Play one seed to its end. Equal seeds give equal results, in every process."""
    loop = VirtualLoop()
    trace = Trace(loop.time)
    try:
        with _logged_to(trace):
            loop.run_until_complete(_Run(seed, loop, trace).play())
    except Broken as broken:
        trace.broken = trace.broken or broken
    except Stuck as stuck:
        trace.broken = trace.broken or Broken(str(stuck))
    finally:
        _close(loop)
    return Result(seed, trace.digest, str(trace.broken or ""), tuple(trace.lines), loop.time())


def _close(loop: VirtualLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    with contextlib.suppress(Stuck):
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=600))
    loop.close()


@contextlib.contextmanager
def _logged_to(trace: Trace) -> Iterator[None]:
    """The server's own log becomes part of the trace."""

    def note(_: Any, level: str, event: Any) -> Any:
        error = sys.exc_info()[1]
        words = " ".join(str(event[key]) for key in event if key not in ("exc_info", "traceback"))
        trace.note("log", f"{level}: {words}" + (f" {error!r}" if error else ""))
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[note])
    try:
        yield
    finally:
        structlog.configure(**before)


class _Run:
    def __init__(self, seed: int, loop: VirtualLoop, trace: Trace) -> None:
        self._seed = seed
        self._trace = trace
        self._clock = VirtualClock(loop)
        self._faults = Faults(seed, trace)
        self._commits = stores.Faults(stream(seed, "store"), 0.0, trace)
        self._store = stores.RunStore(self._commits)
        self._world = World()
        self._capacity = drawn_capacity(stream(seed, "capacity"))
        self._monitor = Monitor(self._store, self._world, trace, self._clock, self._capacity)
        self._sealer = Sealer(b"k" * 32, stream(seed, "nonces").randbytes)
        self._server: Server | None = None
        self._hosts: dict[str, Host] = {}
        self._closing = asyncio.Event()
        self._platform = Platform(
            engine=SimulatedEngine(self._world, self._clock),
            router=SimulatedRouter(self._world, self._clock),
            builder=SimulatedBuilder(self._world, self._clock),
            rewrite=self._world.rewrite,
        )
        self._context = Context(
            settings=Settings(data_dir=Path(), node_dir=Path(), admin_token="rf_admin"),
            database=self._store.database,
            sealer=self._sealer,
            clock=self._clock,
            entropy=stream(seed, "ids").randbytes,
            platforms=dict.fromkeys(ClusterKind, self._platform),
            wake=lambda: self._faults.wake(self._wake),
        )
        self._doors = doors(stream(seed, "doors"), self._context)
        self._scenario = Scenario(seed, self._doors[0], trace)
        self._reader = Reader(self._monitor, trace, lambda: self._faults.over)
        self._healing = Healing(self._scenario, self._reader, self._monitor, trace, self._clock)
        self._monitor.stale = lambda who: self._hosts[who].stale

    def _wake(self) -> None:
        if self._server:
            self._server.wake()

    async def play(self) -> None:
        """Raises Broken with the first guarantee that does not hold."""
        broken = asyncio.Event()
        self._trace.on_broken = broken.set
        story = asyncio.ensure_future(self._story())
        alarm = asyncio.ensure_future(broken.wait())
        try:
            await asyncio.wait((story, alarm), return_when=asyncio.FIRST_COMPLETED)
            if self._trace.broken:
                raise self._trace.broken
            story.result()
        finally:
            self._closing.set()
            for host in self._hosts.values():
                host.die()
            for task in (story, alarm):
                task.cancel()
            await asyncio.gather(story, alarm, return_exceptions=True)
            await self._store.close()

    async def _story(self) -> None:
        await bootstrap(self._context)
        await self._scenario.make()
        self._monitor.attempts.allowed = self._scenario.attempts
        self._monitor.returns.asking = {it.id for it in self._scenario.environments if it.goes_back}
        if self._scenario.timed:
            self._clock.jump(self._faults.pick(0.0, 40.0, 50.0, 57.0))  # nearer to the next minute
        others = [asyncio.ensure_future(work) for work in (self._serve(), self._watch())]
        try:
            if self._scenario.warm:
                await self._warm()
            self._commits.rate = self._faults.store_rate
            others += [asyncio.ensure_future(work) for work in self._disturbances()]
            await asyncio.gather(*self._callers())
            await self._clock.sleep(self._faults.sometime())
            await self._calm_down()
            await self._healing.all_ended()
            if stream(self._seed, "reboot").random() < _REBOOTS:
                await self._reboot()
            for environment in self._scenario.environments:
                await self._healing.heal(environment)
            deadline = self._clock.monotonic() + _REST_SECONDS
            while not self._monitor.recorded.tidy and self._clock.monotonic() < deadline:
                await self._clock.sleep(1)
            self._monitor.recorded.at_rest()
            if self._scenario.timed:
                await self._healing.the_clock_strikes()
        finally:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    async def _reboot(self) -> None:
        """What is applied comes back by itself, whatever the last deployment made of it."""
        for environment in self._scenario.environments:
            await self._healing.behave_well(environment)
        self._power_cut()
        deadline = self._clock.monotonic() + _REST_SECONDS
        while not self._monitor.recorded.repaired and self._clock.monotonic() < deadline:
            await self._clock.sleep(1)
        for service in self._monitor.recorded.missing():
            self._trace.require(False, "what is applied comes back after a power cut", service)

    async def _warm(self) -> None:
        """All is deployed already; what goes wrong does so from now on."""
        faults, self._faults.over = self._faults.over, True
        await self._healing.warm()
        self._faults.over = faults
        self._trace.note("story", "everything runs, and things go wrong from now on")
        if self._faults.crashes or self._faults.freezes:
            self._die()  # the next server meets what was drawn

    # -- servers

    async def _serve(self) -> None:
        """One server after the other; the next one starts when the last one died or was given up."""
        while not self._closing.is_set():
            host = Host(f"server-{len(self._hosts) + 1}", self._trace)
            self._hosts[host.name] = host
            life = asyncio.ensure_future(self._live(host))
            await host.died.wait() if not self._faults.freezes else await self._until_given_up(host)
            if not host.stale:
                await asyncio.gather(life, return_exceptions=True)
                down = self._faults.pick(0.0, 0.5, 5.0, 30.0)
                await self._down(down)

    async def _down(self, seconds: float) -> None:
        self._monitor.outage += seconds + 1
        await self._clock.sleep(seconds)
        self._monitor.disturbed = self._clock.monotonic()

    async def _live(self, host: Host) -> None:
        crash = HostCrash(host, self._faults.crash_point(), self._faults.moment(2.0))
        database, clock = HostDatabase(self._store.database, host), HostClock(self._clock, host)
        platforms = dict.fromkeys(ClusterKind, self._seen_by(host, ""))
        worker = Server(
            database,
            self._sealer,
            clock,
            platforms,
            domain="localhost",
            capacity=self._capacity,
            crash=crash,
            owner=host.name,
        )
        worker.host = host
        self._server = worker
        self._doors[0].restart()
        self._monitor.owners[host.name] = host.name
        keeper = Reconciler(
            database, self._sealer, clock, dict.fromkeys(ClusterKind, self._seen_by(host, KEEPER))
        )
        clockwork = Clockwork(
            database, self._sealer, clock, dict.fromkeys(ClusterKind, self._seen_by(host, CLOCK))
        )
        clockwork.host = host
        self._world.building.clear()  # a server ends every build of its forerunners before it works
        works = (worker.run(), keeper.run(), *((clockwork.run(),) if self._scenario.timed else ()))
        tasks = [asyncio.ensure_future(work) for work in works]
        died = asyncio.ensure_future(host.died.wait())
        await asyncio.wait((*tasks, died), return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done() and not task.cancelled() and isinstance(task.exception(), Exception):
                self._trace.require(False, "no internal error", f"{host.name} ends: {task.exception()!r}")
        host.die()
        for task in (*tasks, died):
            task.cancel()
        await asyncio.gather(*tasks, died, return_exceptions=True)

    def _seen_by(self, host: Host, suffix: str) -> Platform:
        def seen(who: str, name: str, arguments: tuple[Any, ...], *, done: bool, asked: bool) -> None:
            late = asked and host.stale
            self._monitor.effect(who + suffix, name, arguments, done=done, late=late)

        return reached_by(self._platform, host, self._faults.against(host), seen)

    async def _until_given_up(self, host: Host) -> None:
        """Until it died, or froze for so long that it is taken for dead."""
        await self._clock.sleep(self._faults.sometime())
        while not (host.dead or self._faults.over) and (self._server is None or self._server.idle):
            await self._clock.sleep(0.05)  # a server that does nothing is not worth freezing
        if host.dead or self._faults.over:
            await host.died.wait()
            return
        self._faults.freezes = 0
        freezes = self._faults.pick(0, 1, 1) or host.is_cut_off
        host.stale = True
        (host.freeze if freezes else host.cut_off)()
        await self._down(_LEASE_SECONDS)
        self._later = asyncio.ensure_future(self._return(host, host.thaw if freezes else host.reconnect))

    async def _return(self, host: Host, back: Callable[[], None]) -> None:
        """It goes on where it was, until it notices that its time is over."""
        await self._clock.sleep(self._faults.sometime())
        back()
        await self._clock.sleep(self._faults.pick(0.01, 0.9))
        host.die()

    # -- what goes wrong

    def _disturbances(self) -> Iterator[Any]:
        for _ in range(self._faults.crashes):
            yield self._at(self._faults.sometime(), self._die)
        for _ in range(self._faults.partitions):
            yield self._at(self._faults.sometime(), self._cut_off)
        for _ in range(self._faults.power_cuts):
            yield self._at(self._faults.sometime(), self._power_cut)
        for _ in range(self._faults.deaths):
            yield self._at(self._faults.sometime(), self._instance_ends)
        for _ in range(self._faults.jumps):
            seconds = self._faults.pick(-3600.0, -5.0, 5.0, 3600.0, 3600.0)
            yield self._at(self._faults.sometime(), partial(self._jump, seconds))

    async def _at(self, when: float, what: Any) -> None:
        await self._clock.sleep(when)
        if not self._faults.over:
            what()

    def _die(self) -> None:
        alive = [h for h in self._hosts.values() if not h.dead]
        if alive and not alive[-1].frozen:
            alive[-1].die()

    def _cut_off(self) -> None:
        """For so short a time that nobody takes it for dead."""
        alive = [h for h in self._hosts.values() if not (h.dead or h.stale or h.is_cut_off)]
        if alive:
            seconds = self._faults.pick(0.1, 1.0, 8.0)
            self._monitor.outage += 2 * seconds + 1
            alive[-1].cut_off()
            asyncio.get_running_loop().call_later(seconds, alive[-1].reconnect)

    def _power_cut(self) -> None:
        self._trace.note("fault", "the power is cut")
        self._monitor.disturb_world()
        for key in [k for k, r in self._world.running.items() if not r.stopped]:
            del self._world.running[key]
        for host in self._hosts.values():
            host.die()

    def _instance_ends(self) -> None:
        self._monitor.disturb_world()
        self._faults.kill_one(self._world)

    def _jump(self, seconds: float) -> None:
        self._trace.note("fault", f"the wall clock jumps by {seconds:.0f} s")
        self._clock.jump(seconds)

    async def _watch(self) -> None:
        while True:
            await self._clock.sleep(_WATCH_SECONDS)
            if self._commits.last > self._monitor.disturbed:
                self._monitor.outage += self._commits.last - self._monitor.disturbed
                self._monitor.disturbed = self._commits.last
            if not any(not (host.dead or host.stale or host.is_cut_off) for host in self._hosts.values()):
                self._monitor.disturbed = self._clock.monotonic()
            self._monitor.tick()

    # -- clients

    def _callers(self) -> list[Any]:
        draw = stream(self._seed, "clients")
        made = []
        for number in range(draw.randint(1, 3)):
            caller = Caller(
                f"client-{number}",
                Client(draw.choice(self._doors), draw.choice(self._scenario.tokens)),
                stream(self._seed, f"client {number}"),
                self._scenario.environments,
                self._reader,
                self._monitor,
                self._trace,
                self._clock,
                self._scenario.calm,
            )
            made.append(caller.live(draw.randint(2, 7)))
        return made

    # -- the end

    async def _calm_down(self) -> None:
        self._faults.end()
        self._commits.rate = 0.0
        self._trace.note("story", "everything goes well from now on")
