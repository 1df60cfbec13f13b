"""Waiting until a revision is ready, and asking whether it answers through its route."""

from collections.abc import Awaitable, Callable, Sequence

from refloat.clock import Clock
from refloat.domain.deployment import Attempt
from refloat.domain.errors import StepFailed
from refloat.domain.revision import Instance, InstanceState, Revision
from refloat.domain.services import Probe, TcpCheck
from refloat.engines.base import Engine
from refloat.routers.base import Answer, Router

BOOT_SECONDS = 120
"""How long a service without a readiness probe may take to listen."""
SETTLED_SECONDS = 10
"""How long a service without a readiness probe may listen only elsewhere, and say nothing, before it has
failed. Long, because some open a port for their measurements first. Who needs longer declares a probe."""
ASTRAY_SECONDS = 30
"""The same for one that goes on talking, or opens one port after another, and never its own."""
ALIVE_SECONDS = 1.0
"""How long a service that listens nowhere must live to count as started."""
VERIFY_SECONDS = 15.0
_RESTARTS_ALLOWED = 2
_NOT_RUNNABLE = (126, 127)
_FIRST_PAUSE, _SHORTEST_PAUSE, _LONGEST_PAUSE = 0.01, 0.005, 0.2
_PAUSE_SHARE = 0.08
"""Of the time waited so far: readiness is seen at most this much later than it is there."""
_LAST_LINES = 20
_LOOK_EVERY = 1.0

_USE_PORT = (
    "let its command listen on $PORT, for example in the Procfile: web: python app.py --port $PORT; "
    "one that opens its port later declares a readiness probe with an initial_delay_seconds"
)

Note = Callable[[Attempt], Awaitable[None]]
"""Told before each further try; what it raises ends the work."""

_LISTENS = Probe(tcp=TcpCheck(), initial_delay_seconds=BOOT_SECONDS, period_seconds=1, failure_threshold=1)


