"""Services of every kind as configuration: make, list, read, edit; their links and commits."""

from typing import Any

from litestar import get, post, put
from litestar.params import JSONBody

from refloat.api import service_shapes, shapes
from refloat.api.call import Body, Call, Http, Id
from refloat.api.statuses import timestamp
from refloat.control import services as control
from refloat.control.access import Operation
from refloat.domain.errors import Invalid
from refloat.domain.resources import ContainerRegistry, Environment
from refloat.domain.services import (
    AnyService,
    Application,
    Container,
    Database,
    Image,
    Job,
    Service,
)
from refloat.execution.places import addresses_of, platform_of
from refloat.execution.snapshot import opened_source
from refloat.planning.wanted import is_routed
from refloat.store import resources as store

_UNKNOWN_KINDS = ("helm", "terraform")
_COMMITS = 20


async def rendered(call: Call, service: AnyService) -> Body:
    """The published body of a service of whichever kind."""
    if isinstance(service, Application):
        return service_shapes.application(service)
    if isinstance(service, Container):
        return service_shapes.container(service, await _registry(call, service.image))
    if isinstance(service, Job):
        return service_shapes.job(service, await _registry(call, service.image))
    return service_shapes.database(service, await endpoint_of(call, service))


async def _registry(call: Call, image: Image | None) -> ContainerRegistry | None:
    return await store.find(call.read, ContainerRegistry, image.registry_id) if image else None


async def endpoint_of(call: Call, database: Database) -> str:
    """Where a database is, or will be once it is deployed; of another node's, once it was."""
    environment = await store.get(call.read, Environment, database.parent)
    context = call.context
    addresses = await addresses_of(call.read, context.platforms, environment, context.settings.domain)
    return addresses[database.id].internal if database.id in addresses else "localhost:0"


def _family(kind: type[Service]) -> tuple[Any, ...]:
    """The configuration endpoints of one kind."""
    noun, (new_body, edit_body) = kind.kind, control.INPUTS[kind]

    def named(verb: str) -> dict[str, Any]:
        return {"name": f"{verb}_{noun}", "operation_id": f"{verb}_{noun}"}

    @post(f"/environment/{{environment_id:str}}/{noun}", **named("create"))
    async def create(request: Http, environment_id: Id, data: JSONBody[new_body]) -> Body:  # type: ignore[valid-type]
        call = Call(request)
        environment = await call.reach(Environment, environment_id, Operation.MANAGE)
        made: Any = await control.create(call.context, environment, kind, data)
        return await rendered(call, made)

    @get(f"/environment/{{environment_id:str}}/{noun}", **named("list"))
    async def listing(request: Http, environment_id: Id) -> Body:
        call = Call(request)
        environment = await call.reach(Environment, environment_id)
        found = await store.services(call.read, environment.id)
        return shapes.listed([await rendered(call, s) for s in found if isinstance(s, kind)])

    @get(f"/{noun}/{{service_id:str}}", **named("get"))
    async def read(request: Http, service_id: Id) -> Body:
        call = Call(request)
        found: Any = await call.reach(kind, service_id)
        return await rendered(call, found)

    @put(f"/{noun}/{{service_id:str}}", **named("edit"))
    async def edit(request: Http, service_id: Id, data: JSONBody[edit_body]) -> Body:  # type: ignore[valid-type]
        call = Call(request)
        current = await call.reach(kind, service_id, Operation.MANAGE)
        edited: Any = await control.edit(call.context, current, data)
        return await rendered(call, edited)

    return create, listing, read, edit


@get("/environment/{environment_id:str}/services")
async def list_services(request: Http, environment_id: Id) -> Body:
    call = Call(request)
    environment = await call.reach(Environment, environment_id)
    found = await store.services(call.read, environment.id)
    return shapes.listed([await rendered(call, s) for s in found])


async def _links(call: Call, environment: Environment, services: list[AnyService]) -> Body:
    context = call.context
    addresses = await addresses_of(call.read, context.platforms, environment, context.settings.domain)
    routed = [s for s in services if is_routed(s) and s.id in addresses]
    return shapes.listed([link for s in routed for link in shapes.links(s, addresses[s.id])])


@get("/environment/{environment_id:str}/link")
async def environment_links(request: Http, environment_id: Id) -> Body:
    call = Call(request)
    environment = await call.reach(Environment, environment_id)
    return await _links(call, environment, list(await store.services(call.read, environment.id)))


def _link(kind: type[Service]) -> Any:
    noun = kind.kind

    @get(f"/{noun}/{{service_id:str}}/link", name=f"link_{noun}", operation_id=f"link_{noun}")
    async def links(request: Http, service_id: Id) -> Body:
        call = Call(request)
        service: Any = await call.reach(kind, service_id)
        environment = await store.get(call.read, Environment, service.parent)
        return await _links(call, environment, [service])

    return links


def _commits(kind: type[Service]) -> Any:
    noun = kind.kind

    @get(f"/{noun}/{{service_id:str}}/commit", name=f"commits_{noun}", operation_id=f"commits_{noun}")
    async def commits(request: Http, service_id: Id) -> Body:
        call = Call(request)
        service = await call.reach(kind, service_id)
        if service.git is None:
            raise Invalid(f"{service.name} is not built from git and has no commits")
        environment = await store.get(call.read, Environment, service.parent)
        platform = await platform_of(call.read, call.context.platforms, environment)
        source = opened_source(service.git, call.context.sealer)
        found = await platform.builder.commits(service.id, source, _COMMITS)
        return shapes.listed(
            [
                {
                    "git_commit_id": c.id,
                    "created_at": timestamp(c.created_at or service.created_at),
                    "author_name": c.author,
                    "message": c.message,
                    "tag": c.tag,
                }
                for c in found
            ]
        )

    return commits


def _unknown_kind(kind: str) -> tuple[Any, Any]:
    @get(f"/environment/{{environment_id:str}}/{kind}", name=f"list_{kind}", operation_id=f"list_{kind}")
    async def list_none(request: Http, environment_id: Id) -> Body:
        await Call(request).reach(Environment, environment_id)
        return shapes.listed([])

    @post(f"/environment/{{environment_id:str}}/{kind}", name=f"create_{kind}", operation_id=f"create_{kind}")
    async def refuse(request: Http, environment_id: Id) -> Body:
        await Call(request).reach(Environment, environment_id, Operation.MANAGE)
        raise Invalid(
            f"services of the kind {kind} are not available in this version",
            hint="use an application, a container, a job or a database",
        )

    return list_none, refuse


ROUTES = (
    *(handler for kind in control.INPUTS for handler in _family(kind)),
    list_services,
    environment_links,
    *(_link(kind) for kind in (Application, Container)),
    *(_commits(kind) for kind in (Application, Job)),
    *(handler for kind in _UNKNOWN_KINDS for handler in _unknown_kind(kind)),
)
