"""Custom domains of applications and containers."""

from typing import Any

from litestar import delete, get, post, put
from litestar.params import JSONBody

from refloat.api import shapes
from refloat.api.call import Body, Call, Http, Id
from refloat.control import custom_domains as control
from refloat.control.access import Operation
from refloat.control.custom_domains import DomainInput
from refloat.domain.resources import CustomDomain
from refloat.domain.services import Application, Container, Workload
from refloat.store import resources as store


async def _reached(
    request: Http, kind: type[Workload], service_id: str, operation: Operation = Operation.VIEW
) -> tuple[Call, Workload, str]:
    """The call, the service, and the name that its domains lead to."""
    call = Call(request)
    service = await call.reach(kind, service_id, operation)
    return call, service, await control.target_of(call.context, service)


def _family(kind: type[Workload]) -> tuple[Any, ...]:
    """The endpoints of one kind."""
    noun = kind.kind
    every = f"/{noun}/{{service_id:str}}/customDomain"
    one = f"{every}/{{domain_id:str}}"

    def named(verb: str) -> dict[str, Any]:
        return {"name": f"{verb}_{noun}", "operation_id": f"{verb}_{noun}"}

    @get(every, **named("custom_domains"))
    async def listing(request: Http, service_id: Id) -> Body:
        call, service, target = await _reached(request, kind, service_id)
        found = await store.children(call.read, CustomDomain, service.id)
        return shapes.listed([shapes.custom_domain(domain, target) for domain in found])

    @post(every, **named("create_custom_domain"))
    async def create(request: Http, service_id: Id, data: JSONBody[DomainInput]) -> Body:
        call, service, target = await _reached(request, kind, service_id, Operation.MANAGE)
        return shapes.custom_domain(await control.create(call.context, service, data), target)

    @put(one, **named("edit_custom_domain"))
    async def edit(request: Http, service_id: Id, domain_id: Id, data: JSONBody[DomainInput]) -> Body:
        call, service, target = await _reached(request, kind, service_id, Operation.MANAGE)
        current = await control.find(call.read, service, domain_id)
        return shapes.custom_domain(await control.edit(call.context, current, data), target)

    @delete(one, **named("delete_custom_domain"))
    async def remove(request: Http, service_id: Id, domain_id: Id) -> None:
        call, service, _ = await _reached(request, kind, service_id, Operation.MANAGE)
        await control.delete(call.context, await control.find(call.read, service, domain_id))

    @get(f"{one}/status", **named("custom_domain_status"))
    async def status(request: Http, service_id: Id, domain_id: Id) -> Body:
        call, service, target = await _reached(request, kind, service_id)
        return shapes.custom_domain(await control.find(call.read, service, domain_id), target)

    @get(f"/{noun}/{{service_id:str}}/checkCustomDomain", **named("check_custom_domains"))
    async def check(request: Http, service_id: Id) -> Body:
        call, service, _ = await _reached(request, kind, service_id)
        found = await control.check(call.context, service)
        return shapes.listed(
            [
                {"domain_name": domain.name, "status": standing, "error_details": details or None}
                for domain, standing, details in found
            ]
        )

    return listing, create, edit, remove, status, check


ROUTES = tuple(handler for kind in (Application, Container) for handler in _family(kind))
