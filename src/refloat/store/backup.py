"""All rows of an installation, out of one database and into another, of whichever kind.

Out: one snapshot, while servers go on. In: one transaction, into a database that nothing was ever
deployed from; what a first start makes there by itself gives way.
"""

from collections.abc import AsyncIterator

from sqlalchemy import Table, bindparam, delete, func, insert, select, tuple_
from sqlalchemy.sql.expression import column as sql_column
from sqlalchemy.sql.expression import table as sql_table

from refloat.domain.errors import Conflict, Invalid
from refloat.domain.resources import Cluster, Organization, Project
from refloat.store.archive import TABLES, RawRow, Rows, Writer
from refloat.store.database import NameTaken, Query, Reader, Transaction
from refloat.store.deployments import storable
from refloat.store.tables import event, metadata, resource

_PAGE = 500
_MADE_BY_A_START = {Organization.kind, Cluster.kind, Project.kind}
_REMEMBERED = ("fact", "replica", "node", "alembic_version")
"""Tables that say nothing of what was deployed."""
_PER_KIND = Query(select(resource.c.kind, func.count().label("number")).group_by(resource.c.kind))
_ANY = {t.name: Query(select(*list(t.primary_key)[:1]).limit(1)) for t in metadata.sorted_tables}
_CLEAR = {t.name: Query(delete(t)) for t in metadata.sorted_tables}
_PUT = {t.name: Query(insert(t).values({c.name: bindparam(c.name) for c in t.c})) for t in TABLES}
_LAST_EVENT = Query(select(func.coalesce(func.max(event.c.sequence), 0).label("last")))
_COUNT_ON = Query(
    select(func.setval(func.pg_get_serial_sequence("event", "sequence"), bindparam("last")).label("last"))
)
_activity = sql_table("pg_stat_activity", sql_column("application_name"), sql_column("datname"))
_SERVERS = Query(
    select(_activity.c.application_name).where(
        _activity.c.datname == func.current_database(),
        _activity.c.application_name.like(bindparam("pattern")),
        _activity.c.application_name != bindparam("us"),
    )
)


async def write_tables(read: Reader, out: Writer) -> None:
    """Every table, in the order of its key; `read` is a snapshot."""
    for table in TABLES:
        with out.table(table.name) as add:
            async for page in _pages(read, table):
                add(page)


async def _pages(read: Reader, table: Table) -> AsyncIterator[list[RawRow]]:
    names, keys = [c.name for c in table.c], [c.name for c in table.primary_key]
    first, following = _paging(table)
    query, after = first, dict[str, object]()
    while True:
        rows = [{name: row[name] for name in names} for row in await read.all(query, size=_PAGE, **after)]
        if rows:
            yield rows
        if len(rows) < _PAGE:
            return
        query, after = following, {f"after_{key}": rows[-1][key] for key in keys}


def _paging(table: Table) -> tuple[Query, Query]:
    keys = list(table.primary_key)
    page = select(table).order_by(*keys).limit(bindparam("size"))
    after = [bindparam(f"after_{key.name}", type_=key.type) for key in keys]
    beyond = tuple_(*keys) > tuple_(*after) if len(keys) > 1 else keys[0] > after[0]
    return Query(page), Query(page.where(beyond))


async def load_tables(tx: Transaction, archive: Rows, *, postgres: bool) -> None:
    """Put all rows in place of what a first start made.

    Raises Conflict when anything was ever made or deployed there, Invalid for rows that do not fit.
    """
    if why := await why_used(tx):
        raise _used(why)
    for table in metadata.sorted_tables:
        await tx.run(_CLEAR[table.name])
    for table in TABLES:
        await _load(tx, archive, table)
    row = await tx.one(_LAST_EVENT)
    if postgres and row and row["last"]:  # SQLite counts on from the highest by itself
        await tx.one(_COUNT_ON, last=row["last"])


async def _load(tx: Transaction, archive: Rows, table: Table) -> None:
    names = {c.name for c in table.c}
    loaded = 0
    try:
        for row in archive.rows(table.name):
            if set(row) != names or not all(_fits(table, name, value) for name, value in row.items()):
                raise Invalid(
                    f"the backup is damaged: a row of {table.name} has other columns than the table"
                )
            await tx.run(_PUT[table.name], **{name: _stored(value) for name, value in row.items()})
            loaded += 1
    except NameTaken:
        raise Invalid(f"the backup is damaged: {table.name} has two rows with one key") from None
    if loaded != archive.counts[table.name]:
        raise Invalid(f"the backup is damaged: {table.name} has {loaded} rows and not as many as it says")


def _fits(table: Table, name: str, value: str | int | None) -> bool:
    column = table.c[name]
    if value is None:
        return bool(column.nullable)
    return type(value) is column.type.python_type


def _stored(value: str | int | None) -> str | int | None:
    return storable(value) if isinstance(value, str) else value


async def why_used(tx: Reader) -> str:
    """What there is beyond that which a first start makes; "" when nothing is."""
    for table in metadata.sorted_tables:
        if table.name in (*_REMEMBERED, resource.name):
            continue
        if await tx.all(_ANY[table.name]):
            return f"its table {table.name} is not empty"
    for row in await tx.all(_PER_KIND):
        if row["kind"] not in _MADE_BY_A_START or row["number"] > 1:
            return f"it has {row['number']} of the kind {row['kind'].replace('_', ' ')}"
    return ""


async def clear_first_start(tx: Transaction) -> None:
    """Forget what a first start made."""
    await tx.run(_CLEAR[resource.name])


def _used(why: str) -> Conflict:
    return Conflict(
        f"the database is in use: {why}; a backup is only restored where nothing was ever made or deployed",
        hint="choose another REFLOAT_DATA_DIR or REFLOAT_DATABASE_URL, or move the old database away",
    )


async def refuse_servers(read: Reader, purpose: str) -> None:
    """Raises Conflict while servers are connected to this PostgreSQL database; `purpose` names ourselves."""
    rows = await read.all(_SERVERS, pattern="refloat %", us=f"refloat {purpose}")
    if rows:
        raise Conflict(
            f"{len(rows)} connection{'s' * (len(rows) > 1)} of a running server use this database",
            hint="stop every server that has this REFLOAT_DATABASE_URL",
        )
