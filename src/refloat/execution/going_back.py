"""Rollback on failure: an environment that asks for it goes back by itself when a deployment of it fails.

Part of the transaction that concludes the failed one, so that a crash leaves either both or neither. Only
what had been replaced already is brought back, and only if nobody waits with another demand: that one is
newer than what is to be undone. Rollbacks and cancels are never followed by one.
"""

import hashlib

import msgspec

from refloat.clock import Clock
from refloat.domain.deployment import Deployment, Origin, Request, Verb
from refloat.domain.errors import NotFound
from refloat.domain.ids import execution_id, uuid7
from refloat.domain.progress import Action, Phase
from refloat.domain.resources import Environment, Stage
from refloat.domain.revision import Level
from refloat.domain.services import AnyService
from refloat.execution import queue
from refloat.execution.rollback import last_done
from refloat.execution.targets import tell
from refloat.planning.plan import Change, Plan
from refloat.store import deployments as store
from refloat.store import resources
from refloat.store.database import Reader, Transaction

WHO = "rollback on failure"
_FAILED = (Phase.FAILED, Phase.BUILD_FAILED)
_FORWARD = (Verb.DEPLOY, Verb.REDEPLOY)
_LOOKED_AT = 200


async def go_back(tx: Transaction, failed: Deployment, phase: Phase, clock: Clock) -> None:
    """Queue the rollback of a deployment that is about to be concluded so, if there is to be one."""
    if phase not in _FAILED or failed.request.verb not in _FORWARD or failed.number is None:
        return
    environment = await resources.find(tx, Environment, failed.environment_id)
    current = await store.find_deployment(tx, failed.id)
    if environment is None or not environment.rollback_on_failure:
        return
    if current is None or current.cancel_requested:
        return
    replaced = await _replaced(tx, failed)
    if not replaced:
        return
    if len(await store.open_deployments(tx, failed.environment_id)) > 1:
        await _say(tx, failed, "not rolled back: another request waits, which is newer", clock)
        return
    back_to = await _last_success(tx, failed)
    chosen = await _chosen(tx, replaced, back_to.id) if back_to else []
    if back_to is None or not chosen:
        await _say(tx, failed, "not rolled back: no deployment ended well before", clock)
        return
    assert back_to.number is not None
    number = execution_id(failed.environment_id, back_to.number)
    await _say(tx, failed, f"{len(chosen)} replaced service(s) go back to {number}", clock)
    request = Request(
        verb=Verb.ROLLBACK,
        principal_id=WHO,
        triggered_by=f"{WHO} of {execution_id(failed.environment_id, failed.number)}",
        origin=Origin.QOVERY_INTERNAL,
        services=tuple(service.id for service, _ in chosen),
        back_to=back_to.id,
    )
    entropy = hashlib.sha256(failed.id.encode()).digest()
    await queue.accept(tx, uuid7(clock.now(), entropy), environment, request, chosen, clock)


async def _replaced(read: Reader, failed: Deployment) -> set[str]:
    """Services whose former revision this deployment took off, and that have not gone back themselves."""
    plan_text, _ = await store.claimed_documents(read, failed.id)
    plan = msgspec.json.decode(plan_text, type=Plan)
    done = {t.service_id for t in await store.targets(read, failed.id) if t.phase is Phase.DONE}
    return {s.service_id for s in plan.services if s.replaces and s.change is not Change.SKIP} & done


async def _last_success(read: Reader, failed: Deployment) -> Deployment | None:
    earlier = await store.history(read, failed.environment_id, _LOOKED_AT, before=failed.id)
    return next((d for d in earlier if d.phase is Phase.DONE and d.action is Action.DEPLOY), None)


async def _chosen(tx: Transaction, replaced: set[str], back_to: str) -> list[tuple[AnyService, Stage]]:
    """Those that are still there and have something to go back to."""
    chosen = []
    for service_id in sorted(replaced):
        try:
            service = await resources.get_service(tx, service_id)
        except NotFound:
            continue
        if await last_done(tx, service_id, back_to):
            chosen.append((service, await resources.get(tx, Stage, service.stage_id)))
    return chosen


async def _say(tx: Transaction, failed: Deployment, words: str, clock: Clock) -> None:
    await tell(tx, failed, "", WHO, Level.WARNING, words, clock)
