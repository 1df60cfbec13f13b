"""Environments and their deployment stages."""

from typing import Literal

import msgspec
from litestar import delete, get, post, put
from litestar.params import JSONBody

from refloat.api import shapes
from refloat.api.call import Body, Call, Http, Id
from refloat.control import organizations, stages
from refloat.control.access import Operation
from refloat.domain.resources import Cluster, Environment, EnvironmentMode, Project, Stage
from refloat.store import resources as store


class CreateEnvironment(msgspec.Struct, kw_only=True):
    name: str
    cluster: str | None = None
    mode: Literal["DEVELOPMENT", "STAGING", "PRODUCTION"] | None = None


class EditEnvironment(msgspec.Struct, kw_only=True):
    name: str | None = None
    mode: EnvironmentMode | None = None


class StageInput(msgspec.Struct, kw_only=True):
    name: str
    description: str | None = None


class PlaceInput(msgspec.Struct, kw_only=True):
    is_skipped: bool = False


async def environment_body(call: Call, environment: Environment) -> Body:
    """As published, with the names of what it belongs to."""
    project = await store.get(call.read, Project, environment.parent)
    cluster = await store.get(call.read, Cluster, environment.cluster_id)
    return shapes.environment(environment, project.parent, cluster)


@post("/project/{project_id:str}/environment")
async def create_environment(request: Http, project_id: Id, data: JSONBody[CreateEnvironment]) -> Body:
    call = Call(request)
    project = await call.reach(Project, project_id, Operation.MANAGE)
    if data.cluster:
        cluster = await call.reach(Cluster, data.cluster)
    else:
        cluster = await organizations.default_cluster(call.read, project.parent)
    mode = EnvironmentMode(data.mode or "DEVELOPMENT")
    made = await organizations.create_environment(
        call.context, call.principal, project, data.name, mode, cluster
    )
    return await environment_body(call, made)


@get("/project/{project_id:str}/environment")
async def list_environments(request: Http, project_id: Id) -> Body:
    call = Call(request)
    project = await call.reach(Project, project_id)
    found = await store.children(call.read, Environment, project.id)
    return shapes.listed([await environment_body(call, e) for e in found])


@get("/environment/{environment_id:str}")
async def get_environment(request: Http, environment_id: Id) -> Body:
    call = Call(request)
    return await environment_body(call, await call.reach(Environment, environment_id))


@put("/environment/{environment_id:str}")
async def edit_environment(request: Http, environment_id: Id, data: JSONBody[EditEnvironment]) -> Body:
    call = Call(request)
    current = await call.reach(Environment, environment_id, Operation.MANAGE)
    edited = await organizations.change(
        call.context,
        current,
        last_updated_by=call.principal.id,
        **({"name": organizations.checked_name(data.name)} if data.name is not None else {}),
        **({"mode": data.mode} if data.mode else {}),
    )
    return await environment_body(call, edited)


async def _stages(call: Call, environment_id: str) -> Body:
    services = list(await store.services(call.read, environment_id))
    found = await stages.ordered(call.read, environment_id)
    return shapes.listed([shapes.stage(s, services) for s in found])


async def _stage(call: Call, stage: Stage) -> Body:
    return shapes.stage(stage, list(await store.services(call.read, stage.parent)))


@get("/environment/{environment_id:str}/deploymentStage")
async def list_stages(request: Http, environment_id: Id) -> Body:
    call = Call(request)
    return await _stages(call, (await call.reach(Environment, environment_id)).id)


@post("/environment/{environment_id:str}/deploymentStage", status_code=200)
async def create_stage(request: Http, environment_id: Id, data: JSONBody[StageInput]) -> Body:
    call = Call(request)
    environment = await call.reach(Environment, environment_id, Operation.MANAGE)
    return await _stage(call, await stages.create(call.context, environment, data.name, data.description))


@get("/deploymentStage/{stage_id:str}")
async def get_stage(request: Http, stage_id: Id) -> Body:
    call = Call(request)
    return await _stage(call, await call.reach(Stage, stage_id))


@put("/deploymentStage/{stage_id:str}")
async def edit_stage(request: Http, stage_id: Id, data: JSONBody[StageInput]) -> Body:
    call = Call(request)
    stage = await call.reach(Stage, stage_id, Operation.MANAGE)
    return await _stage(call, await stages.edit(call.context, stage, data.name, data.description))


@delete("/deploymentStage/{stage_id:str}")
async def delete_stage(request: Http, stage_id: Id) -> None:
    call = Call(request)
    await stages.delete(call.context, await call.reach(Stage, stage_id, Operation.MANAGE))


async def _move(request: Http, stage_id: str, other_id: str, *, after: bool) -> Body:
    call = Call(request)
    stage = await call.reach(Stage, stage_id, Operation.MANAGE)
    await stages.move(call.context, stage, await call.reach(Stage, other_id), after=after)
    return await _stages(call, stage.parent)


@put("/deploymentStage/{stage_id:str}/moveBefore/{other_id:str}")
async def move_before(request: Http, stage_id: Id, other_id: Id) -> Body:
    return await _move(request, stage_id, other_id, after=False)


@put("/deploymentStage/{stage_id:str}/moveAfter/{other_id:str}")
async def move_after(request: Http, stage_id: Id, other_id: Id) -> Body:
    return await _move(request, stage_id, other_id, after=True)


@put("/deploymentStage/{stage_id:str}/service/{service_id:str}")
async def place_service(request: Http, stage_id: Id, service_id: Id) -> Body:
    call = Call(request)
    stage = await call.reach(Stage, stage_id, Operation.MANAGE)
    service = await call.reach_service(service_id, Operation.MANAGE)
    body = await call.optional_body(PlaceInput)
    await stages.place(call.context, stage, service, is_skipped=body.is_skipped)
    return await _stages(call, stage.parent)


@get("/service/{service_id:str}/deploymentStage")
async def stage_of_service(request: Http, service_id: Id) -> Body:
    call = Call(request)
    service = await call.reach_service(service_id)
    return await _stage(call, await store.get(call.read, Stage, service.stage_id))


ROUTES = (
    create_environment,
    list_environments,
    get_environment,
    edit_environment,
    list_stages,
    create_stage,
    get_stage,
    edit_stage,
    delete_stage,
    move_before,
    move_after,
    place_service,
    stage_of_service,
)
