"""Going back: what is wanted is the snapshot of an earlier deployment, not what is configured now.

Code, configuration and values are those of that deployment. What is configured stays as it is, so that the
next redeploy goes forward again, and the status says OUT_OF_DATE until then. Services that were made later
are left alone; those that were deleted since stay deleted.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from refloat.domain.errors import Invalid
from refloat.domain.progress import Action, Phase
from refloat.execution.snapshot import Compiled, ServiceSnapshot, open_snapshot
from refloat.planning.plan import Plan
from refloat.planning.wanted import COMMIT, Wanted
from refloat.store import deployments as store
from refloat.store.database import Reader
from refloat.store.sealing import Sealer

_LOOKED_AT = 100
"""How many deployments of a service are searched for one in which it was done."""


class _AsItWas(msgspec.Struct, frozen=True):
    snapshot: ServiceSnapshot
    fields: dict[str, str]
    commit_id: str


async def rolled_back(
    read: Reader, sealer: Sealer, deployment_id: str, now: Compiled, named: Iterable[str] | None = None
) -> Compiled:
    """`now` with the services of that deployment as they were in it, and without the others.

    Services that are `named` and took no part come from the last earlier one in which they were done.
    Raises Invalid when there is nothing to go back to.
    """
    were = await _as_they_were(read, sealer, deployment_id)
    for service_id in set(named or ()) - set(were):
        if source := await last_done(read, service_id, deployment_id):
            earlier = await _as_they_were(read, sealer, source)
            were |= {service_id: earlier[service_id]} if service_id in earlier else {}
    wanted = tuple(
        _again(service, were[service.service_id]) for service in now.wanted if service.service_id in were
    )
    if not wanted:
        raise nothing_left()
    kept = {w.service_id: were[w.service_id].snapshot for w in wanted}
    snapshot = msgspec.structs.replace(
        now.snapshot,
        services={**now.snapshot.services, **kept},
        fields={**now.snapshot.fields, **{w.service_id: w.fields for w in wanted}},
    )
    return Compiled(wanted=wanted, snapshot=snapshot)


def nothing_left() -> Invalid:
    return Invalid("nothing to go back to: none of the services of that deployment is left")


async def last_done(read: Reader, service_id: str, latest: str) -> str | None:
    """The newest deployment, not after `latest`, that brought the service to what was wanted then."""
    for target in await store.target_history(read, service_id, _LOOKED_AT):
        done = target.phase is Phase.DONE and target.action is Action.DEPLOY
        if done and target.deployment_id <= latest:
            return target.deployment_id
    return None


async def _as_they_were(read: Reader, sealer: Sealer, deployment_id: str) -> dict[str, _AsItWas]:
    """The services that took part in a deployment."""
    plan_text, sealed = await store.claimed_documents(read, deployment_id)
    plan, old = msgspec.json.decode(plan_text, type=Plan), open_snapshot(sealed, sealer)
    commits: Mapping[str, str] = {t.service_id: t.commit_id for t in await store.targets(read, deployment_id)}
    took_part: Sequence[str] = [s.service_id for s in plan.services if s.service_id in old.fields]
    return {i: _AsItWas(old.services[i], old.fields[i], commits.get(i, "")) for i in took_part}


def _again(service: Wanted, was: _AsItWas) -> Wanted:
    """In the stage where it stands now. A version that was resolved only while it was deployed is known
    from its target."""
    fields = was.fields
    if COMMIT in fields and was.commit_id:
        fields = {**fields, COMMIT: was.commit_id}
    return msgspec.structs.replace(service, fields=fields, commit_id=was.commit_id or service.commit_id)
