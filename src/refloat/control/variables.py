"""Variables and secrets: the rules of scopes, aliases and overrides."""

import hashlib
import uuid

import msgspec

from refloat.control.context import Context
from refloat.domain.errors import Invalid, NotFound
from refloat.domain.resources import (
    Application,
    Environment,
    Project,
    Resource,
    Variable,
    VariableScope,
    VariableType,
)
from refloat.domain.variables import builtins, check_key
from refloat.execution.snapshot import reserve_addresses
from refloat.execution.worker import platform_of
from refloat.store import resources as store
from refloat.store.database import Reader, Transaction

SCOPES: dict[VariableScope, type[Resource]] = {
    VariableScope.PROJECT: Project,
    VariableScope.ENVIRONMENT: Environment,
    VariableScope.APPLICATION: Application,
}
"""Who owns the variables of a scope, from the widest to the narrowest."""

_WIDTH = {scope: rank for rank, scope in enumerate(VariableScope)}
_LONGEST_DESCRIPTION = 255


class VariableInput(msgspec.Struct, kw_only=True):
    """Value and attributes of a variable as a client sends them."""

    key: str = ""
    value: str | None = ""
    is_secret: bool = False
    mount_path: str | None = None
    description: str | None = None
    enable_interpolation_in_file: bool | None = None


async def create(context: Context, owner: Resource, scope: VariableScope, body: VariableInput) -> Variable:
    """A new variable of its own."""
    file = bool(body.mount_path)
    now = context.clock.now()
    made = Variable(
        id=context.new_id(),
        parent=owner.id,
        name=check_key(body.key),
        scope=scope,
        variable_type=VariableType.FILE if file else VariableType.VALUE,
        sealed=context.sealer.seal(body.value or ""),
        is_secret=body.is_secret,
        mount_path=body.mount_path or None,
        description=_described(body.description),
        enable_interpolation_in_file=bool(body.enable_interpolation_in_file),
        created_at=now,
        updated_at=now,
    )
    async with context.database.transaction() as tx:
        await store.insert_resource(tx, made)
    return made


async def edit(context: Context, variable: Variable, body: VariableInput) -> Variable:
    """An override keeps its key, an alias its value."""
    if variable.variable_type is VariableType.OVERRIDE and body.key not in ("", variable.name):
        raise Invalid("key: an override keeps the key of what it overrides")
    edited = msgspec.structs.replace(
        variable,
        name=check_key(body.key or variable.name),
        description=_described(body.description),
        updated_at=context.clock.now(),
    )
    if variable.variable_type is not VariableType.ALIAS and body.value is not None:
        edited = msgspec.structs.replace(edited, sealed=context.sealer.seal(body.value))
    if body.enable_interpolation_in_file is not None:
        edited = msgspec.structs.replace(
            edited, enable_interpolation_in_file=body.enable_interpolation_in_file
        )
    async with context.database.transaction() as tx:
        await store.replace_resource(tx, edited)
    return edited


async def delete(context: Context, variable: Variable) -> None:
    """With its aliases and overrides."""
    async with context.database.transaction() as tx:
        for other in await store.everything(tx, Variable):
            if other.target_id == variable.id:
                await store.delete_resource(tx, other.id)
        await store.delete_resource(tx, variable.id)


async def refer(
    context: Context,
    target: Variable,
    owner: Resource,
    scope: VariableScope,
    kind: VariableType,
    *,
    key: str,
    value: str = "",
    description: str | None = None,
) -> Variable:
    """An alias (another key for the same value) or an override (another value for the same key).

    Both lead from a wider to a narrower scope below it, and never from another alias or override.
    """
    if target.variable_type in (VariableType.ALIAS, VariableType.OVERRIDE):
        raise Invalid(f"{target.name} is an {target.variable_type.lower()} itself and cannot be referred to")
    narrower = _WIDTH[scope] > _WIDTH[target.scope]
    if not (narrower or (kind is VariableType.ALIAS and scope is target.scope)):
        raise Invalid(f"the {kind.lower()} must be in a narrower scope than {target.scope}")
    now = context.clock.now()
    made = Variable(
        id=context.new_id(),
        parent=owner.id,
        name=check_key(key) if kind is VariableType.ALIAS else target.name,
        scope=scope,
        variable_type=kind,
        sealed="" if kind is VariableType.ALIAS else context.sealer.seal(value),
        is_secret=target.is_secret,
        mount_path=target.mount_path,
        target_id=target.id,
        description=_described(description),
        created_at=now,
        updated_at=now,
    )
    async with context.database.transaction() as tx:
        if owner.id != target.parent and not await _below(tx, owner.id, target.parent):
            raise Invalid(f"{target.name} is not in the scope of this {scope.lower()}")
        await store.insert_resource(tx, made)
    return made


async def visible(read: Reader, owner: Resource) -> list[Variable]:
    """The variables of a scope and of the wider ones it inherits from."""
    found: list[Variable] = []
    current: str | None = owner.id
    while current:
        found = [*await store.children(read, Variable, current), *found]
        current = await store.parent_of(read, current)
    return found


async def built_ins(context: Context, owner: Resource) -> dict[str, str]:
    """Built-in variables as seen from an environment or a service; a project has none."""
    read = context.database.read
    environment_id = owner.id if isinstance(owner, Environment) else owner.parent
    environment = await store.find(read, Environment, environment_id)
    if environment is None:
        return {}
    platform = await platform_of(read, context.platforms, environment)
    addresses = await reserve_addresses(read, platform, environment, context.settings.domain)
    services = await store.services(read, environment.id)
    return builtins(environment, services, {k: (a.internal, a.url) for k, a in addresses.items()})


def built_in_id(environment_id: str, key: str) -> str:
    """A stable id for a variable that has no document."""
    return str(uuid.UUID(bytes=hashlib.sha256(f"{environment_id} {key}".encode()).digest()[:16], version=4))


async def value_of(context: Context, variable: Variable) -> tuple[str, Variable | None]:
    """The value as written (references not replaced), and the variable it refers to."""
    target = None
    if variable.target_id:
        target = await store.find(context.database.read, Variable, variable.target_id)
    source = target if variable.variable_type is VariableType.ALIAS and target else variable
    return (context.sealer.open(source.sealed) if source.sealed else ""), target


async def owner_of(read: Reader, variable: Variable) -> Resource:
    """The project, environment or service a variable belongs to."""
    found = await store.find(read, SCOPES[variable.scope], variable.parent)
    if found is None:
        raise NotFound(f"no variable {variable.id}")
    return found


async def _below(tx: Transaction, resource_id: str, ancestor: str) -> bool:
    current: str | None = resource_id
    while current:
        if current == ancestor:
            return True
        current = await store.parent_of(tx, current)
    return False


def _described(text: str | None) -> str | None:
    if text is not None and len(text) > _LONGEST_DESCRIPTION:
        raise Invalid(f"description: at most {_LONGEST_DESCRIPTION} characters")
    return text
