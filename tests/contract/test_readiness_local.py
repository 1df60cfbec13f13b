"""Waiting for real processes that open other ports than their own."""

import time
from collections.abc import AsyncIterator

import pytest
from engines_support import PYTHON, LocalRig, changed, command, local, revision

from refloat.clock import SystemClock
from refloat.domain.errors import StepFailed
from refloat.domain.revision import Revision
from refloat.domain.services import Probe, TcpCheck
from refloat.execution.readiness import ReadinessWait

_SPEED = 10
_LISTEN = """
import os, socket, subprocess, sys, time
def listen(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family)
    made.bind((host, port))
    made.listen()
    print("listens on", made.getsockname()[1], flush=True)
    return made
own = int(os.environ["PORT"])
"""


class Hurried(SystemClock):
    """Durations seem longer than they are, so that a patient wait is over soon."""

    def monotonic(self) -> float:
        return time.monotonic() * _SPEED


@pytest.fixture
async def rig() -> AsyncIterator[LocalRig]:
    async with local() as made:
        yield made


def python(text: str, it: Revision | None = None) -> Revision:
    return command(it or revision(), PYTHON, "-I", "-c", _LISTEN + text)


async def failure(rig: LocalRig, it: Revision) -> StepFailed:
    await rig.engine.prepare(it)
    with pytest.raises(StepFailed) as raised:
        await ReadinessWait(rig.engine, Hurried(), it, routed=True).until_ready()
    return raised.value


async def test_an_application_on_another_port_fails_with_both_ports_and_what_to_do(rig: LocalRig) -> None:
    it = python("kept = listen('0.0.0.0', 0); time.sleep(1000)")
    error = await failure(rig, it)
    (instance,) = await rig.engine.observe()
    own = instance.endpoint.rpartition(":")[2]
    port = error.log[-1].removeprefix("listens on ")
    assert error.message == (
        f"not ready: nothing listens on 127.0.0.1:{own}; "
        f"it listens on 0.0.0.0:{port}, expected was PORT={own} of HOST=127.0.0.1"
    )
    assert "$PORT" in error.hint


async def test_a_port_that_only_ipv6_reaches_is_another_one(rig: LocalRig) -> None:
    it = python("kept = listen('::1', own); time.sleep(1000)")
    error = await failure(rig, it)
    assert "it listens on [::1]:" in error.message


async def test_what_a_child_of_the_command_listens_on_counts(rig: LocalRig) -> None:
    inner = "import socket, time; kept = socket.create_server(('127.0.0.1', 0)); time.sleep(1000)"
    error = await failure(rig, python(f"subprocess.run([sys.executable, '-c', {inner!r}])"))
    assert "it listens on 127.0.0.1:" in error.message


async def test_who_declared_a_probe_is_told_the_other_port_when_its_time_is_over(rig: LocalRig) -> None:
    probe = Probe(tcp=TcpCheck(), initial_delay_seconds=40, period_seconds=1, failure_threshold=1)
    it = python("kept = listen('127.0.0.1', 0); time.sleep(1000)", changed(revision(), readiness=probe))
    assert "it listens on 127.0.0.1:" in (await failure(rig, it)).message
