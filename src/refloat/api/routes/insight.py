"""What one deployment waits for, and what it spent its time on; ours, below /refloat."""

from litestar import get

from refloat.api import explanations
from refloat.api.call import Body, Call, Http, Id
from refloat.api.routes.queue import reach_deployment
from refloat.control import explanations as control


@get("/refloat/deployment/{deployment_id:str}/explain")
async def explain(request: Http, deployment_id: Id) -> Body:
    """Why the deployment is where it is: in sentences, and as fields."""
    call = Call(request)
    found = await reach_deployment(call, deployment_id)
    return explanations.body(await control.read(call.context, found.id))


@get("/refloat/deployment/{deployment_id:str}/critical-path")
async def read_critical_path(request: Http, deployment_id: Id) -> Body:
    """What determined how long an ended deployment took, and what took longer than the time before."""
    call = Call(request)
    found = await reach_deployment(call, deployment_id)
    return explanations.time_spent(await control.time_spent(call.context, found.id))


ROUTES = (explain, read_critical_path)
