"""Use cases of deployments: ask for one, read its plan beforehand, cancel it.

One path for every verb and every client. Accepting touches no network; what cannot succeed is refused
here, what depends on the moment of execution is not.
"""

from collections.abc import Mapping, Sequence

import msgspec

from refloat.control import access
from refloat.control.context import Context
from refloat.control.service_rules import checked
from refloat.control.support import require_runnable
from refloat.domain.deployment import Deployment, Principal, Request, Target, Verb
from refloat.domain.errors import Conflict, Invalid, NotFound
from refloat.domain.ids import execution_number
from refloat.domain.progress import Action, Phase
from refloat.domain.resources import Environment, Stage
from refloat.domain.revision import Capabilities
from refloat.domain.services import AnyService, Commit, Container, Job, JobEvent, Service
from refloat.execution import queue
from refloat.execution.applied import of_environment
from refloat.execution.basis import check_uninterrupted, observe, plan_for
from refloat.execution.places import Elsewhere, addresses_of, platform_of
from refloat.execution.rollback import nothing_left, rolled_back
from refloat.execution.snapshot import compile_environment
from refloat.planning.plan import Plan
from refloat.planning.wanted import commands_of
from refloat.store import deployments as store
from refloat.store import resources
from refloat.store.database import Reader, Transaction


async def request(
    context: Context,
    principal: Principal,
    environment: Environment,
    verb: Verb,
    *,
    services: Sequence[str] | None = None,
    versions: Mapping[str, str] | None = None,
    plan_hash: str | None = None,
    uninterrupted: bool = False,
    back_to: Deployment | None = None,
    event: JobEvent | None = None,
) -> Deployment | None:
    """Append a deployment to the environment's queue and wake the worker.

    `services` None means all the verb covers. `versions` pins commits, for good, at acceptance. With
    `plan_hash` the plan of this instant must be that one, and with `uninterrupted` it must interrupt no
    service, else Conflict; both are looked at again when it begins. None when there was nothing to deploy
    and the request is already fulfilled (deleting what never ran).
    Raises Invalid for what cannot be done.
    """
    demand = Request(
        verb=verb,
        principal_id=principal.id,
        triggered_by=principal.name,
        origin=principal.origin,
        services=tuple(services) if services is not None else None,
        plan_hash=plan_hash,
        uninterrupted=uninterrupted,
        back_to=back_to.id if back_to else None,
        event=event,
    )
    if plan_hash is not None or uninterrupted:
        await _expect_plan(context, environment, demand)
    capabilities = await _capabilities(context, environment, verb)
    async with context.database.transaction() as tx:
        await _pin(tx, environment, versions or {})
        chosen = await _chosen(tx, environment, demand)
        if capabilities:
            for service, _ in chosen:
                require_runnable(capabilities, service)
        await _refuse_impossible(tx, environment, demand, chosen)
        if verb is Verb.DELETE and await _delete_at_once(tx, environment, demand, chosen):
            return None
        accepted = await queue.accept(tx, context.new_id(), environment, demand, chosen, context.clock)
    context.wake()
    return accepted


async def read_plan(
    context: Context,
    environment: Environment,
    verb: Verb,
    services: Sequence[str] | None = None,
    back_to: str | None = None,
) -> Plan:
    """What the verb would do now, with the seconds that each service took before."""
    demand = Request(
        verb=verb,
        principal_id="",
        triggered_by="",
        services=tuple(services) if services is not None else None,
        back_to=back_to,
    )
    read = context.database.read
    platform = await platform_of(read, context.platforms, environment)
    observed = await observe(platform, environment.id)
    addresses = await addresses_of(read, context.platforms, environment, context.settings.domain)
    compiled = await compile_environment(read, context.sealer, environment, addresses)
    if back_to:
        compiled = await rolled_back(read, context.sealer, back_to, compiled)
    expected = {
        service_id: seconds
        for service_id in compiled.snapshot.services
        if (seconds := await _expected_seconds(context, service_id)) is not None
    }
    return plan_for(environment.id, demand, compiled, observed, expected)


