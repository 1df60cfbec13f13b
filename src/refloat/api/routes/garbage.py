"""What builds keep on the disk of a cluster's node, and cleaning it up; for the administrator alone,
because a node is shared by all organizations."""

from typing import Any

from litestar import get, post

from refloat.api.call import Body, Call, Http, Id
from refloat.api.statuses import timestamp
from refloat.builders.base import Builder, DiskUse, Kept
from refloat.control.access import Operation
from refloat.domain.errors import Forbidden
from refloat.domain.resources import Cluster
from refloat.domain.services import SERVICE_KINDS
from refloat.execution.places import Elsewhere, is_here
from refloat.store import resources


@get("/refloat/cluster/{cluster_id:str}/garbage")
async def read_garbage(request: Http, cluster_id: Id) -> Body:
    """Every folder that builds left, with its size, why it stays, and whether a clean-up would delete it."""
    call = Call(request)
    return await _shown(call, await (await _builder(call, cluster_id)).disk())


@post("/refloat/cluster/{cluster_id:str}/clean", status_code=200)
async def clean(request: Http, cluster_id: Id) -> Body:
    """Delete what nothing needs; what was deleted. What history can go back to stays."""
    call = Call(request)
    await call.no_body()
    return await _shown(call, await (await _builder(call, cluster_id)).clean())


async def _builder(call: Call, cluster_id: str) -> Builder:
    cluster = await call.reach(Cluster, cluster_id, Operation.ADMINISTER)
    if call.principal.organization_id is not None:
        raise Forbidden("only the admin token may look at the disk of a node, which all organizations share")
    if not is_here(call.context.platforms, cluster):
        raise Elsewhere(
            f"the cluster {cluster.name} belongs to node {cluster.node}", hint="ask a server of that node"
        )
    return call.context.platforms[cluster.runs_on].builder


async def _shown(call: Call, use: DiskUse) -> Body:
    names = {s.id: s.name for kind in SERVICE_KINDS for s in await resources.everything(call.read, kind)}
    return {
        "used_bytes": use.used,
        "budget_bytes": use.budget,
        "results": [_folder(it, names.get(it.service_id)) for it in use.kept],
    }


def _folder(it: Kept, name: str | None) -> dict[str, Any]:
    return {
        "service_id": it.service_id,
        "service_name": name,
        "kind": it.kind,
        "path": it.path,
        "bytes": it.bytes,
        "used_at": timestamp(it.used_at),
        "goes": it.goes,
        "reason": it.reason,
    }


ROUTES = (read_garbage, clean)
