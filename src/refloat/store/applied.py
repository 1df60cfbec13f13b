"""Documents of what is applied: what serves now, by service."""

from refloat.store import statements as q
from refloat.store.database import Reader, Transaction


async def put_applied(tx: Transaction, service_id: str, environment_id: str, document: str) -> None:
    await tx.put(q.PUT_APPLIED, service_id=service_id, environment_id=environment_id, document=document)


async def drop_applied(tx: Transaction, service_id: str) -> None:
    await tx.put(q.DROP_APPLIED, key=service_id)


async def applied_documents(read: Reader, environment_id: str) -> dict[str, str]:
    rows = await read.all(q.APPLIED, environment_id=environment_id)
    return {row["service_id"]: row["document"] for row in rows}


async def applied_everywhere(read: Reader) -> dict[str, dict[str, str]]:
    """Environment → service → document, of the whole installation."""
    found: dict[str, dict[str, str]] = {}
    for row in await read.all(q.ALL_APPLIED):
        found.setdefault(row["environment_id"], {})[row["service_id"]] = row["document"]
    return found


# -- whether it may have changed


async def newest_event(read: Reader) -> int:
    """The sequence number of the last event of all; 0 before the first."""
    row = await read.one(q.NEWEST_EVENT)
    return int(row["sequence"]) if row else 0


async def told_of(read: Reader, after: int) -> tuple[str, ...]:
    """The environments that anything was told of since."""
    rows = await read.all(q.TOLD_OF, after=after)
    return tuple(dict.fromkeys(row["environment_id"] for row in rows))
