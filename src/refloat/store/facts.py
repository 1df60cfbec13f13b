"""What is known of the installation as a whole: its key, its nodes, the addresses given out there."""

from sqlalchemy import bindparam, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert

from refloat.domain.errors import Fenced, Unavailable
from refloat.domain.replicas import Replica, Term
from refloat.store.database import Database, Query, Reader, Transaction
from refloat.store.sealing import Sealer
from refloat.store.tables import address, fact, node, replica

_SEALING_KEY = "sealing key"
_FACT = Query(select(fact.c.value).where(fact.c.name == bindparam("name")))
_PUT_FACT = Query(insert(fact))
_TERM = Query(
    select(node.c.id).where(
        node.c.id == bindparam("node"),
        node.c.leader == bindparam("replica"),
        node.c.term == bindparam("term"),
    )
)
_REPLICAS = Query(
    select(replica.c.id, replica.c.node, replica.c.beat, node.c.leader)
    .select_from(replica.outerjoin(node, node.c.leader == replica.c.id))
    .order_by(replica.c.node, replica.c.id)
)
_ADDRESSES = Query(
    select(address.c.service_id, address.c.document).where(
        address.c.environment_id == bindparam("environment_id")
    )
)
_put_address = upsert(address)
_PUT_ADDRESS = Query(
    _put_address.on_conflict_do_update(
        index_elements=["service_id"], set_={"document": _put_address.excluded.document}
    )
)


async def check_key(database: Database, sealer: Sealer, place: str) -> None:
    """Raises Unavailable when the database was sealed with another key; the first key is remembered."""
    async with database.transaction() as tx:
        if not await expect_key(tx, sealer, place):
            await tx.run(_PUT_FACT, name=_SEALING_KEY, value=sealer.digest(_SEALING_KEY))


async def expect_key(read: Reader, sealer: Sealer, place: str) -> bool:
    """Whether a key is remembered. Raises Unavailable when it is another one."""
    known = await read.one(_FACT, name=_SEALING_KEY)
    if known is not None and known["value"] != sealer.digest(_SEALING_KEY):
        raise Unavailable(
            f"the key in {place} is not the one that the database was sealed with",
            hint="copy the first server's secret.key, and name the copy by REFLOAT_SECRET_KEY_FILE",
        )
    return known is not None


async def assert_leads(read: Reader, term: Term) -> None:
    """Raises Fenced unless the term still lasts."""
    if await read.one(_TERM, node=term.node, replica=term.replica, term=term.number) is None:
        raise Fenced(f"another server works on node {term.node}")


async def replicas(read: Reader) -> tuple[Replica, ...]:
    """Every server that is known, by node. Silence is counted from the newest beat, which is by the same
    clock; whoever reads this beats too."""
    rows = await read.all(_REPLICAS)
    newest = max((row["beat"] for row in rows), default=0)
    return tuple(
        Replica(
            id=row["id"],
            node=row["node"],
            leads=row["leader"] is not None,
            silent_seconds=(newest - row["beat"]) / 1e6,
        )
        for row in rows
    )


async def put_address(tx: Transaction, environment_id: str, service_id: str, document: str) -> None:
    """Remember where a service can be reached, for servers of other nodes."""
    await tx.put(_PUT_ADDRESS, environment_id=environment_id, service_id=service_id, document=document)


async def addresses(read: Reader, environment_id: str) -> dict[str, str]:
    """Service → document, as far as they were deployed."""
    rows = await read.all(_ADDRESSES, environment_id=environment_id)
    return {row["service_id"]: row["document"] for row in rows}