async def refusal(context: Context, environment: Environment, verb: Verb) -> Invalid | None:
    """Why such a request for the whole environment would be refused at this moment; None: it would not."""
    demand = Request(verb=verb, principal_id="", triggered_by="")
    capabilities = await _capabilities(context, environment, verb)
    try:
        chosen = await _chosen(context.database.read, environment, demand)
        if capabilities:
            for service, _ in chosen:
                require_runnable(capabilities, service)
        await _refuse_impossible(context.database.read, environment, demand, chosen)
    except Invalid as refused:
        return refused
    return None


async def cancel(context: Context, environment: Environment) -> Deployment:
    """Cancel what runs or is next; see `queue.cancel`."""
    async with context.database.transaction() as tx:
        meant = await queue.cancel(tx, environment.id, context.clock)
    _count_canceled(context, meant)
    context.wake()
    return meant


async def cancel_one(context: Context, deployment: Deployment) -> None:
    """Cancel one request, whether it runs or waits; raises Conflict when it has ended."""
    async with context.database.transaction() as tx:
        current = await store.find_deployment(tx, deployment.id)
        if current is None or current.ended:
            raise Conflict(f"the deployment {deployment.id} has ended")
        await queue.cancel_one(tx, current, context.clock)
    _count_canceled(context, current)
    context.wake()


def _count_canceled(context: Context, deployment: Deployment) -> None:
    """One that had not begun has ended by the cancel itself."""
    if deployment.owner is None:
        context.telemetry.ended(deployment, Phase.CANCELED, context.clock.now())


async def find(context: Context, environment_id: str, name: str | None) -> Deployment | None:
    """A deployment of the environment by request id or execution id; the latest one without a name.

    Raises NotFound for a name that means none.
    """
    read = context.database.read
    if name is None:
        return await store.latest_claimed(read, environment_id) or await store.latest(read, environment_id)
    number = execution_number(environment_id, name)
    if number is not None:
        found = await store.by_number(read, environment_id, number)
    else:
        found = await store.find_deployment(read, name) if access.is_id(name) else None
    if found is None or found.environment_id != environment_id:
        raise NotFound(f"no deployment {name} of environment {environment_id}")
    return found


async def find_for_rollback(context: Context, environment_id: str, name: str) -> Deployment:
    """The deployment of this name, if it can be gone back to: one that ended well and deployed something."""
    found = await find(context, environment_id, name)
    assert found is not None
    if found.phase is not Phase.DONE or found.action is not Action.DEPLOY:
        raise Invalid(
            f"the deployment {name} cannot be gone back to: it did not end as DEPLOYED",
            hint="history lists those that did",
        )
    return found


async def _expect_plan(context: Context, environment: Environment, demand: Request) -> None:
    plan = await read_plan(context, environment, demand.verb, demand.services, demand.back_to)
    check_uninterrupted(demand, plan)
    if demand.plan_hash not in (None, plan.hash):
        raise Conflict(
            f"the plan {demand.plan_hash} is not what would be done now ({plan.hash})",
            hint="read the plan again and decide anew",
        )


async def _expected_seconds(context: Context, service_id: str) -> float | None:
    """How long the last deployment that changed something took, in seconds."""
    for target in await store.target_history(context.database.read, service_id, 10):
        if _took_time(target) and target.started_at and target.finished_at:
            return round((target.finished_at - target.started_at).total_seconds(), 1)
    return None


def _took_time(target: Target) -> bool:
    return target.action is Action.DEPLOY and target.phase is Phase.DONE and target.change != "skip"


async def _pin(tx: Transaction, environment: Environment, versions: Mapping[str, str]) -> None:
    for service_id, version in versions.items():
        service = await _own_service(tx, environment, service_id)
        await resources.replace_resource(tx, _with_version(service, version))


def _with_version(service: AnyService, version: str) -> AnyService:
    """A commit for what is built, a tag for what is an image."""
    if service.git:
        same = service.commit is not None and service.commit.id == version
        return service if same else msgspec.structs.replace(service, commit=Commit(id=version))
    image = service.image if isinstance(service, Container | Job) else None
    if image is None:
        raise Invalid(f"{service.name} is a {service.kind} and takes no version here")
    return checked(msgspec.structs.replace(service, image=msgspec.structs.replace(image, tag=version)))


