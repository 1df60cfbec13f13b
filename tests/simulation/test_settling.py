"""How long an application that listens on another port is waited for, in virtual time."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from refloat.domain.errors import StepFailed
from refloat.domain.revision import Artifact, Instance, LogLine, Revision
from refloat.domain.services import Probe, TcpCheck
from refloat.execution.readiness import ASTRAY_SECONDS, BOOT_SECONDS, SETTLED_SECONDS, ReadinessWait
from refloat.simulated.engine import SimulatedEngine
from refloat.simulated.script import VARIABLE
from refloat.simulated.world import World
from tests.simulation.seeded.loop import VirtualClock, VirtualLoop

_SOME_TIME = datetime(2030, 1, 1, tzinfo=UTC)
_FIRST, _SECOND = "127.0.0.1:9464", "127.0.0.1:5000"


class Starting(SimulatedEngine):
    """A start in steps: where it listens and how much it has said are functions of the time."""

    def __init__(
        self,
        clock: VirtualClock,
        ready: float = 1e9,
        ports: Callable[[float], tuple[str, ...]] = lambda _: (_FIRST,),
        lines: Callable[[float], int] = lambda _: 1,
    ) -> None:
        super().__init__(World(), clock)
        self._time = clock
        self._ready, self._ports, self._said = ready, ports, lines

    async def check(self, instance: Instance, probe: Probe, timeout: float) -> str:
        return "" if self._time.monotonic() >= self._ready else "nothing listens"

    async def elsewhere(self, instance: Instance) -> tuple[str, ...]:
        return self._ports(self._time.monotonic())

    async def logs(self, revision_key: str, tail: int) -> tuple[LogLine, ...]:
        count = self._said(self._time.monotonic())
        lines = [LogLine(at=_SOME_TIME, stream="out", text=f"line {number}") for number in range(count)]
        return tuple(lines[-tail:])


def revision(probe: Probe | None = None) -> Revision:
    return Revision(
        key="web.1",
        service_id="web",
        environment_id="shop",
        deployment_id="one",
        fence=1,
        name="web",
        artifact=Artifact(key="a", location="", web=()),
        command=("serve",),
        environment={VARIABLE: "boot=elsewhere"},
        readiness=probe,
    )


def waited(
    make: Callable[[VirtualClock], SimulatedEngine], it: Revision, *, routed: bool = True
) -> tuple[float, StepFailed | None]:
    """The virtual seconds until it was ready or had failed, and how it failed."""

    async def wait() -> StepFailed | None:
        engine = make(clock)
        await engine.prepare(it)
        try:
            await ReadinessWait(engine, clock, it, routed=routed).until_ready()
        except StepFailed as error:
            return error
        return None

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        clock = VirtualClock(loop)
        error = runner.run(wait())
        return clock.monotonic(), error


def test_one_that_listens_elsewhere_and_is_silent_fails_soon_and_says_both_ports() -> None:
    took, error = waited(lambda clock: SimulatedEngine(World(), clock), revision())
    assert error is not None and "it listens on 127.0.0.1:5000, expected was PORT=" in error.message
    assert "$PORT" in error.hint
    assert SETTLED_SECONDS <= took < SETTLED_SECONDS + 3


def test_one_that_listens_elsewhere_and_goes_on_talking_has_its_time() -> None:
    took, error = waited(lambda clock: Starting(clock, 25, lines=lambda at: 1 + int(at / 5)), revision())
    assert error is None and 25 <= took < 26


def test_one_that_never_opens_its_own_port_fails_whatever_it_says() -> None:
    ports = lambda at: () if at < 40 else (f"127.0.0.1:{9000 + int(at / 7)}",)  # noqa: E731
    talking = lambda clock: Starting(clock, ports=ports, lines=lambda at: 1 + int(at * 3))  # noqa: E731
    took, error = waited(talking, revision())
    assert error is not None and "it listens on 127.0.0.1:" in error.message
    assert 40 + ASTRAY_SECONDS <= took < 40 + ASTRAY_SECONDS + 3
    assert "initial_delay_seconds" in error.hint


def test_one_that_opens_one_port_after_another_has_its_time() -> None:
    ports = lambda at: (_FIRST,) if at < 8 else (_SECOND, _FIRST)  # noqa: E731
    took, error = waited(lambda clock: Starting(clock, 16, ports), revision())
    assert error is None and 16 <= took < 17


def test_one_that_opens_the_other_port_late_is_given_the_whole_settling_time() -> None:
    ports = lambda at: () if at < 30 else (_FIRST,)  # noqa: E731
    took, error = waited(lambda clock: Starting(clock, ports=ports), revision())
    assert error is not None and 30 + SETTLED_SECONDS <= took < 30 + SETTLED_SECONDS + 3


def test_one_that_listens_nowhere_has_all_the_time_of_a_start() -> None:
    took, error = waited(lambda clock: Starting(clock, ports=lambda _: ()), revision())
    assert error is not None and "listens on" not in error.message and took >= BOOT_SECONDS


@pytest.mark.parametrize("delay", [SETTLED_SECONDS * 3, SETTLED_SECONDS * 20])
def test_a_declared_readiness_delay_is_respected(delay: int) -> None:
    probe = Probe(tcp=TcpCheck(), initial_delay_seconds=delay, period_seconds=1, failure_threshold=1)
    took, error = waited(lambda clock: Starting(clock), revision(probe))
    assert error is not None and f"it listens on {_FIRST}" in error.message
    assert delay <= took < delay + 3


def test_one_that_opens_an_admin_port_first_has_the_delay_that_it_declares() -> None:
    probe = Probe(tcp=TcpCheck(), initial_delay_seconds=100, period_seconds=1, failure_threshold=1)
    late = lambda clock: Starting(clock, 2 * ASTRAY_SECONDS)  # noqa: E731
    took, error = waited(late, revision(probe))
    assert error is None and 2 * ASTRAY_SECONDS <= took < 2 * ASTRAY_SECONDS + 1
    assert waited(late, revision())[1] is not None
