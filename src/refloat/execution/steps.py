"""What each step does to one service. Every effect may be repeated; the journal decides whether it is."""

from dataclasses import dataclass
from typing import Any

import msgspec

from refloat.builders.base import BuildRequest
from refloat.clock import Clock
from refloat.domain.deployment import Swap, Verb
from refloat.domain.progress import Action, Phase
from refloat.domain.revision import ALIVE, Artifact, Instance, InstanceState, Ran, Revision
from refloat.domain.services import Job
from refloat.execution import applied as applied_store
from refloat.execution.applied import Applied, seal_revision
from refloat.execution.domains import attach, reattach
from refloat.execution.executing import job_deadline, run_job, run_release, timetable_of
from refloat.execution.journal import Effect, Journal, Output
from refloat.execution.limits import BUILD_SECONDS, DEADLINES, PHASES, ready_deadline
from refloat.execution.logs import StepLog
from refloat.execution.outputs import JobOutput, store_outputs, stored_outputs
from refloat.execution.platform import Platform
from refloat.execution.readiness import ReadinessWait, verify_route
from refloat.execution.revisions import event_of, needs_command, revision_of
from refloat.execution.snapshot import ServiceSnapshot
from refloat.planning.plan import Change, ServicePlan, StepName
from refloat.planning.wanted import COMMIT
from refloat.store import deployments as deployment_store
from refloat.store import resources
from refloat.store.database import Reader, Transaction
from refloat.store.sealing import Sealer

_ARTIFACT = "artifact"
_ENDPOINTS = "endpoints"
_MARK = "mark"


@dataclass(frozen=True)
class Means:
    """What the steps of one deployment work with. `drain_seconds` bounds the wait for requests in flight."""

    platform: Platform
    journal: Journal
    read: Reader
    sealer: Sealer
    clock: Clock
    drain_seconds: float = 30.0


