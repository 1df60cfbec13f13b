"""Actions on environments, statuses, history and logs: the centre of the interface.

Every action is one call of `control.deployments.request`; the 202 means that every later read shows it.
"""

from typing import Annotated

import msgspec
from litestar import delete, get, post
from litestar.params import FromQuery, QueryParameter
from litestar.response import Response

from refloat.api import history, statuses
from refloat.api.call import Body, Call, Http, Id
from refloat.control import deployments as control
from refloat.control.access import Operation, check_id
from refloat.domain.deployment import Verb
from refloat.domain.resources import Environment, Project
from refloat.store import resources

_PAGE = 20
_LARGEST_PAGE = 100


class CancelInput(msgspec.Struct, kw_only=True):
    force_cancel: bool = False


async def status_of(call: Call, environment: Environment) -> Body:
    return (await statuses.view(call.context, environment)).environment()


async def _act(
    request: Http, environment_id: str, verb: Verb, plan: str | None = None, uninterrupted: bool = False
) -> Body:
    call = Call(request)
    environment = await call.reach(Environment, environment_id, Operation.DEPLOY)
    await call.no_body()
    await control.request(
        call.context, call.principal, environment, verb, plan_hash=plan, uninterrupted=uninterrupted
    )
    return await status_of(call, environment)


PlanHash = Annotated[str | None, QueryParameter(name="plan")]
Uninterrupted = Annotated[bool, QueryParameter(name="require_zero_downtime")]


@post("/environment/{environment_id:str}/redeploy", status_code=202)
async def redeploy(
    request: Http, environment_id: Id, plan: PlanHash = None, uninterrupted: Uninterrupted = False
) -> Body:
    """Roll the whole environment in stage order. With `?plan=<hash>` only if the plan is still that; with
    `?require_zero_downtime=true` only if it interrupts no service."""
    return await _act(request, environment_id, Verb.REDEPLOY, plan, uninterrupted)


@post("/environment/{environment_id:str}/deploy", status_code=202)
async def deploy(
    request: Http, environment_id: Id, plan: PlanHash = None, uninterrupted: Uninterrupted = False
) -> Body:
    """The same as redeploy; the published success body is that of a service, so both are answered."""
    return statuses.overlaid(await _act(request, environment_id, Verb.DEPLOY, plan, uninterrupted))


@post("/environment/{environment_id:str}/stop", status_code=202)
async def stop(request: Http, environment_id: Id) -> Body:
    return await _act(request, environment_id, Verb.STOP)


@post("/environment/{environment_id:str}/uninstall", status_code=202)
async def uninstall(request: Http, environment_id: Id) -> Body:
    return await _act(request, environment_id, Verb.UNINSTALL)


@post("/environment/{environment_id:str}/cancelDeployment", status_code=202)
async def cancel(request: Http, environment_id: Id) -> Body:
    call = Call(request)
    environment = await call.reach(Environment, environment_id, Operation.DEPLOY)
    await call.optional_body(CancelInput)
    await control.cancel(call.context, environment)
    return await status_of(call, environment)


@delete("/environment/{environment_id:str}")
async def delete_environment(request: Http, environment_id: Id) -> None:
    """Accepted at once; the environment answers until it is gone, then 404."""
    call = Call(request)
    environment = await call.reach(Environment, environment_id, Operation.ADMINISTER)
    await control.request(call.context, call.principal, environment, Verb.DELETE)


# -- reading


@get("/environment/{environment_id:str}/status")
async def environment_status(request: Http, environment_id: Id) -> Body:
    call = Call(request)
    return await status_of(call, await call.reach(Environment, environment_id))


@get("/environment/{environment_id:str}/statuses")
async def environment_statuses(request: Http, environment_id: Id) -> Body:
    call = Call(request)
    environment = await call.reach(Environment, environment_id)
    return (await statuses.view(call.context, environment)).flat()


@get("/environment/{environment_id:str}/statusesWithStages")
async def environment_statuses_with_stages(request: Http, environment_id: Id) -> Body:
    call = Call(request)
    environment = await call.reach(Environment, environment_id)
    return (await statuses.view(call.context, environment)).by_stage()


@get("/project/{project_id:str}/environment/status")
async def project_statuses(request: Http, project_id: Id) -> Body:
    call = Call(request)
    project = await call.reach(Project, project_id)
    environments = await resources.children(call.read, Environment, project.id)
    return {"results": [await status_of(call, e) for e in environments]}


@get("/environment/{environment_id:str}/deploymentHistory")
async def history_v1(
    request: Http,
    environment_id: Id,
    start_id: Annotated[str | None, QueryParameter(name="startId")] = None,
) -> Body:
    call = Call(request)
    environment = await call.reach(Environment, environment_id)
    before = check_id(start_id, "deployment") if start_id else None
    items = await history.page_v1(call.context, environment, before, _PAGE)
    return {"page": 1, "page_size": _PAGE, "results": items}


@get("/environment/{environment_id:str}/deploymentHistoryV2")
async def history_v2(
    request: Http,
    environment_id: Id,
    page_size: Annotated[int, QueryParameter(name="pageSize", ge=1, le=_LARGEST_PAGE)] = _PAGE,
) -> Body:
    call = Call(request)
    environment = await call.reach(Environment, environment_id)
    items = await history.page_v2(call.context, environment, page_size)
    return {"page": 1, "page_size": page_size, "results": items}


@get("/environment/{environment_id:str}/logs")
async def logs(
    request: Http, environment_id: Id, version: FromQuery[str | None] = None
) -> Response[list[Body]]:
    """A bare array, as published: the latest lines of one deployment, of the last one by default."""
    call = Call(request)
    environment = await call.reach(Environment, environment_id)
    deployment = await control.find(call.context, environment.id, version)
    return Response(await history.logs(call.context, environment, deployment))


ROUTES = (
    redeploy,
    deploy,
    stop,
    uninstall,
    cancel,
    delete_environment,
    environment_status,
    environment_statuses,
    environment_statuses_with_stages,
    project_statuses,
    history_v1,
    history_v2,
    logs,
)
