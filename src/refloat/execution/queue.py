"""The queue of every environment: accept, claim, cancel, conclude; each one transaction.

First in, first out; one deployment of an environment runs at a time. Nothing here touches the network,
so an accepted request is visible to the next read, and no reader sees a deployment as ended while its
successor waits unseen.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from refloat.clock import Clock
from refloat.domain.deployment import Deployment, Request, Target, Verb
from refloat.domain.errors import Invalid
from refloat.domain.ids import after
from refloat.domain.progress import Action, Phase
from refloat.domain.resources import Environment, Stage
from refloat.domain.revision import Level
from refloat.domain.services import Container, Job, Service
from refloat.execution.targets import move_target, tell
from refloat.planning.plan import Plan, ServicePlan, StagePlan
from refloat.store import deployments as store
from refloat.store.database import Transaction

_UNSTARTED = frozenset({Phase.ACCEPTED, Phase.QUEUED, Phase.WAITING})


class Claim(NamedTuple):
    """A deployment that began, with what it does to each service."""

    deployment: Deployment
    targets: tuple[Target, ...]


async def accept(
    tx: Transaction,
    deployment_id: str,
    environment: Environment,
    request: Request,
    chosen: Sequence[tuple[Service, Stage]],
    clock: Clock,
) -> Deployment:
    """Append to the environment's queue; every later read shows it, as the newest.

    Ids are the order of the queue: one that does not sort after the latest is moved there. A request that
    does the same as the one at the end of the queue, for the same principal, becomes part of it while that
    one has not begun.
    """
    waiting = await store.open_deployments(tx, environment.id)
    if waiting and _joins(waiting[-1], request):
        return await _join(tx, waiting[-1], request, chosen, clock)
    latest = await store.latest(tx, environment.id)
    deployment = Deployment(
        id=after(latest.id, deployment_id) if latest else deployment_id,
        environment_id=environment.id,
        cluster_id=environment.cluster_id,
        request=request,
        phase=Phase.ACCEPTED if waiting else Phase.QUEUED,
        created_at=clock.now(),
    )
    await store.insert_deployment(tx, deployment)
    for service, stage in chosen:
        await store.put_target(tx, _first_target(deployment, service, stage))
    await tell(tx, deployment, "", deployment.phase, Level.INFO, _words(request), clock)
    return deployment


def _joins(last: Deployment, request: Request) -> bool:
    """Both mean everything or both name services: naming one includes it also when it is skipped.

    A plan that was read stands for one request alone, and so does removing the environment itself. Each
    request to run a job is one run.
    """
    before = last.request
    everything = before.services is None
    if last.owner is not None or everything != (request.services is None):
        return False
    if any(r.plan_hash or r.uninterrupted or r.back_to or r.event for r in (before, request)):
        return False
    if everything and before.verb is Verb.DELETE:
        return False
    same = (before.principal_id, last.action) == (request.principal_id, request.verb.action)
    return same and _removal(before) == _removal(request)


def _removal(request: Request) -> Verb | None:
    """Uninstalling and deleting share an action and differ in what is left."""
    return request.verb if request.verb.action is Action.DELETE else None


async def _join(
    tx: Transaction,
    deployment: Deployment,
    request: Request,
    chosen: Sequence[tuple[Service, Stage]],
    clock: Clock,
) -> Deployment:
    named = (*(deployment.request.services or ()), *(request.services or ()))
    services = tuple(dict.fromkeys(named)) if request.services is not None else None
    joined = msgspec.structs.replace(deployment.request, services=services)
    await store.set_request(tx, deployment.id, joined)
    for service, stage in chosen:
        await store.put_target(tx, _first_target(deployment, service, stage))
    await tell(tx, deployment, "", deployment.phase, Level.INFO, f"joined by a {_words(request)}", clock)
    return msgspec.structs.replace(deployment, request=joined)


def _words(request: Request) -> str:
    what = "environment" if request.services is None else f"{len(request.services)} service(s)"
    return f"{request.verb.lower()} of the {what} accepted, asked for by {request.triggered_by}"


def _first_target(deployment: Deployment, service: Service, stage: Stage) -> Target:
    return Target(
        deployment_id=deployment.id,
        service_id=service.id,
        name=service.name,
        kind=service.kind,
        stage_id=stage.id,
        stage_name=stage.name,
        stage_position=stage.position,
        action=deployment.action,
        phase=deployment.phase,
        commit_id=service.commit.id if service.commit else "",
        commit_message=service.commit.message if service.commit else "",
        image=_image(service),
    )


def _image(service: Service) -> str:
    image = service.image if isinstance(service, Container | Job) else None
    return f"{image.image_name}:{image.tag}" if image else ""


async def claim(
    tx: Transaction,
    deployment: Deployment,
    owner: str,
    plan: Plan,
    snapshot: str,
    builds: int,
    clock: Clock,
    number: int | None = None,
) -> Claim | None:
    """Make the head of a queue running under this owner, with its number and immutable plan, and reserve
    the builds it may have under way.

    `deployment` is as it is stored. None when somebody else was first. Targets follow the plan: services
    that came or went while the request waited are added, or canceled. `number` is the next one unless it
    is given.
    """
    number = number or await store.next_number(tx, deployment.environment_id)
    now = clock.now()
    won = await store.claim(
        tx,
        deployment.id,
        owner=owner,
        number=number,
        builds=builds,
        phase=Phase.RUNNING,
        plan=msgspec.json.encode(plan).decode(),
        plan_hash=plan.hash,
        snapshot=snapshot,
        now=now,
    )
    if not won:
        return None
    claimed = msgspec.structs.replace(
        deployment,
        owner=owner,
        fence=deployment.fence + 1,
        number=number,
        builds=builds,
        phase=Phase.RUNNING,
        plan_hash=plan.hash,
        started_at=now,
    )
    targets = await _follow_plan(tx, claimed, plan, clock)
    await tell(tx, claimed, "", "claim", Level.INFO, f"deployment {number} begins, plan {plan.hash}", clock)
    return Claim(claimed, targets)


async def _follow_plan(
    tx: Transaction, deployment: Deployment, plan: Plan, clock: Clock
) -> tuple[Target, ...]:
    known = {t.service_id: t for t in await store.targets(tx, deployment.id)}
    targets = []
    for stage in plan.stages:
        for service in stage.services:
            targets.append(_planned_target(deployment, stage, service, known.pop(service.service_id, None)))
            await store.put_target(tx, targets[-1])
    reason = "not in the plan any more"
    for left_over in known.values():
        targets.append(await move_target(tx, deployment, left_over, Phase.CANCELED, clock, reason=reason))
    return tuple(targets)


def _planned_target(
    deployment: Deployment, stage: StagePlan, service: ServicePlan, known: Target | None
) -> Target:
    return Target(
        deployment_id=deployment.id,
        service_id=service.service_id,
        name=service.name,
        kind=service.kind,
        stage_id=stage.stage_id,
        stage_name=stage.name,
        stage_position=stage.position,
        action=service.action,
        phase=Phase.QUEUED,
        change=service.change,
        commit_id=service.commit_id or "",
        commit_message=known.commit_message if known else "",
        image=known.image if known else "",
    )


async def cancel(tx: Transaction, environment_id: str, clock: Clock) -> Deployment:
    """Cancel what runs in the environment, or its next request if nothing runs; the deployment meant.

    What has not begun is canceled at once, what is under way becomes canceling and is ended by its
    owner. Doing it again changes nothing. Raises Invalid when there is nothing to cancel.
    """
    waiting = await store.open_deployments(tx, environment_id)
    if not waiting:
        raise Invalid("nothing to cancel: no deployment of this environment is waiting or running")
    return await cancel_one(tx, waiting[0], clock)


async def cancel_one(tx: Transaction, deployment: Deployment, clock: Clock) -> Deployment:
    """Cancel one deployment that has not ended, running or waiting; see `cancel`."""
    if deployment.phase is Phase.CANCELING:
        return deployment
    await store.request_cancel(tx, deployment.id)
    await tell(tx, deployment, "", "cancel", Level.WARNING, "cancel asked for", clock)
    if deployment.owner is None:
        await conclude(tx, deployment, Phase.CANCELED, "canceled before it began", clock)
    else:
        await store.set_phase(tx, deployment.id, Phase.CANCELING, "", clock.now())
        await _cancel_targets(tx, deployment, clock)
    return deployment


async def _cancel_targets(tx: Transaction, deployment: Deployment, clock: Clock) -> None:
    for target in await store.targets(tx, deployment.id):
        if target.phase in _UNSTARTED:
            await move_target(
                tx, deployment, target, Phase.CANCELED, clock, reason="canceled before it began"
            )
        elif target.finished_at is None and target.phase is not Phase.CANCELING:
            await move_target(tx, deployment, target, Phase.CANCELING, clock)


async def conclude(
    tx: Transaction,
    deployment: Deployment,
    phase: Phase,
    reason: str,
    clock: Clock,
    targets: Sequence[Target] | None = None,
) -> None:
    """End a deployment and show its successor as next, in one instant; `targets` if they were read in it."""
    waiting = await store.open_deployments(tx, deployment.environment_id)
    for target in await store.targets(tx, deployment.id) if targets is None else targets:
        if target.finished_at is None:
            following = Phase.CANCELED if phase is not Phase.DONE else Phase.DONE
            await move_target(tx, deployment, target, following, clock, reason=reason)
    await store.set_phase(tx, deployment.id, phase, reason, clock.now())
    recap = f"deployment ended: {phase.replace('_', ' ')}" + (f", {reason}" if reason else "")
    level = Level.INFO if phase is Phase.DONE else Level.ERROR
    await tell(tx, deployment, "", RECAP, level, recap, clock)
    if successors := [d for d in waiting if d.id != deployment.id]:
        await _promote(tx, successors[0], clock.now())


async def fail_all(tx: Transaction, deployment: Deployment, reason: str, clock: Clock) -> None:
    """End a deployment that cannot go on; all its services that have not ended fail with the reason."""
    for target in await store.targets(tx, deployment.id):
        if target.finished_at is None:
            failed = Phase.BUILD_FAILED if target.phase is Phase.BUILDING else Phase.FAILED
            await move_target(tx, deployment, target, failed, clock, reason=reason)
    await conclude(tx, deployment, Phase.FAILED, reason, clock)


RECAP = "recap"
"""The step of the last line of every deployment."""


async def _promote(tx: Transaction, successor: Deployment, now: datetime) -> None:
    if successor.phase is not Phase.ACCEPTED:
        return
    await store.set_phase(tx, successor.id, Phase.QUEUED, "", now)
    for target in await store.targets(tx, successor.id):
        await store.put_target(tx, msgspec.structs.replace(target, phase=Phase.QUEUED))
