"""Applications as configuration, and the lists of the other kinds, which are empty here."""

from typing import Any

from litestar import get, post, put
from litestar.params import JSONBody

from refloat.api import shapes
from refloat.api.call import Body, Call, Http, Id
from refloat.api.statuses import timestamp
from refloat.control import applications as control
from refloat.control.access import Operation
from refloat.control.application_input import ApplicationInput
from refloat.domain.errors import Invalid
from refloat.domain.resources import Application, Environment, Service
from refloat.execution.places import addresses_of, platform_of
from refloat.planning.wanted import is_routed
from refloat.store import resources as store

_OTHER_KINDS = ("container", "database", "job", "helm", "terraform")
_COMMITS = 20


@post("/environment/{environment_id:str}/application")
async def create_application(request: Http, environment_id: Id, data: JSONBody[ApplicationInput]) -> Body:
    call = Call(request)
    environment = await call.reach(Environment, environment_id, Operation.MANAGE)
    return shapes.application(await control.create(call.context, environment, data))


@get("/environment/{environment_id:str}/application")
async def list_applications(request: Http, environment_id: Id) -> Body:
    call = Call(request)
    environment = await call.reach(Environment, environment_id)
    found = await store.children(call.read, Application, environment.id)
    return shapes.listed([shapes.application(a) for a in found])


@get("/environment/{environment_id:str}/services")
async def list_services(request: Http, environment_id: Id) -> Body:
    call = Call(request)
    environment = await call.reach(Environment, environment_id)
    found = await store.services(call.read, environment.id)
    return shapes.listed([shapes.application(s) for s in found])


@get("/application/{application_id:str}")
async def get_application(request: Http, application_id: Id) -> Body:
    return shapes.application(await Call(request).reach(Application, application_id))


@put("/application/{application_id:str}")
async def edit_application(request: Http, application_id: Id, data: JSONBody[ApplicationInput]) -> Body:
    call = Call(request)
    current = await call.reach(Application, application_id, Operation.MANAGE)
    return shapes.application(await control.edit(call.context, current, data))


async def _links(call: Call, environment: Environment, services: list[Service]) -> Body:
    context = call.context
    addresses = await addresses_of(call.read, context.platforms, environment, context.settings.domain)
    return shapes.listed(
        [shapes.link(s, addresses[s.id]) for s in services if is_routed(s) and s.id in addresses]
    )


@get("/application/{application_id:str}/link")
async def application_links(request: Http, application_id: Id) -> Body:
    call = Call(request)
    application = await call.reach(Application, application_id)
    environment = await store.get(call.read, Environment, application.parent)
    return await _links(call, environment, [application])


@get("/environment/{environment_id:str}/link")
async def environment_links(request: Http, environment_id: Id) -> Body:
    call = Call(request)
    environment = await call.reach(Environment, environment_id)
    return await _links(call, environment, list(await store.services(call.read, environment.id)))


@get("/application/{application_id:str}/commit")
async def list_commits(request: Http, application_id: Id) -> Body:
    call = Call(request)
    application = await call.reach(Application, application_id)
    environment = await store.get(call.read, Environment, application.parent)
    platform = await platform_of(call.read, call.context.platforms, environment)
    found = await platform.builder.commits(application.id, application.git, _COMMITS)
    return shapes.listed(
        [
            {
                "git_commit_id": c.id,
                "created_at": timestamp(c.created_at or application.created_at),
                "author_name": c.author,
                "message": c.message,
                "tag": c.tag,
            }
            for c in found
        ]
    )


def _other_kind(kind: str) -> tuple[Any, Any]:
    @get(f"/environment/{{environment_id:str}}/{kind}", name=f"list_{kind}", operation_id=f"list_{kind}")
    async def list_none(request: Http, environment_id: Id) -> Body:
        await Call(request).reach(Environment, environment_id)
        return shapes.listed([])

    @post(f"/environment/{{environment_id:str}}/{kind}", name=f"create_{kind}", operation_id=f"create_{kind}")
    async def refuse(request: Http, environment_id: Id) -> Body:
        await Call(request).reach(Environment, environment_id, Operation.MANAGE)
        raise Invalid(
            f"services of the kind {kind} are not available in this version", hint="use an application"
        )

    return list_none, refuse


ROUTES = (
    create_application,
    list_applications,
    list_services,
    get_application,
    edit_application,
    application_links,
    environment_links,
    list_commits,
    *(handler for kind in _OTHER_KINDS for handler in _other_kind(kind)),
)
