"""How long each step may take, in seconds, and which progress it shows."""

from refloat.domain.progress import Phase
from refloat.domain.services import Probe
from refloat.execution.readiness import BOOT_SECONDS
from refloat.planning.plan import StepName

BUILD_SECONDS = 1800.0

DEADLINES = {
    StepName.BUILD: BUILD_SECONDS + 30,
    StepName.EXECUTE: 600.0,
    StepName.PREPARE: 60.0,
    StepName.SWITCH: 15.0,
    StepName.VERIFY: 60.0,
    StepName.WITHDRAW: 15.0,
    StepName.DESTROY: 60.0,
    StepName.REVERT: 180.0,
}
"""Of steps whose time depends on nothing."""

PHASES = {
    StepName.BUILD: Phase.BUILDING,
    StepName.PREPARE: Phase.RUNNING,
    StepName.READY: Phase.RUNNING,
    StepName.SWITCH: Phase.RUNNING,
    StepName.VERIFY: Phase.RUNNING,
    StepName.WITHDRAW: Phase.RUNNING,
    StepName.DRAIN: Phase.RUNNING,
    StepName.STOP: Phase.RUNNING,
    StepName.DESTROY: Phase.RUNNING,
}


def ready_deadline(probe: Probe | None) -> float:
    """The wait for readiness ends by itself; this is for the case that it does not."""
    if probe is None:
        return BOOT_SECONDS + 30
    per_try = probe.timeout_seconds + probe.period_seconds
    return probe.initial_delay_seconds + per_try * probe.failure_threshold + 30
