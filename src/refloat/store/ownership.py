"""Whose a running deployment is.

Every write of one is conditional on (id, owner, fence, not ended): an owner that was replaced writes nothing,
and learns of it by `Fenced`. What a unit of work begins by reading comes with the answer.
"""

import msgspec

from refloat.domain.deployment import Target
from refloat.domain.errors import Fenced
from refloat.store import statements as q
from refloat.store.database import Reader, Row


async def assert_owned(tx: Reader, deployment_id: str, owner: str, fence: int) -> bool:
    """Raises Fenced unless this owner still runs it; tells whether a cancel is asked for."""
    row = await tx.one(q.OWNED, id=deployment_id, owner=owner, fence=fence)
    return bool(_owned(row, deployment_id)["cancel_requested"])


async def owned_target(
    tx: Reader, deployment_id: str, service_id: str, owner: str, fence: int
) -> tuple[bool, Target | None]:
    """As `assert_owned`, with one target of the deployment as it is stored."""
    row = await tx.one(q.OWNED_TARGET, id=deployment_id, service_id=service_id, owner=owner, fence=fence)
    row = _owned(row, deployment_id)
    document = row["document"]
    found = msgspec.json.decode(document, type=Target) if document else None
    return bool(row["cancel_requested"]), found


async def owned_targets(
    tx: Reader, deployment_id: str, owner: str, fence: int
) -> tuple[bool, tuple[Target, ...]]:
    """As `assert_owned`, with all targets of the deployment, by stage."""
    rows = await tx.all(q.OWNED_TARGETS, id=deployment_id, owner=owner, fence=fence)
    canceled = bool(_owned(rows[0] if rows else None, deployment_id)["cancel_requested"])
    return canceled, tuple(
        msgspec.json.decode(row["document"], type=Target) for row in rows if row["document"] is not None
    )


def _owned(row: Row | None, deployment_id: str) -> Row:
    if row is None:
        raise Fenced(f"deployment {deployment_id} has another owner or has ended")
    return row
