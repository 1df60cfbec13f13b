"""Documents of every kind, in one table.

Reads outside a transaction see what is committed; `version` makes lost updates an error instead of
a surprise.
"""

from collections import defaultdict
from typing import TypeVar

import msgspec
from sqlalchemy import bindparam, delete, insert, or_, select, update

from refloat.domain.errors import Conflict, NotFound
from refloat.domain.resources import Resource
from refloat.domain.services import SERVICE_KINDS, AnyService
from refloat.store.database import NameTaken, Query, Reader, Row, Transaction
from refloat.store.tables import resource as t

R = TypeVar("R", bound=Resource)

_encoder = msgspec.json.Encoder(order="deterministic")
_any_service: msgspec.json.Decoder[AnyService] = msgspec.json.Decoder(AnyService)
"""Made once: what it knows of a union is not remembered otherwise, and costs six times the reading."""

_INSERT = Query(insert(t))
_UPDATE = Query(
    update(t)
    .where(t.c.id == bindparam("key"))
    .values(name_key=bindparam("name_key"), document=bindparam("document"), version=t.c.version + 1)
)
_DELETE = Query(delete(t).where(t.c.id == bindparam("key")))
_BY_ID = Query(select(t.c.document).where(t.c.id == bindparam("id"), t.c.kind == bindparam("kind")))
_chain = select(t.c.id, t.c.parent).where(t.c.id == bindparam("id")).cte("chain", recursive=True)
_next = t.alias()
_chain = _chain.union_all(select(_next.c.id, _next.c.parent).where(_next.c.id == _chain.c.parent))
_ROOT_OF = Query(select(_chain.c.id).where(_chain.c.parent == ""))
_CHILDREN = Query(
    select(t.c.document)
    .where(t.c.parent == bindparam("parent"), t.c.kind == bindparam("kind"))
    .order_by(t.c.id)
)
_SERVICES = Query(
    select(t.c.document)
    .where(t.c.parent == bindparam("parent"), or_(*(t.c.kind == kind.kind for kind in SERVICE_KINDS)))
    .order_by(t.c.id)
)
_above = t.alias()
_GRANDCHILDREN = Query(
    select(t.c.document)
    .where(
        t.c.kind == bindparam("kind"),
        t.c.parent.in_(select(_above.c.id).where(_above.c.parent == bindparam("grandparent"))),
    )
    .order_by(t.c.id)
)
_ALL = Query(select(t.c.document).where(t.c.kind == bindparam("kind")).order_by(t.c.id))
_CHILD_IDS = Query(select(t.c.id).where(t.c.parent == bindparam("parent")))
_PARENT_OF = Query(select(t.c.parent).where(t.c.id == bindparam("id")))


async def insert_resource(tx: Transaction, resource: Resource) -> None:
    """Store a new one; Conflict when a sibling has the name."""
    try:
        await tx.run(
            _INSERT,
            id=resource.id,
            kind=resource.kind,
            parent=resource.parent,
            name_key=_name_key(resource),
            version=1,
            document=_encoder.encode(resource).decode(),
        )
    except NameTaken:
        raise _taken(resource) from None


async def replace_resource(tx: Transaction, resource: Resource) -> None:
    """Store the new value of a known one; Conflict when a sibling has the name."""
    try:
        touched = await tx.run(
            _UPDATE,
            key=resource.id,
            name_key=_name_key(resource),
            document=_encoder.encode(resource).decode(),
        )
    except NameTaken:
        raise _taken(resource) from None
    if not touched:
        raise NotFound(f"no {resource.kind} {resource.id}")


async def delete_resource(tx: Transaction, resource_id: str) -> None:
    """Forget it; gone is fine. Children are the caller's to delete first."""
    await tx.run(_DELETE, key=resource_id)


async def delete_tree(tx: Transaction, resource_id: str) -> None:
    """Forget it with everything below it."""
    for row in await tx.all(_CHILD_IDS, parent=resource_id):
        await delete_tree(tx, row["id"])
    await delete_resource(tx, resource_id)


async def find(read: Reader, kind: type[R], resource_id: str) -> R | None:
    """The resource of this kind and id, or None."""
    row = await read.one(_BY_ID, id=resource_id, kind=kind.kind)
    return _decode(kind, row) if row else None


async def get(read: Reader, kind: type[R], resource_id: str) -> R:
    """The resource of this kind and id; NotFound names both."""
    found = await find(read, kind, resource_id)
    if found is None:
        raise NotFound(f"no {kind.kind.replace('_', ' ')} {resource_id}")
    return found


async def children(read: Reader, kind: type[R], parent: str) -> tuple[R, ...]:
    """All of this kind below one parent, oldest first."""
    return tuple(_decode(kind, row) for row in await read.all(_CHILDREN, parent=parent, kind=kind.kind))


async def grandchildren(read: Reader, kind: type[R], grandparent: str) -> dict[str, list[R]]:
    """All of this kind two levels down, oldest first, by their parents; [] for those without any."""
    found: dict[str, list[R]] = defaultdict(list)
    for row in await read.all(_GRANDCHILDREN, grandparent=grandparent, kind=kind.kind):
        child = _decode(kind, row)
        found[child.parent].append(child)
    return found


async def everything(read: Reader, kind: type[R]) -> tuple[R, ...]:
    """All of this kind in the installation, oldest first."""
    return tuple(_decode(kind, row) for row in await read.all(_ALL, kind=kind.kind))


async def parent_of(read: Reader, resource_id: str) -> str | None:
    """The parent's id of anything; None when unknown."""
    row = await read.one(_PARENT_OF, id=resource_id)
    return row["parent"] if row else None


async def root_of(read: Reader, resource_id: str) -> str | None:
    """The id of what has no parent and lies above it, or is it; None when unknown."""
    row = await read.one(_ROOT_OF, id=resource_id)
    return row["id"] if row else None


async def services(read: Reader, environment_id: str) -> tuple[AnyService, ...]:
    """The services of every kind of an environment, oldest first."""
    return tuple(decode_service(row) for row in await read.all(_SERVICES, parent=environment_id))


async def get_service(read: Reader, service_id: str) -> AnyService:
    """The service of whichever kind has this id."""
    for kind in SERVICE_KINDS:
        if row := await read.one(_BY_ID, id=service_id, kind=kind.kind):
            return decode_service(row)
    raise NotFound(f"no service {service_id}")


def _name_key(resource: Resource) -> str | None:
    name = resource.name if resource.case_matters else resource.name.casefold()
    return f"{resource.namespace}:{name}" if resource.namespace else None


def _taken(resource: Resource) -> Conflict:
    noun = resource.namespace.replace("_", " ")
    return Conflict(f"the name {resource.name!r} is taken by another {noun} here", hint="choose another name")


def decode_service(row: Row) -> AnyService:
    """Documents of services name their kind."""
    return _any_service.decode(row["document"])


def _decode(kind: type[R], row: Row) -> R:
    return msgspec.json.decode(row["document"], type=kind)
