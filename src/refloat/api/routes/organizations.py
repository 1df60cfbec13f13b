"""Organizations, projects and clusters."""

import msgspec
from litestar import delete, get, post, put
from litestar.params import JSONBody

from refloat.api import shapes
from refloat.api.call import Body, Call, Http, Id
from refloat.control import organizations as control
from refloat.control.access import Operation
from refloat.control.organizations import OrganizationInput
from refloat.domain.resources import Cluster, ClusterKind, Environment, Organization, Project
from refloat.store import resources as store


class ProjectInput(msgspec.Struct, kw_only=True):
    name: str
    description: str | None = None


class ClusterInput(msgspec.Struct, kw_only=True):
    """`refloat_kind` is ours; the published fields for clouds are accepted and mean nothing here."""

    name: str
    region: str = "on-premise"
    description: str | None = None
    refloat_kind: ClusterKind = ClusterKind.LOCAL


@get("/organization")
async def list_organizations(request: Http) -> Body:
    call = Call(request)
    everything = await store.everything(call.read, Organization)
    own = [o for o in everything if call.principal.organization_id in (None, o.id)]
    return shapes.listed([shapes.organization(o) for o in own])


@post("/organization")
async def create_organization(request: Http, data: JSONBody[OrganizationInput]) -> Body:
    call = Call(request)
    return shapes.organization(await control.create_organization(call.context, call.principal, data))


@get("/organization/{organization_id:str}")
async def get_organization(request: Http, organization_id: Id) -> Body:
    return shapes.organization(await Call(request).reach(Organization, organization_id))


@put("/organization/{organization_id:str}")
async def edit_organization(request: Http, organization_id: Id, data: JSONBody[OrganizationInput]) -> Body:
    call = Call(request)
    current = await call.reach(Organization, organization_id, Operation.ADMINISTER)
    return shapes.organization(await control.change(call.context, current, **data.fields()))


async def _project(call: Call, project: Project) -> Body:
    return shapes.project(project, len(await store.children(call.read, Environment, project.id)))


@get("/organization/{organization_id:str}/project")
async def list_projects(request: Http, organization_id: Id) -> Body:
    call = Call(request)
    organization = await call.reach(Organization, organization_id)
    projects = await store.children(call.read, Project, organization.id)
    return shapes.listed([await _project(call, p) for p in projects])


@post("/organization/{organization_id:str}/project", status_code=200)
async def create_project(request: Http, organization_id: Id, data: JSONBody[ProjectInput]) -> Body:
    call = Call(request)
    organization = await call.reach(Organization, organization_id, Operation.MANAGE)
    made = await control.create_project(call.context, organization, data.name, data.description)
    return await _project(call, made)


@get("/project/{project_id:str}")
async def get_project(request: Http, project_id: Id) -> Body:
    call = Call(request)
    return await _project(call, await call.reach(Project, project_id))


@put("/project/{project_id:str}")
async def edit_project(request: Http, project_id: Id, data: JSONBody[ProjectInput]) -> Body:
    call = Call(request)
    current = await call.reach(Project, project_id, Operation.MANAGE)
    name = control.checked_name(data.name)
    return await _project(
        call, await control.change(call.context, current, name=name, description=data.description)
    )


@delete("/project/{project_id:str}")
async def delete_project(request: Http, project_id: Id) -> None:
    call = Call(request)
    await control.delete_project(call.context, await call.reach(Project, project_id, Operation.ADMINISTER))


@get("/organization/{organization_id:str}/cluster")
async def list_clusters(request: Http, organization_id: Id) -> Body:
    call = Call(request)
    organization = await call.reach(Organization, organization_id)
    clusters = await store.children(call.read, Cluster, organization.id)
    return shapes.listed([shapes.cluster(c) for c in clusters])


@post("/organization/{organization_id:str}/cluster")
async def create_cluster(request: Http, organization_id: Id, data: JSONBody[ClusterInput]) -> Body:
    call = Call(request)
    organization = await call.reach(Organization, organization_id, Operation.ADMINISTER)
    made = await control.create_cluster(
        call.context, organization, data.name, data.refloat_kind, data.region, data.description
    )
    return shapes.cluster(made)


@get("/organization/{organization_id:str}/cluster/status")
async def cluster_statuses(request: Http, organization_id: Id) -> Body:
    call = Call(request)
    organization = await call.reach(Organization, organization_id)
    clusters = await store.children(call.read, Cluster, organization.id)
    return shapes.listed(
        [
            {"cluster_id": c.id, "status": "DEPLOYED", "is_deployed": True, "reason": "UNSPECIFIED"}
            for c in clusters
        ]
    )


ROUTES = (
    list_organizations,
    create_organization,
    get_organization,
    edit_organization,
    list_projects,
    create_project,
    get_project,
    edit_project,
    delete_project,
    list_clusters,
    create_cluster,
    cluster_statuses,
)
