"""What each step does to one service. Every effect may be repeated; the journal decides whether it is."""

from collections.abc import Callable, Coroutine, Sequence
from functools import partial

import msgspec

from refloat.builders.base import BuildRequest
from refloat.domain.deployment import Attempt, Swap, Verb
from refloat.domain.errors import StepFailed
from refloat.domain.progress import Action, Phase
from refloat.domain.revision import Instance, InstanceState, Ran, Revision
from refloat.execution import applied as applied_store
from refloat.execution.applied import Applied, seal_revision
from refloat.execution.deadline import Overdue, within
from refloat.execution.domains import attach
from refloat.execution.executing import run_job, run_release, timetable_of
from refloat.execution.folded import Output
from refloat.execution.journal import InTransaction, Next
from refloat.execution.limits import BUILD_SECONDS, DEADLINES, PHASES
from refloat.execution.logs import StepLog, redact
from refloat.execution.outputs import store_outputs
from refloat.execution.readiness import ReadinessWait, last_words, verify_route
from refloat.execution.revisions import needs_command
from refloat.execution.service import ARTIFACT
from refloat.execution.undoing import ServiceUndoing, endpoints_of
from refloat.planning.plan import Change, StepName
from refloat.planning.wanted import COMMIT
from refloat.store import resources
from refloat.store.applied import drop_applied
from refloat.store.database import Transaction

_ENDPOINTS = "endpoints"
_MARK = "mark"
_ENDS = frozenset({InstanceState.STOPPING, InstanceState.EXITED})


def _cut_short(instance: Instance) -> bool:
    """It did not end by itself, which would be a failure to tell."""
    lost = instance.state is InstanceState.EXITED and instance.exit_code is None
    return lost or instance.state is InstanceState.STOPPING


