"""What all queues of the database add up to."""

from datetime import datetime

from refloat.store import statements as q
from refloat.store.database import Reader
from refloat.store.deployments import moment


async def used(read: Reader) -> dict[str, tuple[int, int]]:
    """Of each cluster: running deployments, and builds reserved for them."""
    rows = await read.all(q.USED)
    return {row["cluster_id"]: (int(row["deployments"]), int(row["builds"])) for row in rows}


async def queue_figures(read: Reader) -> tuple[int, int, datetime | None]:
    """How many wait and how many run, and when the oldest that waits was asked for."""
    row = await read.one(q.QUEUE_FIGURES)
    assert row is not None
    return (
        row["open"] - row["running"],
        row["running"],
        moment(row["oldest"]) if row["oldest"] is not None else None,
    )
