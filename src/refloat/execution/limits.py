"""How long each step may take, in seconds, and which progress it shows."""

import msgspec

from refloat.domain.progress import Action, Phase
from refloat.domain.services import Job, Probe, Workload
from refloat.execution.applied import Applied
from refloat.execution.executing import job_deadline
from refloat.execution.readiness import BOOT_SECONDS
from refloat.execution.snapshot import ServiceSnapshot
from refloat.planning.plan import ServicePlan, StepName
from refloat.store.sealing import Sealer

BUILD_SECONDS = 1800.0
PARALLEL = 7
"""How many services of a stage are worked on at once."""

DEADLINES = {
    StepName.PRECHECK: 120.0,
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


class ServiceLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What the deadlines of one service's steps depend on. `runs` is how often a job is tried, 0: no job."""

    readiness: Probe | None = None
    job_seconds: float = 0.0
    runs: int = 0
    grace_seconds: float = 10.0
    drain_seconds: float = 30.0

    def deadline(self, name: StepName) -> float:
        """Seconds after its beginning at which the step has ended, whatever it works with does."""
        if name is StepName.EXECUTE and self.runs:
            return self.job_seconds
        if name is StepName.READY:
            return ready_deadline(self.readiness)
        if name in (StepName.SWITCH, StepName.VERIFY):  # should the revision have to be started again
            return DEADLINES[name] + ready_deadline(self.readiness)
        if name is StepName.DRAIN:
            return self.drain_seconds + 15
        if name in (StepName.STOP, StepName.DISCARD):
            return self.grace_seconds + 20
        return DEADLINES[name]

    @property
    def undo_seconds(self) -> float:
        """How long returning to what was applied before may take; what is begun anew is ended first."""
        return self.deadline(StepName.REVERT) + 2 * self.deadline(StepName.DISCARD)


def limits_of(
    plan: ServicePlan,
    snapshot: ServiceSnapshot | None,
    before: Applied | None,
    sealer: Sealer,
    drain_seconds: float,
) -> ServiceLimits:
    """Of a service in a deployment: as it is deployed, or as it runs when the action deploys nothing."""
    service = snapshot.service if snapshot else None
    old = before.revision(sealer) if before else None
    readiness = service.healthchecks.readiness_probe if isinstance(service, Workload) else None
    return ServiceLimits(
        readiness=readiness if plan.action is Action.DEPLOY else old.readiness if old else None,
        job_seconds=job_deadline(service) if isinstance(service, Job) else 0.0,
        runs=service.max_nb_restart + 1 if isinstance(service, Job) else 0,
        grace_seconds=old.grace_seconds if old else 10.0,
        drain_seconds=drain_seconds,
    )


def ready_deadline(probe: Probe | None) -> float:
    """The wait for readiness ends by itself; this is for the case that it does not."""
    if probe is None:
        return BOOT_SECONDS + 30
    per_try = probe.timeout_seconds + probe.period_seconds
    return probe.initial_delay_seconds + per_try * probe.failure_threshold + 30
