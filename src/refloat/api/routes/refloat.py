"""Endpoints of our own, never under a published path: the plan, and the stream of events."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from litestar import get, post, put
from litestar.params import FromQuery, JSONBody, QueryParameter
from litestar.response import Stream

from refloat.api import history
from refloat.api.call import Body, Call, Http, Id
from refloat.api.routes.deployments import status_of
from refloat.api.statuses import timestamp
from refloat.control import deployments as control
from refloat.control import organizations
from refloat.control.access import Operation
from refloat.control.context import Context
from refloat.domain.deployment import Deployment, Event, Verb
from refloat.domain.errors import Invalid
from refloat.domain.resources import Environment
from refloat.domain.timetable import CronRun
from refloat.execution.places import platform_of, waits_for
from refloat.execution.queue import RECAP
from refloat.store import deployments as store
from refloat.store import facts, resources

_BATCH = 200
_LAST_CURSOR = 2**63 - 1
_CURSOR = re.compile(r"[0-9]{1,18}")
_LOOK_SECONDS = 0.2
_HEARTBEAT_SECONDS = 5.0
_VERBS = {verb.lower(): verb for verb in Verb}


@get("/refloat/environment/{environment_id:str}/plan")
async def read_plan(
    request: Http, environment_id: Id, action: FromQuery[str] = "redeploy", to: FromQuery[str | None] = None
) -> Body:
    """What the action would do now, service by service, with its hash; nothing is done.

    `to` names the deployment that `action=rollback` goes back to. `refusal` says why the request would be
    refused at this moment; null: it would not.
    """
    call = Call(request)
    environment = await call.reach(Environment, environment_id)
    if action not in _VERBS:
        raise Invalid(f"action: {action!r} is unknown; use one of {', '.join(_VERBS)}")
    back_to = await _back_to(call, environment, to) if _VERBS[action] is Verb.ROLLBACK else None
    plan = await control.read_plan(
        call.context, environment, _VERBS[action], back_to=back_to.id if back_to else None
    )
    refusal = await control.refusal(call.context, environment, _VERBS[action])
    return {**msgspec.to_builtins(plan), "hash": plan.hash, "refusal": str(refusal) if refusal else None}


async def _back_to(call: Call, environment: Environment, to: str | None) -> Deployment:
    if not to:
        raise Invalid("to: name the deployment to go back to", hint="by its execution id or request id")
    return await control.find_for_rollback(call.context, environment.id, to)


@post("/refloat/environment/{environment_id:str}/rollback", status_code=202)
async def rollback(
    request: Http,
    environment_id: Id,
    to: FromQuery[str | None] = None,
    plan: FromQuery[str | None] = None,
) -> Body:
    """Deploy the services of an earlier deployment as they were in it: code, configuration and values.

    What is configured stays; the next redeploy goes forward again.
    """
    call = Call(request)
    environment = await call.reach(Environment, environment_id, Operation.DEPLOY)
    await call.no_body()
    back_to = await _back_to(call, environment, to)
    await control.request(
        call.context, call.principal, environment, Verb.ROLLBACK, plan_hash=plan, back_to=back_to
    )
    return await status_of(call, environment)


class EnvironmentSettings(msgspec.Struct, kw_only=True):
    """What an environment has beyond the published interface."""

    rollback_on_failure: bool | None = None


@get("/refloat/environment/{environment_id:str}")
async def read_settings(request: Http, environment_id: Id) -> Body:
    """What an environment has beyond the published interface."""
    return _settings(await Call(request).reach(Environment, environment_id))


@put("/refloat/environment/{environment_id:str}")
async def edit_settings(request: Http, environment_id: Id, data: JSONBody[EnvironmentSettings]) -> Body:
    """`rollback_on_failure`: whether what a failed deployment had replaced already goes back by itself."""
    call = Call(request)
    environment = await call.reach(Environment, environment_id, Operation.MANAGE)
    if data.rollback_on_failure is not None:
        environment = await organizations.change(
            call.context, environment, rollback_on_failure=data.rollback_on_failure
        )
    return _settings(environment)


def _settings(environment: Environment) -> Body:
    return {"id": environment.id, "rollback_on_failure": environment.rollback_on_failure}


@get("/refloat/environment/{environment_id:str}/journal")
async def read_journal(request: Http, environment_id: Id, version: FromQuery[str | None] = None) -> Body:
    """Every step of a deployment, the last one by default: when it began and ended, and how often."""
    call = Call(request)
    environment = await call.reach(Environment, environment_id)
    deployment = await control.find(call.context, environment.id, version)
    steps = await store.steps(call.read, deployment.id) if deployment else ()
    return {
        "deployment_request_id": deployment.id if deployment else None,
        "plan_hash": deployment.plan_hash if deployment else None,
        "waiting_reason": await _waiting_reason(call, environment, deployment),
        "results": [
            {
                "service_id": step.service_id or None,
                "step": step.name,
                "attempt": step.attempt,
                "outcome": step.outcome,
                "started_at": timestamp(step.started_at),
                "finished_at": timestamp(step.finished_at) if step.finished_at else None,
            }
            for step in steps
        ],
    }


async def _waiting_reason(call: Call, environment: Environment, deployment: Deployment | None) -> str | None:
    if deployment is None or deployment.ended:
        return None
    return await waits_for(call.read, environment) or None


@get("/refloat/replicas")
async def list_replicas(request: Http) -> Body:
    """The servers that share the database, and which of them works on its node; none if it is not shared."""
    found = await facts.replicas(Call(request).read)
    return {"results": [{**msgspec.to_builtins(replica), "alive": replica.alive} for replica in found]}


@get("/refloat/environment/{environment_id:str}/events")
async def stream(
    request: Http,
    environment_id: Id,
    after: Annotated[int | None, QueryParameter(name="after", ge=0, le=_LAST_CURSOR)] = None,
    deployment: FromQuery[str | None] = None,
) -> Stream:
    """Server-sent events: every log line and change of progress after the cursor, then as they come.

    The `id` of an event is the cursor; without one (query `after` or `Last-Event-ID`) it starts at 0. The
    stream ends when the environment is gone, or the server goes down. With `deployment` it tells only that
    one, and ends with it.
    """
    call = Call(request)
    environment = await call.reach(Environment, environment_id)
    last = request.headers.get("last-event-id", "")
    meant = await control.find(call.context, environment.id, deployment) if deployment else None
    cursor = after if after is not None else int(last) if _CURSOR.fullmatch(last) else 0
    return Stream(
        _events(call.context, environment, cursor, meant),
        media_type="text/event-stream",
        headers={"cache-control": "no-store"},
    )


class SimulationInput(msgspec.Struct, kw_only=True):
    """`script` "" goes back to what the configuration says."""

    script: str


@put("/refloat/service/{service_id:str}/simulation")
async def simulate(request: Http, service_id: Id, data: JSONBody[SimulationInput]) -> Body:
    """How a service of a simulated cluster behaves from now on: the next deployment ends accordingly."""
    call = Call(request)
    service = await call.reach_service(service_id, Operation.DEPLOY)
    environment = await resources.get(call.read, Environment, service.parent)
    platform = await platform_of(call.read, call.context.platforms, environment)
    if platform.rewrite is None:
        raise Invalid(
            f"{service.name} really runs", hint="only services of a simulated cluster take a script"
        )
    platform.rewrite(service.id, data.script)
    return {"script": data.script}


async def _events(
    context: Context, environment: Environment, cursor: int, meant: Deployment | None
) -> AsyncIterator[str]:
    quiet = 0.0
    read = context.database.read
    while not context.ending.is_set():
        if meant:
            batch = await store.deployment_events_after(read, meant.id, cursor, _BATCH)
        else:
            batch = await store.events_after(read, environment.id, cursor, _BATCH)
        for event in batch:
            cursor = event.sequence
            yield await _rendered(context, environment, event)
            if meant and event.step == RECAP:
                return
        if batch:
            quiet = 0.0
            continue
        if await resources.find(read, Environment, environment.id) is None:
            return
        await asyncio.sleep(_LOOK_SECONDS)
        quiet += _LOOK_SECONDS
        if quiet >= _HEARTBEAT_SECONDS:
            quiet = 0.0
            yield ": still here\n\n"


async def _rendered(context: Context, environment: Environment, event: Event) -> str:
    read = context.database.read
    deployment = await store.find_deployment(read, event.deployment_id)
    lines = await history.log_lines(context, environment, await store.targets(read, event.deployment_id))
    body: dict[str, Any] = lines.line(event, deployment.number if deployment else None)
    body["deployment_request_id"] = event.deployment_id
    kind = "status" if event.phase else "log"
    return f"id: {event.sequence}\nevent: {kind}\ndata: {msgspec.json.encode(body).decode()}\n\n"


@get("/refloat/service/{service_id:str}/runs")
async def list_runs(request: Http, service_id: Id) -> Body:
    """The runs of a job by the clock, newest first. The one that goes on has no outcome yet."""
    call = Call(request)
    service = await call.reach_service(service_id)
    runs = await resources.children(call.read, CronRun, service.id)
    return {
        "results": [
            {
                "scheduled_at": timestamp(run.scheduled_at),
                "began_at": timestamp(run.created_at),
                "finished_at": timestamp(run.finished_at) if run.finished_at else None,
                "outcome": run.outcome,
                "attempts": run.attempts,
                "reason": run.reason or None,
                "log": list(run.log),
            }
            for run in sorted(runs, key=lambda run: run.scheduled_at, reverse=True)
        ]
    }


ROUTES = (
    read_settings,
    edit_settings,
    read_plan,
    rollback,
    read_journal,
    list_replicas,
    list_runs,
    simulate,
    stream,
)
