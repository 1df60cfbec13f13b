"""Container registries of an organization."""

from litestar import delete, get, post, put
from litestar.params import JSONBody

from refloat.api import shapes
from refloat.api.call import Body, Call, Http, Id
from refloat.control import registries as control
from refloat.control.access import Operation
from refloat.control.registries import RegistryInput
from refloat.domain.errors import NotFound
from refloat.domain.resources import ContainerRegistry, Organization
from refloat.store import resources as store

_ALL = "/organization/{organization_id:str}/containerRegistry"
_ONE = f"{_ALL}/{{registry_id:str}}"


async def _body(call: Call, registry: ContainerRegistry) -> Body:
    return shapes.container_registry(registry, len(await control.used_by(call.read, registry)))


async def _registry(
    call: Call, organization_id: str, registry_id: str, operation: Operation = Operation.VIEW
) -> ContainerRegistry:
    organization = await call.reach(Organization, organization_id)
    found = await call.reach(ContainerRegistry, registry_id, operation)
    if found.parent != organization.id:
        raise NotFound(f"no container registry {registry_id}")
    return found


@get(_ALL)
async def list_registries(request: Http, organization_id: Id) -> Body:
    call = Call(request)
    organization = await call.reach(Organization, organization_id)
    found = await store.children(call.read, ContainerRegistry, organization.id)
    return shapes.listed([await _body(call, r) for r in found])


@post(_ALL)
async def create_registry(request: Http, organization_id: Id, data: JSONBody[RegistryInput]) -> Body:
    call = Call(request)
    organization = await call.reach(Organization, organization_id, Operation.ADMINISTER)
    return await _body(call, await control.create(call.context, organization, data))


@get(_ONE)
async def get_registry(request: Http, organization_id: Id, registry_id: Id) -> Body:
    call = Call(request)
    return await _body(call, await _registry(call, organization_id, registry_id))


@put(_ONE)
async def edit_registry(
    request: Http, organization_id: Id, registry_id: Id, data: JSONBody[RegistryInput]
) -> Body:
    call = Call(request)
    current = await _registry(call, organization_id, registry_id, Operation.ADMINISTER)
    return await _body(call, await control.edit(call.context, current, data))


@delete(_ONE)
async def delete_registry(request: Http, organization_id: Id, registry_id: Id) -> None:
    call = Call(request)
    await control.delete(
        call.context, await _registry(call, organization_id, registry_id, Operation.ADMINISTER)
    )


ROUTES = (list_registries, create_registry, get_registry, edit_registry, delete_registry)
