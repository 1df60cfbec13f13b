"""What one deployment knows of one service: its plan, what was applied before, and the revision it makes."""

from functools import cached_property

import msgspec

from refloat.domain.progress import Action
from refloat.domain.revision import Artifact, Instance, Revision
from refloat.domain.services import Command, Job
from refloat.execution.applied import Applied
from refloat.execution.limits import ServiceLimits, limits_of
from refloat.execution.means import Means
from refloat.execution.outputs import JobOutput, stored_outputs
from refloat.execution.platform import Platform
from refloat.execution.revisions import event_of, in_hands_of, revision_of
from refloat.execution.snapshot import ServiceSnapshot
from refloat.planning.plan import ServicePlan, StepName

ARTIFACT = "artifact"
"""What a build leaves in the journal for later steps."""


class ServiceInDeployment:
    """One service, as one deployment sees it.

    `before` is what was applied when the deployment was claimed; `snapshot` is absent for actions that
    do not need configuration.
    """

    def __init__(
        self,
        means: Means,
        plan: ServicePlan,
        stage_position: int,
        snapshot: ServiceSnapshot | None,
        before: Applied | None,
        fields: dict[str, str],
        *,
        alone: bool = False,
        builds_after: int = 0,
    ) -> None:
        """`alone`: nothing else is in its stage. `builds_after`: how many builds the stages after it do side
        by side."""
        self.plan = plan
        self._means = means
        self._stage_position = stage_position
        self._snapshot = snapshot
        self._before = before
        self._fields = fields
        self._alone = alone
        self._builds_after = builds_after
        self._built: Artifact | None = None
        self._outputs: dict[str, str] | None = None
        self._produced: dict[str, JobOutput] = {}

    @property
    def service_id(self) -> str:
        return self.plan.service_id

    @property
    def secrets(self) -> tuple[str, ...]:
        """Values that logs must not show."""
        return (*(self._snapshot.secrets if self._snapshot else ()), *(self._outputs or {}).values())

    @property
    def main(self) -> tuple[StepName, ...]:
        """The steps that decide the outcome."""
        return self.plan.steps[: len(self.plan.steps) - len(self.tail)]

    @property
    def following_build(self) -> StepName | None:
        """The step that may be written down together with the end of the build: alone in its stage, it waits
        for no build of others."""
        return next(iter(self.main[1:]), None) if self._alone else None

    @property
    def tail(self) -> tuple[StepName, ...]:
        """Steps after a verified switch: the old revision drains and stops, the outcome stands."""
        if StepName.VERIFY not in self.plan.steps:
            return ()
        return self.plan.steps[self.plan.steps.index(StepName.VERIFY) + 1 :]

    @property
    def touched(self) -> bool:
        """Whether anything that runs or is routed may have been changed."""
        changing = (StepName.PREPARE, StepName.SWITCH, StepName.WITHDRAW, StepName.DRAIN, StepName.STOP)
        return any(self._means.journal.begun(self.service_id, name) for name in changing)

    @property
    def executing(self) -> bool:
        """Whether a command of it may run: begun, by us or by a former owner, and not known to have ended."""
        journal = self._means.journal
        begun = journal.begun(self.service_id, StepName.EXECUTE)
        return begun and journal.output(self.service_id, StepName.EXECUTE) is None

    @property
    def _job(self) -> Job | None:
        service = self._snapshot.service if self._snapshot else None
        return service if isinstance(service, Job) else None

    @property
    def _event(self) -> str:
        """What a job's run is called: the event that was asked for, else the action."""
        asked = self._means.journal.deployment.request.event
        return f"asked-{asked.lower()}" if asked else str(self.plan.action)

    @property
    def _command(self) -> Command | None:
        """What a job runs in this deployment, if anything."""
        asked, job = self._means.journal.deployment.request.event, self._job
        if job is None:
            return None
        return job.at(asked) if asked else event_of(job, self.plan.action)

    async def _read_outputs(self) -> dict[str, str]:
        """Of jobs that ran in earlier stages or deployments."""
        environment_id = self._means.journal.deployment.environment_id
        return await stored_outputs(self._means.read, self._means.sealer, environment_id)

    def _artifact(self) -> Artifact:
        if self.plan.action is not Action.DEPLOY:
            return self._old.artifact
        if StepName.BUILD not in self.plan.steps:
            image = self._snapshot.image if self._snapshot else ""
            return Artifact(key=image, location=image, web=())
        if self._built is None:
            output = self._means.journal.output(self.service_id, StepName.BUILD)
            assert output is not None
            self._built = msgspec.convert(output[ARTIFACT], Artifact)
        return self._built

    @cached_property
    def _old(self) -> Revision:
        """What was applied before, in the hands of this deployment."""
        assert self._before is not None
        return in_hands_of(self._means.journal.deployment, self._before.revision(self._means.sealer))

    @cached_property
    def _limits(self) -> ServiceLimits:
        means = self._means
        return limits_of(self.plan, self._snapshot, self._before, means.sealer, means.drain_seconds)

    @property
    def new_key(self) -> str:
        """The key of the revision this deployment makes."""
        return f"{self.service_id}.{self._means.journal.deployment.number}"

    @cached_property
    def _revision(self) -> Revision:
        """What this deployment makes of it, known once its artifact is there and its outputs are read."""
        deployment = self._means.journal.deployment
        if self.plan.action is not Action.DEPLOY:
            return msgspec.structs.replace(self._old, key=self.new_key)
        assert self._snapshot is not None
        return revision_of(self._snapshot, self.new_key, deployment, self._artifact(), self._outputs or {})

    async def _observed(self, key: str | None) -> tuple[Instance, ...]:
        found = await self._means.platform.instances(self._means.journal.deployment.environment_id)
        return tuple(i for i in found if i.revision_key == key)

    async def _ending(self) -> tuple[Instance, ...]:
        """What must not go on beside the revision that this deployment makes: every other one of the service,
        also what an earlier deployment could not end."""
        found = await self._means.platform.instances(self._means.journal.deployment.environment_id)
        return tuple(i for i in found if i.service_id == self.service_id and i.revision_key != self.new_key)

    async def _held(self) -> Platform:
        """The platform, while the deployment is ours: who was replaced while it waited acts no more."""
        await self._means.journal.assert_ours()
        return self._means.platform