class ReadinessWait:
    """Watches the instances of one revision until all are ready, or one cannot become so."""

    def __init__(
        self, engine: Engine, clock: Clock, revision: Revision, *, routed: bool, note: Note | None = None
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._revision = revision
        self._probe = revision.readiness or (_LISTENS if routed else None)
        self._note = note
        self._settling: tuple[object, float] = ((), 0.0)
        self._astray_since: float | None = None
        self._look_again = 0.0

    async def until_ready(self) -> None:
        """Raises StepFailed with the reason and the last log lines."""
        started = self._clock.monotonic()
        failures, successes, counted_at = 0, 0, started
        while True:
            instances = await self._instances()
            await self._fail_if_dead(instances)
            now = self._clock.monotonic()
            complaint = await self._complaint(instances, now - started)
            if not complaint:
                successes += 1
                if self._probe is None or successes >= self._probe.success_threshold:
                    return
            elif astray := await self._settled_elsewhere(instances, now):
                raise await self._failure(f"not ready: {complaint}", astray)
            elif self._counts(now - started, failures, now - counted_at):
                failures, counted_at = failures + 1, now
                await self._count(failures, complaint, instances)
            waited = self._clock.monotonic() - started
            await self._clock.sleep(min(max(_SHORTEST_PAUSE, waited * _PAUSE_SHARE), _LONGEST_PAUSE))

    def _counts(self, elapsed: float, failures: int, since_last: float) -> bool:
        """Whether a failure at this time is one of those that are counted."""
        if self._probe is None or elapsed < self._probe.initial_delay_seconds:
            return False
        return failures == 0 or since_last >= self._probe.period_seconds

    async def _count(self, failures: int, complaint: str, instances: Sequence[Instance]) -> None:
        most = self._probe.failure_threshold if self._probe else 1
        if failures >= most:
            raise await self._failure(f"not ready: {complaint}", await self._elsewhere(instances))
        if self._note:
            await self._note(Attempt(number=failures + 1, most=most, complaint=complaint))

    async def _instances(self) -> list[Instance]:
        found = await self._engine.observe(self._revision.environment_id)
        return [i for i in found if i.revision_key == self._revision.key]

    async def _complaint(self, instances: Sequence[Instance], elapsed: float) -> str:
        """Why it is not ready, or ""."""
        if len(instances) < self._revision.instances:
            return "not all instances were started"
        if self._probe is None:
            return "" if elapsed >= ALIVE_SECONDS and _all_run(instances) else "it has just been started"
        for instance in instances:
            if instance.state is not InstanceState.RUNNING:
                return f"instance {instance.index} is {instance.state}"
            if answer := await self._engine.check(instance, self._probe, self._probe.timeout_seconds):
                return answer
        return ""

    async def _fail_if_dead(self, instances: Sequence[Instance]) -> None:
        for instance in instances:
            hopeless = instance.state is InstanceState.EXITED or instance.exit_code in _NOT_RUNNABLE
            if hopeless or instance.restarts >= _RESTARTS_ALLOWED:
                raise await self._failure(_died(instance, self._revision.command))

    async def _settled_elsewhere(self, instances: Sequence[Instance], now: float) -> str:
        """Where it has listened for too long to be still starting; or "". Unchanged and silent counts sooner.

        Somebody who declared a probe said how long to wait, and is believed.
        """
        if self._probe is not _LISTENS or now < self._look_again:
            return ""
        self._look_again = now + _LOOK_EVERY
        astray = await self._elsewhere(instances)
        if not astray:
            self._astray_since = None
            return ""
        last = await self._engine.logs(self._revision.key, 1)
        if self._astray_since is None:
            self._astray_since = now
        if self._astray_since == now or (astray, last) != self._settling[0]:
            self._settling = ((astray, last), now)
        is_over = now - self._settling[1] >= SETTLED_SECONDS or now - self._astray_since >= ASTRAY_SECONDS
        return astray if is_over else ""

    async def _elsewhere(self, instances: Sequence[Instance]) -> str:
        """Where the first instance that is not at its endpoint listens, in words; or ""."""
        for instance in instances:
            if instance.state is InstanceState.RUNNING and (found := await self._engine.elsewhere(instance)):
                host, _, port = instance.endpoint.rpartition(":")
                return f"it listens on {', '.join(found)}, expected was PORT={port} of HOST={host}"
        return ""

    async def _failure(self, message: str, astray: str = "") -> StepFailed:
        message, hint = (f"{message}; {astray}", _USE_PORT) if astray else (message, "")
        return StepFailed(message, hint=hint, log=await last_words(self._engine, self._revision.key))


async def last_words(engine: Engine, revision_key: str) -> tuple[str, ...]:
    """The last lines that what failed wrote itself."""
    return tuple(line.text for line in await engine.logs(revision_key, _LAST_LINES))


def _all_run(instances: Sequence[Instance]) -> bool:
    return all(i.state is InstanceState.RUNNING for i in instances)


def _died(instance: Instance, command: Sequence[str]) -> str:
    if instance.exit_code in _NOT_RUNNABLE:
        return f"its command cannot be run (exit code {instance.exit_code}): {' '.join(command)}"
    return f"it ended with exit code {instance.exit_code} instead of serving"


async def verify_route(
    router: Router, clock: Clock, service_id: str, endpoints: Sequence[str], path: str, timeout: float
) -> Answer:
    """Ask through the public route until one of the endpoints itself answered below 500.

    Raises StepFailed saying what the last answer was.
    """
    deadline = clock.monotonic() + VERIFY_SECONDS
    pause = _FIRST_PAUSE
    while True:
        answer = await router.ask(service_id, path, timeout)
        if answer.endpoint in endpoints and 0 < answer.status < 500:
            return answer
        if clock.monotonic() >= deadline:
            raise StepFailed(f"not verified through its public route: {_refusal(answer, endpoints)}")
        await clock.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


def _refusal(answer: Answer, endpoints: Sequence[str]) -> str:
    if answer.endpoint in endpoints:
        return f"it answered {answer.status}"
    if answer.endpoint:
        return "another revision answered; the route was not switched"
    return answer.reason or f"the edge answered {answer.status}"
