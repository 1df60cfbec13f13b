"""What goes wrong in a seed, and when."""

import asyncio
from collections.abc import Callable
from typing import Any

from refloat.domain.errors import StepFailed
from refloat.execution.crash import Moment
from refloat.planning.plan import StepName
from refloat.routers.base import Answer
from refloat.simulated.world import World
from tests.simulation.seeded.host import NOTHING, Host, Interference
from tests.simulation.seeded.trace import Trace, stream

_STEPS = tuple(StepName)
_MOMENTS = tuple(Moment)
_REFUSES = frozenset({"prepare", "stop", "switch", "drain", "destroy"})
_SLOW = frozenset({*_REFUSES, "observe", "check", "ask", "build", "run"})


class Faults:
    """Drawn once from the seed; every kind is absent from many seeds, so that some are calm."""

    def __init__(self, seed: int, trace: Trace) -> None:
        self._draw = stream(seed, "faults")
        self._trace = trace
        self._effects = stream(seed, "effects")
        self._wakes = stream(seed, "wakes")
        self._repeats = stream(seed, "repeats")
        some = self._draw.random
        self.store_rate = self._draw.choice((0.02, 0.08, 0.2)) if some() < 0.3 else 0.0
        self.effect_rate = self._draw.choice((0.01, 0.05)) if some() < 0.3 else 0.0
        self.wake_loss = 0.4 if some() < 0.3 else 0.0
        self.crashes = self._draw.randint(1, 4) if some() < 0.5 else 0
        self.freezes = 1 if some() < 0.4 else 0
        self.partitions = self._draw.randint(1, 2) if some() < 0.25 else 0
        self.power_cuts = 1 if some() < 0.15 else 0
        self.deaths = self._draw.randint(1, 3) if some() < 0.2 else 0
        self.jumps = self._draw.randint(1, 3) if some() < 0.3 else 0
        self.over = False

    def end(self) -> None:
        """From now on everything goes well."""
        self.over = True

    def wake(self, wake: Callable[[], None]) -> None:
        """A wake-up of the worker that may be lost or doubled."""
        if self.over or self._wakes.random() >= self.wake_loss:
            wake()
            if self._wakes.random() < self.wake_loss:
                asyncio.get_running_loop().call_later(self._wakes.random(), wake)

    def crash_point(self) -> Callable[[str, Moment], bool]:
        """A drawn place in the journal at which one server dies; never, when all crashes were used."""
        if self.over or self.crashes == 0 or self._draw.random() < 0.3:
            return lambda step, moment: False
        step, moment = self._draw.choice(_STEPS), self._draw.choice(_MOMENTS)
        left = [self._draw.randint(1, 2)]

        def here(at: str, when: Moment) -> bool:
            if self.over or (at, when) != (step, moment):
                return False
            left[0] -= 1
            if left[0] == 0:
                self.crashes -= 1
            return left[0] == 0

        return here

    def against(self, host: Host) -> Interference:
        """What goes wrong with the effects of one server, beside what kills it anyway."""

        async def interfere(who: str, name: str, arguments: tuple[Any, ...]) -> Any:
            if self._is_in_a_repeat(name, arguments) and self._repeats.random() < 0.6:
                self._trace.note("fault", f"{who}: {name} is deadly")
                if self._repeats.random() < 0.4:
                    host.die()
                else:  # as it is done, or later
                    seconds = self._repeats.choice((0.0, self._repeats.random() * 1.5))
                    asyncio.get_running_loop().call_later(seconds, host.die)
            return await self._interfere(who, name, arguments)

        return interfere

    def _is_in_a_repeat(self, name: str, arguments: tuple[Any, ...]) -> bool:
        """Whether a job is tried again: an attempt is ended, or the second one begins."""
        begins = name == "run" and str(arguments[2]).endswith(".2")
        return not self.over and (begins or name == "forget_run")

    async def _interfere(self, who: str, name: str, arguments: tuple[Any, ...]) -> Any:
        """The engine, the router or the builder hangs, refuses or lies."""
        if self.over or not self.effect_rate or self._effects.random() >= self.effect_rate:
            return NOTHING
        kind = self._effects.choice(("slow", "slow", "refuse", "lie", "hang"))
        if kind in ("slow", "hang") and name in _SLOW:
            seconds = self._effects.choice((0.3, 3.0, 12.0)) if kind == "slow" else 300.0
            self._trace.note("fault", f"{who}: {name} takes {seconds} s more")
            await asyncio.sleep(seconds)
        if kind == "refuse" and name in _REFUSES:
            self._trace.note("fault", f"{who}: {name} is refused")
            raise StepFailed(f"{name} is refused: injected")
        lies = {
            "observe": (),
            "executing": (),
            "check": "no answer",
            "ask": Answer(status=503, endpoint="", reason="injected"),
        }
        if kind == "lie" and name in lies:
            self._trace.note("fault", f"{who}: {name} lies")
            return lies[name]
        return NOTHING

    def kill_one(self, world: World) -> bool:
        """One of the things that run ends by itself, as after a lack of memory."""
        alive = [key for key, running in world.running.items() if not running.stopped]
        if alive:
            key = self._draw.choice(alive)
            self._trace.note("fault", f"{world.running[key].revision.name} ends by itself")
            del world.running[key]
        return bool(alive)

    def moment(self, longest: float) -> float:
        """A drawn time."""
        return self._draw.random() * longest

    def sometime(self) -> float:
        """A drawn time of the story: most clients have asked for everything after some seconds."""
        return self._draw.random() * self._draw.choice((3.0, 12.0, 40.0))

    def pick(self, *choices: float) -> float:
        return self._draw.choice(choices)