class ServiceSteps(ServiceUndoing):
    """The steps of one service in one deployment."""

    async def do(
        self,
        name: StepName,
        following: StepName | None,
        closes: Callable[[Transaction, str, StepName], Coroutine[None, None, None]],
        *,
        after_outcome: bool = False,
    ) -> None:
        """Do one planned step; whoever names the following one does that next. Without one the deployment
        may be over, which `closes` writes down together with the end of the step."""
        effect = getattr(self, f"_{name}")
        if self._outputs is None:
            self._outputs = await self._read_outputs()
        counts = after_outcome and name is StepName.DRAIN
        records = self._count_swap if counts else None if after_outcome else self._completion(name)

        async def completes(tx: Transaction, output: Output) -> None:
            if records:
                await records(tx, output)
            if following is None:
                await closes(tx, self.service_id, name)

        await self._means.journal.step(
            self.service_id,
            name,
            effect,
            self._limits.deadline(name),
            phase=None if after_outcome else self._phase(name),
            builds=self._needs_after(name),
            completes=completes,
            despite_cancel=after_outcome,
            then=partial(self.next, following) if following else None,
        )

    def next(self, name: StepName) -> Next:
        """A step of this service, as it is written down."""
        return Next(name, None if name in self.tail else self._phase(name), self._needs_after(name))

    def _needs_after(self, name: StepName) -> int | None:
        """Builds that the deployment needs from this step on: those of its stage have ended before any other
        step of it begins."""
        return None if name is StepName.BUILD else self._builds_after

    def _phase(self, name: StepName) -> Phase | None:
        if name is not StepName.EXECUTE:
            return PHASES.get(name)
        if self._job:
            runs = self.plan.action is Action.DEPLOY and self._command
            return Phase.EXECUTING if runs else Phase.RUNNING
        return Phase.EXECUTING if self._artifact().release else None

    def _completion(self, name: StepName) -> InTransaction | None:
        """What is written together with the end of the last deciding step."""
        if not self.main or name is not self.main[-1]:
            return None
        records = {Action.STOP: self._record_stopped, Action.DELETE: self._record_removed}
        return records.get(self.plan.action, self._record_applied)

    async def _note(self, name: StepName, attempt: Attempt) -> None:
        complaint = redact(attempt.complaint, self.secrets)
        shown = msgspec.structs.replace(attempt, complaint=complaint)
        await self._means.journal.note(self.service_id, name, shown)

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
        async with StepLog(journal, self._means.clock, service.id, StepName.BUILD, whole=True) as log:
            self._built = await (await self._held()).builder.build(request, log)
        return {ARTIFACT: msgspec.to_builtins(self._built)}

    async def _execute(self) -> Output:
        artifact = self._artifact()
        if job := self._job:
            if (command := self._command) is None:
                return {"skipped": "nothing to run"}
            come_to = partial(self._note, StepName.EXECUTE)
            reached = self._means.journal.attempt(self.service_id, StepName.EXECUTE)
            self._produced = await run_job(
                self._means.clock,
                self._run,
                self._end_run,
                come_to,
                reached,
                job,
                self._event,
                command,
                artifact,
            )
            return {"outputs": sorted(self._produced)}
        if not artifact.release:
            return {"skipped": "no release command"}
        return {"exit_code": await run_release(self._run, artifact)}

    async def _run(self, argv: tuple[str, ...], what: str) -> Ran:
        revision, means = self._revision, self._means
        async with StepLog(
            means.journal, means.clock, self.service_id, StepName.EXECUTE, self.secrets
        ) as log:
            return await (await self._held()).engine.run(revision, argv, self._run_key(what), log)

    async def _end_run(self, what: str) -> None:
        await (await self._held()).engine.forget_run(self._run_key(what))

    def _run_key(self, what: str) -> str:
        return f"{self.new_key}.{what}"

    async def _prepare(self) -> Output:
        instances = await (await self._held()).engine.prepare(self._revision)
        return {_ENDPOINTS: endpoints_of(instances)}

    async def _ready(self) -> Output:
        revision = self._revision
        instances, _ = await self._up(revision, ended=_cut_short)
        await self._until_ready(revision)
        return {_ENDPOINTS: endpoints_of(instances)}

    async def _up(
        self, revision: Revision, ended: Callable[[Instance], bool] = lambda it: it.state in _ENDS
    ) -> tuple[Sequence[Instance], bool]:
        """Its instances, and whether they had to be started again: a machine that went down since the step
        that started them took them with it, or somebody told them to end."""
        instances = await self._observed(revision.key)
        lost = len(instances) < revision.instances or any(ended(it) for it in instances)
        if lost:
            instances = await (await self._held()).engine.prepare(revision)
            await self._until_ready(revision)
        return instances, lost

    async def _until_ready(self, revision: Revision) -> None:
        engine, clock = self._means.platform.engine, self._means.clock
        note = partial(self._note, StepName.READY)
        await ReadinessWait(engine, clock, revision, routed=self.plan.routed, note=note).until_ready()

    async def _lead_to(self, revision: Revision, endpoints: tuple[str, ...]) -> None:
        if not self.plan.routed:
            return
        try:
            work = self._route_to(revision.key, endpoints)
            await within(self._means.clock, work, DEADLINES[StepName.SWITCH])
        except Overdue:
            raise StepFailed("the route was not switched in time") from None

    async def _switch(self) -> Output:
        router, revision = self._means.platform.router, self._revision
        mark = await router.mark(self.service_id)
        await self._lead_to(revision, endpoints_of((await self._up(revision))[0]))
        if self.plan.routed and self.plan.action is Action.DEPLOY:
            await attach(router, self.service_id, self._fields)
        return {_MARK: mark}

    async def _verify(self) -> Output:
        revision = self._old if self.plan.change is Change.SKIP else self._revision
        instances, again = await self._up(revision)
        endpoints = endpoints_of(instances)
        if not again and any(it.state is not InstanceState.RUNNING for it in instances):
            await self._until_ready(revision)  # it was started again, and nobody waited for it
        if again or (self.plan.change is Change.SKIP and await self._led_astray(revision)):
            await self._lead_to(revision, endpoints)
        if not self.plan.routed:
            return {"alive": len(endpoints)}
        readiness = revision.readiness
        try:
            answer = await verify_route(
                self._means.platform.router,
                self._means.clock,
                self.service_id,
                endpoints,
                readiness.http.path if readiness and readiness.http else "/",
                readiness.timeout_seconds if readiness else 5,
            )
        except StepFailed as failed:
            failed.log = await last_words(self._means.platform.engine, revision.key)
            raise
        return {"status": answer.status, "endpoint": answer.endpoint}

    async def _withdraw(self) -> Output:
        mark = await self._means.platform.router.mark(self.service_id)
        await self._route_to(self.plan.replaces or "", ())
        return {_MARK: mark}

    async def _drain(self) -> Output:
        router = self._means.platform.router
        endpoints = endpoints_of(i for i in await self._ending() if i.state is not InstanceState.EXITED)
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
        platform, environment_id = self._means.platform, self._means.journal.deployment.environment_id
        keys = {it.revision_key for it in await self._ending()}
        for it in await platform.commands(environment_id):
            if it.service_id == self.service_id and it.in_deployment and it.revision_key != self.new_key:
                keys.add(it.revision_key)
        if self.plan.replaces:
            keys.add(self.plan.replaces)
        for key in sorted(keys):
            await (await self._held()).engine.stop(key, self._limits.grace_seconds)
        return {}

    async def _destroy(self) -> Output:
        await (await self._held()).engine.destroy(self.service_id)
        await (await self._held()).router.forget(self.service_id)
        await (await self._held()).builder.forget(self.service_id)
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
            sealed=seal_revision(self._revision, self._means.sealer),
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
        await drop_applied(tx, self.service_id)
        await self._means.journal.complete(tx, self.service_id)
        if self._means.journal.deployment.request.verb is Verb.DELETE:
            await resources.delete_tree(tx, self.service_id)

    async def _count_swap(self, tx: Transaction, output: Output) -> None:
        swap = msgspec.convert(output["swap"], Swap)
        await self._means.journal.amend(tx, self.service_id, swap=swap)
        self._means.journal.telemetry.swapped(swap)
