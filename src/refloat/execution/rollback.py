"""Going back: what is wanted is the snapshot of an earlier deployment, not what is configured now.

Code, configuration and values are those of that deployment. What is configured stays as it is, so that the
next redeploy goes forward again, and the status says OUT_OF_DATE until then. Services that were made later
are left alone; those that were deleted since stay deleted.
"""

import msgspec

from refloat.domain.errors import Invalid
from refloat.execution.snapshot import Compiled, open_snapshot
from refloat.planning.plan import Plan
from refloat.planning.wanted import COMMIT, Wanted
from refloat.store import deployments as store
from refloat.store.database import Reader
from refloat.store.sealing import Sealer


async def rolled_back(read: Reader, sealer: Sealer, deployment_id: str, now: Compiled) -> Compiled:
    """`now` with the services of that deployment as they were in it, and without the others.

    Raises Invalid when there is nothing to go back to.
    """
    plan_text, sealed = await store.claimed_documents(read, deployment_id)
    plan, old = msgspec.json.decode(plan_text, type=Plan), open_snapshot(sealed, sealer)
    commits = {t.service_id: t.commit_id for t in await store.targets(read, deployment_id)}
    took_part = {service.service_id for service in plan.services}
    wanted = tuple(
        _as_it_was(service, old.fields[service.service_id], commits.get(service.service_id, ""))
        for service in now.wanted
        if service.service_id in took_part and service.service_id in old.fields
    )
    if not wanted:
        raise Invalid("nothing to go back to: none of the services of that deployment is left")
    kept = {w.service_id: old.services[w.service_id] for w in wanted}
    snapshot = msgspec.structs.replace(
        now.snapshot,
        services={**now.snapshot.services, **kept},
        fields={**now.snapshot.fields, **{w.service_id: w.fields for w in wanted}},
    )
    return Compiled(wanted=wanted, snapshot=snapshot)


def _as_it_was(service: Wanted, fields: dict[str, str], commit_id: str) -> Wanted:
    """In the stage where it stands now. A version that was resolved only while it was deployed is known
    from its target."""
    if COMMIT in fields and commit_id:
        fields = {**fields, COMMIT: commit_id}
    return msgspec.structs.replace(service, fields=fields, commit_id=commit_id or service.commit_id)
