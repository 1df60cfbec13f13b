"""Built-in variables as documents: nobody writes them, everybody may read and refer to them."""

import hashlib
import uuid

from refloat.control.context import Context
from refloat.domain import variables as domain
from refloat.domain.resources import Environment, Resource, Variable, VariableScope, VariableType
from refloat.execution.places import addresses_of
from refloat.store import resources as store

_VERSION = 8
"""Custom UUIDs; ids of stored things are version 7, so the two cannot be confused."""


async def built_ins(context: Context, owner: Resource) -> tuple[Variable, ...]:
    """As seen from an environment or a service; a project has none."""
    read = context.database.read
    environment_id = owner.id if isinstance(owner, Environment) else owner.parent
    environment = await store.find(read, Environment, environment_id)
    if environment is None:
        return ()
    addresses = await addresses_of(read, context.platforms, environment, context.settings.domain)
    services = [s for s in await store.services(read, environment.id) if s.id in addresses]
    values = domain.builtins(environment, services, {k: (a.internal, a.url) for k, a in addresses.items()})
    return tuple(_document(context, environment, key, value) for key, value in values.items())


def _document(context: Context, environment: Environment, key: str, value: str) -> Variable:
    return Variable(
        id=built_in_id(environment.id, key),
        parent=environment.id,
        name=key,
        scope=VariableScope.BUILT_IN,
        variable_type=VariableType.BUILT_IN,
        sealed=context.sealer.seal(value),
        created_at=environment.created_at,
        updated_at=environment.updated_at,
    )


def built_in_id(environment_id: str, key: str) -> str:
    """The same id at every reading, though nothing is stored."""
    digest = bytearray(hashlib.sha256(f"{environment_id} {key}".encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | _VERSION << 4
    digest[8] = digest[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(digest)))


def is_built_in(variable_id: str) -> bool:
    """Whether an id can only be that of a built-in variable."""
    return uuid.UUID(variable_id).version == _VERSION