class ServiceSteps:
    """The steps of one service in one deployment.

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
    ) -> None:
        self.plan = plan
        self._means = means
        self._stage_position = stage_position
        self._snapshot = snapshot
        self._before = before
        self._fields = fields
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

    async def do(self, name: StepName, *, after_outcome: bool = False) -> None:
        """Do one planned step."""
        effect = getattr(self, f"_{name}")
        if self._outputs is None:
            self._outputs = await self._read_outputs()
        completes = None if after_outcome else self._completion(name)
        await self._means.journal.step(
            self.service_id,
            name,
            effect,
            self._deadline(name),
            phase=None if after_outcome else self._phase(name),
            completes=self._count_swap if after_outcome and name is StepName.DRAIN else completes,
            despite_cancel=after_outcome,
        )

    def _phase(self, name: StepName) -> Phase | None:
        if name is not StepName.EXECUTE:
            return PHASES.get(name)
        if job := self._job:
            runs = self.plan.action is Action.DEPLOY and event_of(job, self.plan.action)
            return Phase.EXECUTING if runs else Phase.RUNNING
        return Phase.EXECUTING if self._artifact().release else None

    def _deadline(self, name: StepName) -> float:
        if name is StepName.EXECUTE and self._job:
            return job_deadline(self._job)
        if name is StepName.READY:
            return ready_deadline(self._revision().readiness)
        if name is StepName.DRAIN:
            return self._means.drain_seconds + 15
        if name in (StepName.STOP, StepName.DISCARD):
            return self._grace() + 20
        return DEADLINES[name]

    def _completion(self, name: StepName) -> Any:
        """What is written together with the end of the last deciding step."""
        if not self.main or name is not self.main[-1]:
            return None
        records = {Action.STOP: self._record_stopped, Action.DELETE: self._record_removed}
        return records.get(self.plan.action, self._record_applied)

    # -- values

    @property
    def _job(self) -> Job | None:
        service = self._snapshot.service if self._snapshot else None
        return service if isinstance(service, Job) else None

    async def _read_outputs(self) -> dict[str, str]:
        """Of jobs that ran in earlier stages or deployments."""
        environment_id = self._means.journal.deployment.environment_id
        return await stored_outputs(self._means.read, self._means.sealer, environment_id)

    def _artifact(self) -> Artifact:
        if self.plan.action is not Action.DEPLOY:
            return self._old().artifact
        if StepName.BUILD not in self.plan.steps:
            image = self._snapshot.image if self._snapshot else ""
            return Artifact(key=image, location=image, web=())
        output = self._means.journal.output(self.service_id, StepName.BUILD)
        assert output is not None
        return msgspec.convert(output[_ARTIFACT], Artifact)

    def _old(self) -> Revision:
        assert self._before is not None
        return self._before.revision(self._means.sealer)

    def _grace(self) -> float:
        return self._old().grace_seconds if self._before else 10.0

    @property
    def new_key(self) -> str:
        """The key of the revision this deployment makes."""
        return f"{self.service_id}.{self._means.journal.deployment.number}"

    def _revision(self) -> Revision:
        deployment = self._means.journal.deployment
        if self.plan.action is not Action.DEPLOY:
            return msgspec.structs.replace(
                self._old(), key=self.new_key, deployment_id=deployment.id, fence=deployment.fence
            )
        assert self._snapshot is not None
        return revision_of(self._snapshot, self.new_key, deployment, self._artifact(), self._outputs or {})

    async def _observed(self, key: str | None) -> tuple[Instance, ...]:
        found = await self._means.platform.engine.observe(self._means.journal.deployment.environment_id)
        return tuple(i for i in found if i.revision_key == key)

    async def _held(self) -> Platform:
        """The platform, while the deployment is ours: who was replaced while it waited acts no more."""
        await self._means.journal.assert_ours()
        return self._means.platform

    def _new_endpoints(self) -> tuple[str, ...]:
        output = self._means.journal.output(self.service_id, StepName.READY)
        assert output is not None
        return tuple(msgspec.convert(output[_ENDPOINTS], list[str]))

    # -- effects

    async def _build(self) -> Output:
        assert self._snapshot is not None
        service = self._snapshot.service
        assert service.git is not None
        journal = self._means.journal
        request = BuildRequest(
            service_id=service.id,
            environment_id=journal.deployment.environment_id,
            deployment_id=journal.deployment.id,
            name=service.name,
            source=service.git,
            commit_id=self._fields[COMMIT],
            dockerfile_path=service.dockerfile_path,
            serves=needs_command(service),
            timeout_seconds=BUILD_SECONDS,
        )
        async with StepLog(journal, self._means.clock, service.id, StepName.BUILD) as log:
            artifact = await (await self._held()).builder.build(request, log)
        return {_ARTIFACT: msgspec.to_builtins(artifact)}

    async def _execute(self) -> Output:
        artifact = self._artifact()
        if job := self._job:
            self._produced = await run_job(self._means.clock, self._run, job, self.plan.action, artifact)
            return {"outputs": sorted(self._produced)}
        if not artifact.release:
            return {"skipped": "no release command"}
        return {"exit_code": await run_release(self._run, artifact)}

    async def _run(self, argv: tuple[str, ...], what: str) -> Ran:
        revision, means = self._revision(), self._means
        async with StepLog(
            means.journal, means.clock, self.service_id, StepName.EXECUTE, self.secrets
        ) as log:
            return await means.platform.engine.run(revision, argv, f"{revision.key}.{what}", log)

    async def _prepare(self) -> Output:
        instances = await self._means.platform.engine.prepare(self._revision())
        return {_ENDPOINTS: [i.endpoint for i in instances]}

    async def _ready(self) -> Output:
        revision, instances = self._revision(), await self._observed(self.new_key)
        if any(i.state is InstanceState.EXITED for i in instances) or not instances:
            # A machine that went down between the two steps took the instances with it.
            instances = await self._means.platform.engine.prepare(revision)
        engine, clock = self._means.platform.engine, self._means.clock
        await ReadinessWait(engine, clock, revision, routed=self.plan.routed).until_ready()
        return {_ENDPOINTS: [i.endpoint for i in instances]}

    async def _switch(self) -> Output:
        router = self._means.platform.router
        mark = await router.mark(self.service_id)
        if self.plan.routed:
            await (await self._held()).router.switch(self.service_id, self.new_key, self._new_endpoints())
            if self.plan.action is Action.DEPLOY:
                await attach(router, self.service_id, self._fields)
        return {_MARK: mark}

    async def _verify(self) -> Output:
        if self.plan.change is Change.SKIP:
            endpoints = tuple(i.endpoint for i in await self._observed(self.plan.replaces))
            readiness = self._old().readiness
        else:
            endpoints, readiness = self._new_endpoints(), self._revision().readiness
        if not self.plan.routed:
            return {"alive": len(endpoints)}
        answer = await verify_route(
            self._means.platform.router,
            self._means.clock,
            self.service_id,
            endpoints,
            readiness.http.path if readiness and readiness.http else "/",
            readiness.timeout_seconds if readiness else 5,
        )
        return {"status": answer.status, "endpoint": answer.endpoint}

    async def _withdraw(self) -> Output:
        mark = await self._means.platform.router.mark(self.service_id)
        await (await self._held()).router.switch(self.service_id, self.plan.replaces or "", ())
        return {_MARK: mark}

    async def _drain(self) -> Output:
        router = self._means.platform.router
        endpoints = tuple(i.endpoint for i in await self._observed(self.plan.replaces))
        left = await router.drain(endpoints, self._means.drain_seconds) if self.plan.routed else 0
        counts = await router.counts(self.service_id, self._mark())
        swap = Swap(
            served=counts.served if counts else None,
            failed=counts.failed if counts else None,
            undrained=left,
        )
        return {"swap": msgspec.to_builtins(swap)}

    def _mark(self) -> str:
        for name in (StepName.SWITCH, StepName.WITHDRAW):
            if output := self._means.journal.output(self.service_id, name):
                return str(output[_MARK])
        return ""

    async def _stop(self) -> Output:
        """End every revision but the one this deployment makes: also what an earlier one could not end."""
        found = await self._means.platform.engine.observe(self._means.journal.deployment.environment_id)
        keys = {i.revision_key for i in found if i.service_id == self.service_id} - {self.new_key}
        for key in sorted(keys | ({self.plan.replaces} if self.plan.replaces else set())):
            await (await self._held()).engine.stop(key, self._grace())
        return {}

    async def _destroy(self) -> Output:
        await (await self._held()).engine.destroy(self.service_id)
        await (await self._held()).router.forget(self.service_id)
        await (await self._held()).builder.forget(self.service_id)
        return {}

    # -- after a failure or a cancel

    async def undo(self) -> str:
        """Return to what was applied before, and end what this deployment started; the key that serves.

        Called only when something was touched. Its own steps are journalled and survive a cancel.
        """
        if not self.plan.routed and self.plan.change is Change.RECREATE:  # both would use the same data
            await self._undo_step(StepName.DISCARD, self._discard)
        revert = await self._undo_step(StepName.REVERT, self._revert)
        await self._undo_step(StepName.DISCARD, self._discard)
        return str(revert["serving"])

    async def _undo_step(self, name: StepName, effect: Effect) -> Output:
        return await self._means.journal.step(
            self.service_id, name, effect, self._deadline(name), despite_cancel=True
        )

    async def _revert(self) -> Output:
        router, before = self._means.platform.router, self._before
        if self.plan.routed:
            await reattach(router, self.service_id, before)
        if before is None or not before.should_run:
            await (await self._held()).router.switch(self.service_id, "", ())
            return {"serving": ""}
        old = self._old()
        deployment = self._means.journal.deployment
        old = msgspec.structs.replace(old, fence=deployment.fence, deployment_id=deployment.id)
        instances = [i for i in await self._observed(old.key) if i.state in ALIVE]
        if len(instances) < old.instances:
            instances = list(await self._means.platform.engine.prepare(old))
            wait = ReadinessWait(self._means.platform.engine, self._means.clock, old, routed=before.routed)
            await wait.until_ready()
        if before.routed:
            endpoints = tuple(i.endpoint for i in instances)
            await (await self._held()).router.switch(self.service_id, old.key, endpoints)
        return {"serving": old.key}

    async def _discard(self) -> Output:
        if self.plan.action in (Action.DEPLOY, Action.RESTART) and self.plan.change is not Change.SKIP:
            await (await self._held()).engine.stop(self.new_key, 5)
        return {}

    # -- records

    async def _record_applied(self, tx: Transaction, _: Output) -> None:
        if self.plan.change is not Change.SKIP:
            await applied_store.put(tx, self._applied())
        if self._produced:
            means, now = self._means, self._means.clock.now()
            environment_id = means.journal.deployment.environment_id
            await store_outputs(tx, means.sealer, environment_id, self._produced, now)
        await self._means.journal.complete(tx, self.service_id)

    def _applied(self) -> Applied:
        means, before, job = self._means, self._before, self._job
        deployment = means.journal.deployment
        assert deployment.number is not None
        fields = before.fields if self.plan.action is Action.RESTART and before else self._fields
        return Applied(
            service_id=self.service_id,
            environment_id=deployment.environment_id,
            revision_key=self.new_key,
            fields=fields,
            sealed=seal_revision(self._revision(), self._means.sealer),
            routed=self.plan.routed,
            should_run=job is None,
            timetable=timetable_of(job, self._artifact(), self.secrets, before, means.sealer, means.clock),
            stage_position=self._stage_position,
            number=deployment.number,
        )

    async def _record_stopped(self, tx: Transaction, _: Output) -> None:
        if self._before is not None:
            await applied_store.put(tx, self._before.stopped())
        await self._means.journal.complete(tx, self.service_id)

    async def _record_removed(self, tx: Transaction, _: Output) -> None:
        await deployment_store.drop_applied(tx, self.service_id)
        await self._means.journal.complete(tx, self.service_id)
        if self._means.journal.deployment.request.verb is Verb.DELETE:
            await resources.delete_tree(tx, self.service_id)

    async def _count_swap(self, tx: Transaction, output: Output) -> None:
        await self._means.journal.amend(tx, self.service_id, swap=msgspec.convert(output["swap"], Swap))
