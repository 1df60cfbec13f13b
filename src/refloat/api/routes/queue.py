"""The queue of requests that wait, and single requests by their id."""

from typing import Annotated

from litestar import get, post
from litestar.params import QueryParameter
from litestar.response import Response

from refloat.api import history, shapes
from refloat.api.call import Body, Call, Http, Id
from refloat.api.states import deployment_state
from refloat.control import deployments as control
from refloat.control.access import Operation, check_id
from refloat.domain.deployment import Deployment
from refloat.domain.errors import NotFound
from refloat.domain.resources import Environment
from refloat.store import deployments as store


async def _waiting(call: Call, environment_id: str) -> list[Deployment]:
    found = await store.open_deployments(call.read, environment_id)
    return [deployment for deployment in found if deployment.owner is None]


async def reach_deployment(
    call: Call, deployment_id: str, operation: Operation = Operation.VIEW
) -> Deployment:
    """A deployment by its request id; unknown and foreign get the same answer."""
    found = await store.find_deployment(call.read, check_id(deployment_id, "deployment"))
    if found is None:
        raise NotFound(f"no deployment {deployment_id}")
    try:
        await call.reach(Environment, found.environment_id, operation)
    except NotFound:
        raise NotFound(f"no deployment {deployment_id}") from None
    return found


@get("/environment/{environment_id:str}/deploymentQueue")
async def environment_queue(request: Http, environment_id: Id) -> Body:
    """The requests that wait, in the order they will run; not the one that runs."""
    call = Call(request)
    environment = await call.reach(Environment, environment_id)
    waiting = await _waiting(call, environment.id)
    return shapes.listed([history.queued(d, await store.targets(call.read, d.id)) for d in waiting])


@get("/service/{service_id:str}/deploymentQueue")
async def service_queue(request: Http, service_id: Id) -> Body:
    call = Call(request)
    service = await call.reach_service(service_id)
    return shapes.listed(
        [
            history.queued_service(deployment, target)
            for deployment in await _waiting(call, service.parent)
            for target in await store.targets(call.read, deployment.id)
            if target.service_id == service.id
        ]
    )


@get("/environment/deploymentStatus")
async def deployment_status(
    request: Http, deployment_id: Annotated[str, QueryParameter(name="deploymentRequestId")]
) -> Body:
    """The state of one request; its id is in the body of the 202."""
    call = Call(request)
    found = await reach_deployment(call, deployment_id)
    state = deployment_state(found, await store.targets(call.read, found.id))
    return {"deployment_request_id": found.id, "environment_id": found.environment_id, "status": state}


@post("/deploymentQueue/{deployment_id:str}/cancelDeployment", status_code=202)
async def cancel_request(request: Http, deployment_id: Id) -> Response[bytes]:
    call = Call(request)
    await call.no_body()
    await control.cancel_one(call.context, await reach_deployment(call, deployment_id, Operation.DEPLOY))
    return Response(b"", status_code=202)


ROUTES = (environment_queue, service_queue, deployment_status, cancel_request)
