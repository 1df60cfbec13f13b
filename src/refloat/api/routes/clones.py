"""Cloning environments and services."""

from typing import Any

import msgspec
from litestar import post
from litestar.params import JSONBody

from refloat.api.call import Body, Call, Http, Id
from refloat.api.routes.environments import environment_body
from refloat.api.routes.services import rendered
from refloat.control import clones as control
from refloat.control.access import Operation
from refloat.domain.errors import Invalid
from refloat.domain.resources import Cluster, Environment, EnvironmentMode, Project
from refloat.domain.services import SERVICE_KINDS, Service
from refloat.store import resources as store


class CloneInput(msgspec.Struct, kw_only=True):
    """What is left out is as in the source."""

    name: str
    cluster_id: str | None = None
    mode: EnvironmentMode | None = None
    project_id: str | None = None
    apply_deployment_rule: bool | None = False


@post("/environment/{environment_id:str}/clone", status_code=202)
async def clone_environment(request: Http, environment_id: Id, data: JSONBody[CloneInput]) -> Body:
    """The same configuration under other ids; nothing is deployed."""
    call = Call(request)
    source = await call.reach(Environment, environment_id, Operation.MANAGE)
    if data.apply_deployment_rule:
        raise Invalid("apply_deployment_rule: there are no deployment rules here", hint="leave it out")
    project = await call.reach(Project, data.project_id or source.parent, Operation.MANAGE)
    own = await store.get(call.read, Project, source.parent)
    if project.parent != own.parent:
        raise Invalid("project_id: a clone stays in the organization of its source")
    made = await control.clone_environment(
        call.context,
        call.principal,
        source,
        data.name,
        mode=data.mode,
        cluster=await call.reach(Cluster, data.cluster_id or source.cluster_id),
        project=project,
    )
    return await environment_body(call, made)


class CloneServiceInput(msgspec.Struct, kw_only=True):
    """Where the copy goes, and its name there."""

    name: str
    environment_id: str


def _of_kind(kind: type[Service]) -> Any:
    name = f"clone_{kind.kind}"

    @post(f"/{kind.kind}/{{service_id:str}}/clone", status_code=202, name=name, operation_id=name)
    async def clone(request: Http, service_id: Id, data: JSONBody[CloneServiceInput]) -> Body:
        call = Call(request)
        source = await call.reach(kind, service_id, Operation.MANAGE)
        environment = await call.reach(Environment, data.environment_id, Operation.MANAGE)
        own = await store.get(call.read, Environment, source.parent)
        projects = [await store.get(call.read, Project, e.parent) for e in (own, environment)]
        if projects[0].parent != projects[1].parent:
            raise Invalid("environment_id: a clone stays in the organization of its source")
        return await rendered(call, await control.clone_service(call.context, source, data.name, environment))

    return clone


ROUTES = (clone_environment, *(_of_kind(kind) for kind in SERVICE_KINDS))