async def _own_service(tx: Reader, environment: Environment, service_id: str) -> AnyService:
    service = await resources.get_service(tx, service_id)
    if service.parent != environment.id:
        raise NotFound(f"no service {service_id} in environment {environment.id}")
    return service


async def _chosen(tx: Reader, environment: Environment, demand: Request) -> list[tuple[AnyService, Stage]]:
    stages = {s.id: s for s in await resources.children(tx, Stage, environment.id)}
    if demand.services is not None:
        named = [await _own_service(tx, environment, i) for i in dict.fromkeys(demand.services)]
        return [(service, stages[service.stage_id]) for service in named]
    everything = await resources.services(tx, environment.id)
    covered = [s for s in everything if not s.is_skipped or demand.verb.action is Action.DELETE]
    if demand.back_to:
        covered = await _left_of(tx, demand.back_to, covered)
    return [(service, stages[service.stage_id]) for service in covered]


async def _left_of(tx: Reader, deployment_id: str, services: Sequence[AnyService]) -> list[AnyService]:
    """Those that took part in a deployment: nobody else is touched by going back to it."""
    done = {t.service_id for t in await store.targets(tx, deployment_id) if t.phase is Phase.DONE}
    left = [service for service in services if service.id in done]
    if not left:
        raise nothing_left()
    return left


async def _capabilities(context: Context, environment: Environment, verb: Verb) -> Capabilities | None:
    """What the cluster can run; None where nothing is started, or only a server of its node can tell.

    Asked before the transaction, because an engine may look at the machine for it.
    """
    if verb.action not in (Action.DEPLOY, Action.RESTART):
        return None
    try:
        platform = await platform_of(context.database.read, context.platforms, environment)
    except Elsewhere:
        return None
    return platform.engine.capabilities()


async def _refuse_impossible(
    tx: Reader, environment: Environment, demand: Request, chosen: Sequence[tuple[AnyService, Stage]]
) -> None:
    """Refuse what could never succeed; while another deployment is open, only the queue can tell."""
    whole_delete = demand.verb is Verb.DELETE and demand.services is None
    if not chosen and not whole_delete:
        raise Invalid(
            f"environment {environment.name} has no service to {demand.verb.lower()}",
            hint="add a service, or un-skip one",
        )
    _refuse_event(demand.event, chosen)
    if await store.open_deployments(tx, environment.id):
        return
    applied = await of_environment(tx, environment.id)
    if demand.verb is Verb.RESTART and demand.services and any(isinstance(s, Job) for s, _ in chosen):
        raise Invalid("a job cannot be restarted", hint="redeploy it to run it again")
    running = [s for s, _ in chosen if s.id in applied and (applied[s.id].should_run or _runs_at_stop(s))]
    timed = [s for s, _ in chosen if s.id in applied and applied[s.id].timetable]
    if demand.verb in (Verb.STOP, Verb.RESTART) and not running and not (timed and demand.verb is Verb.STOP):
        raise Invalid(f"nothing to {demand.verb.lower()}: no service that is meant runs")
    if demand.verb is Verb.UNINSTALL and not any(s.id in applied for s, _ in chosen):
        raise Invalid("nothing to uninstall: no service that is meant was ever deployed")


def _refuse_event(event: JobEvent | None, chosen: Sequence[tuple[AnyService, Stage]]) -> None:
    if event is None:
        return
    for service, _ in chosen:
        if not isinstance(service, Job) or service.at(event) is None:
            has = [it for it in JobEvent if isinstance(service, Job) and service.at(it)]
            raise Invalid(
                f"forceEvent: {service.name} has nothing to run for {event}",
                hint=f"it has {', '.join(has)}" if has else "only jobs have events",
            )


def _runs_at_stop(service: Service) -> bool:
    return Action.STOP in commands_of(service)


async def _delete_at_once(
    tx: Transaction, environment: Environment, demand: Request, chosen: Sequence[tuple[AnyService, Stage]]
) -> bool:
    """Delete what never ran right away."""
    if await store.open_deployments(tx, environment.id):
        return False
    for service, _ in chosen:
        if await store.target_history(tx, service.id, 1):
            return False
    for service_id in [environment.id] if demand.services is None else demand.services:
        await resources.delete_tree(tx, service_id)
    return True
