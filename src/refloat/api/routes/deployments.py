"""Actions, statuses, history and logs: the centre of the interface.

Every action is one call of `control.deployments.request`; the 202 means that every later read shows it.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from litestar import delete, get, post
from litestar.params import FromQuery, JSONBody, QueryParameter
from litestar.response import Response

from refloat.api import history, statuses
from refloat.api.call import Body, Call, Http, Id
from refloat.control import deployments as control
from refloat.control.access import Operation
from refloat.domain.deployment import Verb
from refloat.domain.errors import Invalid
from refloat.domain.resources import Application, Environment, Project, Service
from refloat.store import resources

_PAGE = 20
_LARGEST_PAGE = 100


class VersionInput(msgspec.Struct, kw_only=True):
    """`git_commit_id` left out: the version that is deployed now."""

    application_id: str
    git_commit_id: str | None = None


class DeployInput(msgspec.Struct, kw_only=True):
    applications: list[VersionInput] = []
    containers: list[dict[str, str | None]] = []
    databases: list[str] = []
    jobs: list[dict[str, str | None]] = []
    helms: list[dict[str, str | None]] = []
    terraforms: list[dict[str, str | None]] = []


class ServicesInput(msgspec.Struct, kw_only=True):
    application_ids: list[str] = []
    container_ids: list[str] = []
    database_ids: list[str] = []
    job_ids: list[str] = []
    helm_ids: list[str] = []
    terraform_ids: list[str] = []


class CommitInput(msgspec.Struct, kw_only=True):
    git_commit_id: str | None = None


class CancelInput(msgspec.Struct, kw_only=True):
    force_cancel: bool = False


async def _status(call: Call, environment: Environment) -> Body:
    return (await statuses.view(call.context, environment)).environment()


async def _service_status(call: Call, service_id: str) -> Body:
    service = await resources.get_service(call.read, service_id)
    environment = await resources.get(call.read, Environment, service.parent)
    return (await statuses.view(call.context, environment)).service(service)


async def _act(request: Http, environment_id: str, verb: Verb, plan: str | None = None) -> Body:
    call = Call(request)
    environment = await call.reach(Environment, environment_id, Operation.DEPLOY)
    await call.no_body()
    await control.request(call.context, call.principal, environment, verb, plan_hash=plan)
    return await _status(call, environment)


PlanHash = Annotated[str | None, QueryParameter(name="plan")]


@post("/environment/{environment_id:str}/redeploy", status_code=202)
async def redeploy(request: Http, environment_id: Id, plan: PlanHash = None) -> Body:
    """Roll the whole environment in stage order. With `?plan=<hash>` only if the plan is still that."""
    return await _act(request, environment_id, Verb.REDEPLOY, plan)


@post("/environment/{environment_id:str}/deploy", status_code=202)
async def deploy(request: Http, environment_id: Id, plan: PlanHash = None) -> Body:
    """The same as redeploy; the published success body is that of a service, so both are answered."""
    return statuses.overlaid(await _act(request, environment_id, Verb.DEPLOY, plan))


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
    return await _status(call, environment)


@delete("/environment/{environment_id:str}")
async def delete_environment(request: Http, environment_id: Id) -> None:
    """Accepted at once; the environment answers until it is gone, then 404."""
    call = Call(request)
    environment = await call.reach(Environment, environment_id, Operation.ADMINISTER)
    await control.request(call.context, call.principal, environment, Verb.DELETE)


# -- some services of an environment


async def _named(call: Call, environment: Environment, ids: Sequence[str]) -> list[str]:
    """The ids, if each is a service of this environment."""
    for service_id in ids:
        await call.reach_service(service_id)
    if not ids:
        raise Invalid("no service is named", hint="list at least one")
    return list(ids)


@post("/environment/{environment_id:str}/service/deploy", status_code=202)
async def deploy_services(request: Http, environment_id: Id, data: JSONBody[DeployInput]) -> Body:
    call = Call(request)
    environment = await call.reach(Environment, environment_id, Operation.DEPLOY)
    if data.containers or data.databases or data.jobs or data.helms or data.terraforms:
        raise Invalid("only applications can be deployed in this version")
    named = await _named(call, environment, [a.application_id for a in data.applications])
    versions = {a.application_id: a.git_commit_id for a in data.applications if a.git_commit_id}
    for service_id in named:
        if service_id not in versions:
            await _require_version(call, service_id)
    await control.request(
        call.context, call.principal, environment, Verb.DEPLOY, services=named, versions=versions
    )
    return await _status(call, environment)


async def _require_version(call: Call, service_id: str) -> None:
    service = await resources.get_service(call.read, service_id)
    if service.commit is None:
        raise Invalid(f"{service.name} was never deployed: a version is needed", hint="give git_commit_id")


async def _act_on_services(request: Http, environment_id: str, verb: Verb) -> None:
    call = Call(request)
    environment = await call.reach(Environment, environment_id, Operation.DEPLOY)
    body = await call.optional_body(ServicesInput)
    ids = [*body.application_ids, *body.container_ids, *body.database_ids, *body.job_ids]
    named = await _named(call, environment, [*ids, *body.helm_ids, *body.terraform_ids])
    await control.request(call.context, call.principal, environment, verb, services=named)


@post("/environment/{environment_id:str}/service/restart-service", status_code=202)
async def restart_services(request: Http, environment_id: Id) -> Body:
    await _act_on_services(request, environment_id, Verb.RESTART)
    call = Call(request)
    body = await call.optional_body(ServicesInput)
    return await _service_status(call, body.application_ids[0])


async def _silently(request: Http, environment_id: str, verb: Verb) -> Response[bytes]:
    """Published as 200 without a body."""
    await _act_on_services(request, environment_id, verb)
    return Response(b"")


@post("/environment/{environment_id:str}/service/stop", status_code=200)
async def stop_services(request: Http, environment_id: Id) -> Response[bytes]:
    return await _silently(request, environment_id, Verb.STOP)


@post("/environment/{environment_id:str}/service/delete", status_code=200)
async def delete_services(request: Http, environment_id: Id) -> Response[bytes]:
    return await _silently(request, environment_id, Verb.DELETE)


@post("/environment/{environment_id:str}/service/uninstall", status_code=200)
async def uninstall_services(request: Http, environment_id: Id) -> Response[bytes]:
    return await _silently(request, environment_id, Verb.UNINSTALL)


# -- one application


async def _act_on_one(
    request: Http, application_id: str, verb: Verb, operation: Operation = Operation.DEPLOY
) -> tuple[Call, Service]:
    call = Call(request)
    service = await call.reach(Application, application_id, operation)
    environment = await resources.get(call.read, Environment, service.parent)
    versions: dict[str, str] = {}
    if verb is Verb.DEPLOY:
        body = await call.optional_body(CommitInput)
        versions = {service.id: body.git_commit_id} if body.git_commit_id else {}
    else:
        await call.no_body()
    await control.request(
        call.context, call.principal, environment, verb, services=[service.id], versions=versions
    )
    return call, service


async def _one(request: Http, application_id: str, verb: Verb) -> Body:
    call, service = await _act_on_one(request, application_id, verb)
    return await _service_status(call, service.id)


@post("/application/{application_id:str}/deploy", status_code=202)
async def deploy_application(request: Http, application_id: Id) -> Body:
    return await _one(request, application_id, Verb.DEPLOY)


@post("/application/{application_id:str}/redeploy", status_code=202)
async def redeploy_application(request: Http, application_id: Id) -> Body:
    return await _one(request, application_id, Verb.REDEPLOY)


@post("/application/{application_id:str}/stop", status_code=202)
async def stop_application(request: Http, application_id: Id) -> Body:
    return await _one(request, application_id, Verb.STOP)


@post("/application/{application_id:str}/restart-service", status_code=202)
async def restart_application(request: Http, application_id: Id) -> Body:
    return await _one(request, application_id, Verb.RESTART)


@post("/application/{application_id:str}/uninstall", status_code=202)
async def uninstall_application(request: Http, application_id: Id) -> Body:
    return await _one(request, application_id, Verb.UNINSTALL)


@delete("/application/{application_id:str}")
async def delete_application(request: Http, application_id: Id) -> None:
    await _act_on_one(request, application_id, Verb.DELETE, Operation.MANAGE)


@get("/application/{application_id:str}/status")
async def application_status(request: Http, application_id: Id) -> Body:
    call = Call(request)
    service = await call.reach(Application, application_id)
    return await _service_status(call, service.id)


# -- reading


@get("/environment/{environment_id:str}/status")
async def environment_status(request: Http, environment_id: Id) -> Body:
    call = Call(request)
    return await _status(call, await call.reach(Environment, environment_id))


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


@get("/environment/{environment_id:str}/application/status")
async def application_statuses(request: Http, environment_id: Id) -> Body:
    call = Call(request)
    environment = await call.reach(Environment, environment_id)
    return {"results": (await statuses.view(call.context, environment)).flat()["applications"]}


@get("/project/{project_id:str}/environment/status")
async def project_statuses(request: Http, project_id: Id) -> Body:
    call = Call(request)
    project = await call.reach(Project, project_id)
    environments = await resources.children(call.read, Environment, project.id)
    return {"results": [await _status(call, e) for e in environments]}


@get("/environment/{environment_id:str}/deploymentHistory")
async def history_v1(
    request: Http,
    environment_id: Id,
    start_id: Annotated[str | None, QueryParameter(name="startId")] = None,
) -> Body:
    call = Call(request)
    environment = await call.reach(Environment, environment_id)
    items = await history.page_v1(call.context, environment, start_id, _PAGE)
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
    deploy_services,
    restart_services,
    stop_services,
    delete_services,
    uninstall_services,
    deploy_application,
    redeploy_application,
    stop_application,
    restart_application,
    uninstall_application,
    delete_application,
    application_status,
    environment_status,
    environment_statuses,
    environment_statuses_with_stages,
    application_statuses,
    project_statuses,
    history_v1,
    history_v2,
    logs,
)
