"""The simulated engine: instances that take the scripted time and end the scripted way."""

import asyncio
from collections.abc import Callable

from refloat.clock import Clock
from refloat.domain.errors import CommandStopped, StepFailed
from refloat.domain.revision import (
    Capabilities,
    Executing,
    Instance,
    InstanceState,
    Level,
    LogLine,
    LogSink,
    Ran,
    Remembered,
    Revision,
)
from refloat.domain.services import Probe
from refloat.simulated.world import Command, Running, World, script_of_revision

_FOREVER = 10**9
_FIRST_PORT = 30_000
_DATABASES = {
    "MONGODB": ("4", "5", "6", "7"),
    "MYSQL": ("5", "8"),
    "POSTGRESQL": ("11", "12", "13", "14", "15", "16", "17", "18"),
    "REDIS": ("5", "6", "7", "8"),
}


class SimulatedEngine:
    """Implements the engine port on a `World`."""

    def __init__(self, world: World, clock: Clock) -> None:
        self._world = world
        self._clock = clock

    def capabilities(self) -> Capabilities:
        return Capabilities(
            kind="simulated",
            service_kinds=("application", "container", "database", "job"),
            isolation=True,
            limits=True,
            databases=_DATABASES,
            notes=("runs nothing",),
        )

    async def prepare(self, revision: Revision) -> tuple[Instance, ...]:
        self._world.guard(revision)
        known = self._world.running.get(revision.key)
        if known and known.endings:
            await self.stop(revision.key, revision.grace_seconds)
            self._world.guard(revision)  # it took long enough to be replaced meanwhile
            known = self._world.running.get(revision.key)
        if known is None or known.stopped or self._state(known) is InstanceState.EXITED:
            self._start(revision)
        return self._instances(self._world.running[revision.key])

    def _start(self, revision: Revision) -> None:
        script = self._world.behaves(revision.service_id, script_of_revision(revision))
        boot = script.word("boot", self._world.turn(revision.service_id, "boot"))
        running = Running(revision, script, boot, self._clock.monotonic())
        running.log.append(self._line(f"{revision.name} starts"))
        if boot == "exit":
            running.log.append(self._line("cannot start: scripted to exit"))
        self._world.running[revision.key] = running

    def _line(self, text: str) -> LogLine:
        return LogLine(at=self._clock.now(), stream="out", text=text)

    def _instances(self, running: Running) -> tuple[Instance, ...]:
        revision = running.revision
        return tuple(
            Instance(
                revision_key=revision.key,
                service_id=revision.service_id,
                environment_id=revision.environment_id,
                deployment_id=revision.deployment_id,
                index=index,
                state=self._state(running),
                endpoint=f"{revision.key}/{index}",
                exit_code=1 if self._state(running) is InstanceState.EXITED else None,
            )
            for index in range(revision.instances)
        )

    def _state(self, running: Running) -> InstanceState:
        if running.endings:
            return InstanceState.STOPPING
        if self._clock.monotonic() - running.started < running.script.seconds("boot_seconds"):
            return InstanceState.STARTING
        return InstanceState.EXITED if running.boot == "exit" else InstanceState.RUNNING

    async def observe(self, environment_id: str | None = None) -> tuple[Instance, ...]:
        return tuple(
            instance
            for running in self._world.running.of_environment(environment_id)
            if not running.stopped
            for instance in self._instances(running)
        )

    async def reserve(self, service_id: str) -> str:
        reserved = self._world.reserved
        return f"127.0.0.1:{reserved.setdefault(service_id, _FIRST_PORT + len(reserved))}"

    async def run(self, revision: Revision, argv: tuple[str, ...], key: str, log: LogSink) -> Ran:
        self._world.guard(revision)
        if key in self._world.runs:
            return Ran(exit_code=self._world.runs[key])
        command = self._world.commands.get(key)
        if command is None:
            log(Level.INFO, f"running {' '.join(argv)}")
            command = self._world.commands[key] = self._begin(revision, key)
        try:
            return Ran(exit_code=await asyncio.shield(command.task))
        except asyncio.CancelledError:
            if not command.task.cancelled():
                raise
            raise CommandStopped("the command was stopped before it ended", hint="deploy again") from None

    def _begin(self, revision: Revision, key: str) -> Command:
        what = Executing(
            key=key,
            revision_key=revision.key,
            service_id=revision.service_id,
            environment_id=revision.environment_id,
        )
        return Command(asyncio.create_task(self._carry_out(revision, key)), what)

    async def _carry_out(self, revision: Revision, key: str) -> int:
        script = self._world.behaves(revision.service_id, script_of_revision(revision))
        word = script.word("release", self._world.turn(revision.service_id, "release"))
        self._world.executing.add(key)
        try:
            await self._clock.sleep(_FOREVER if word == "hang" else script.seconds("release_seconds"))
            self._world.ran.append(key)
            return self._world.runs.setdefault(key, 1 if word == "fail" else 0)
        finally:
            self._world.executing.discard(key)
            self._world.commands.pop(key, None)

    async def executing(self, environment_id: str | None = None) -> tuple[Executing, ...]:
        known = [command.what for command in self._world.commands.values()]
        return tuple(it for it in known if environment_id in (None, it.environment_id))

    async def _end_commands(self, meant: Callable[[Executing], bool]) -> None:
        tasks = [command.task for command in self._world.commands.values() if meant(command.what)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def forget_run(self, key: str) -> None:
        if command := self._world.commands.get(key):
            command.task.cancel()
            await asyncio.gather(command.task, return_exceptions=True)
        self._world.runs.pop(key, None)

    async def check(self, instance: Instance, probe: Probe, timeout: float) -> str:
        running = self._world.running.get(instance.revision_key)
        if running is None or running.stopped or self._state(running) is not InstanceState.RUNNING:
            return "nothing listens"
        if running.boot == "elsewhere":
            return f"nothing listens on {instance.endpoint}"
        return "no answer" if running.boot == "hang" else ""

    async def elsewhere(self, instance: Instance) -> tuple[str, ...]:
        running = self._world.running.get(instance.revision_key)
        astray = running and not running.stopped and running.boot == "elsewhere"
        return ("127.0.0.1:5000",) if astray and instance.state is InstanceState.RUNNING else ()

    async def logs(self, revision_key: str, tail: int) -> tuple[LogLine, ...]:
        running = self._world.running.get(revision_key)
        return tuple(running.log[-tail:]) if running else ()

    async def stop(self, revision_key: str, grace_seconds: float) -> None:
        await self._end_commands(lambda it: it.revision_key == revision_key)
        running = self._world.running.get(revision_key)
        if running is None or running.stopped:
            return
        service_id = running.revision.service_id
        script = self._world.behaves(service_id, running.script)
        word = script.word("stop", self._world.turn(service_id, "stop"))
        seconds = _FOREVER if word == "hang" else script.seconds("stop_seconds")
        ending = asyncio.create_task(self._end(running, seconds, fails=word == "fail"))
        running.endings.add(ending)
        await asyncio.shield(ending)
        if word == "fail":
            raise StepFailed(f"{running.revision.name} cannot be stopped: scripted to fail")

    async def _end(self, running: Running, seconds: float, *, fails: bool) -> None:
        """What was told to end does so whatever becomes of whoever told it."""
        task = asyncio.current_task()
        try:
            await self._clock.sleep(seconds)
            running.stopped = running.stopped or not fails
        finally:
            running.endings.discard(task)

    async def remember(self, service_id: str, document: str) -> None:
        self._world.inventory[service_id] = document

    async def remembered(self) -> tuple[Remembered, ...]:
        last: dict[str, int] = {}
        for key in (*self._world.running, *(".".join(run.split(".")[:2]) for run in self._world.runs)):
            service_id, _, number = key.rpartition(".")
            last[service_id] = max(last.get(service_id, 0), int(number) if number.isdecimal() else 0)
        return tuple(
            Remembered(service_id=service_id, document=document, last_number=last.get(service_id, 0))
            for service_id, document in sorted(self._world.inventory.items())
        )

    async def destroy(self, service_id: str) -> None:
        if (
            self._world.script_of(service_id).word("destroy", self._world.turn(service_id, "destroy"))
            == "fail"
        ):
            raise StepFailed("the service cannot be removed: scripted to fail")
        await self._end_commands(lambda it: it.service_id == service_id)
        self._world.inventory.pop(service_id, None)
        for key, running in list(self._world.running.items()):
            if running.revision.service_id == service_id:
                del self._world.running[key]
