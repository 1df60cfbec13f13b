"""Variables and secrets: the rules of scopes, aliases and overrides."""

from collections.abc import Sequence

import msgspec

from refloat.control.context import Context
from refloat.domain.errors import Invalid, NotFound
from refloat.domain.resources import Environment, Project, Resource, Variable, VariableScope, VariableType
from refloat.domain.services import Application, Container, Job
from refloat.domain.variables import check_key, check_value
from refloat.store import resources as store
from refloat.store.database import Reader, Transaction

SCOPES: dict[VariableScope, type[Resource]] = {
    VariableScope.PROJECT: Project,
    VariableScope.ENVIRONMENT: Environment,
    VariableScope.APPLICATION: Application,
    VariableScope.CONTAINER: Container,
    VariableScope.JOB: Job,
}
"""Who owns the variables of a scope, from the widest to the narrowest."""

_WIDTH = {scope: rank for rank, scope in enumerate(VariableScope)}
_LONGEST_DESCRIPTION = 255
_REFERRING = (VariableType.ALIAS, VariableType.OVERRIDE)


class VariableInput(msgspec.Struct, kw_only=True):
    """Value and attributes of a variable as a client sends them; in an edit, None keeps what is there."""

    key: str = ""
    value: str | None = None
    is_secret: bool = False
    mount_path: str | None = None
    description: str | None = None
    enable_interpolation_in_file: bool | None = None


class ImportedVariable(msgspec.Struct, kw_only=True):
    name: str
    value: str
    scope: VariableScope
    is_secret: bool = False


async def create(context: Context, owner: Resource, scope: VariableScope, body: VariableInput) -> Variable:
    """A new variable of its own; with a mount path it is a file."""
    made = _new(context, owner, scope, body)
    async with context.database.transaction() as tx:
        await store.get(tx, type(owner), owner.id)
        await store.insert_resource(tx, made)
    return made


def _new(context: Context, owner: Resource, scope: VariableScope, body: VariableInput) -> Variable:
    now = context.clock.now()
    key = check_key(body.key)
    mount_path = _checked_mount(body.mount_path)
    return Variable(
        id=context.new_id(),
        parent=owner.id,
        name=key,
        scope=scope,
        variable_type=VariableType.FILE if mount_path else VariableType.VALUE,
        sealed=context.sealer.seal(check_value(key, body.value or "", is_file=bool(mount_path))),
        is_secret=body.is_secret,
        mount_path=mount_path,
        description=_described(body.description),
        enable_interpolation_in_file=bool(body.enable_interpolation_in_file),
        created_at=now,
        updated_at=now,
    )


async def edit(context: Context, variable: Variable, body: VariableInput) -> Variable:
    """An override keeps its key, an alias its value, a file its path."""
    if variable.variable_type is VariableType.OVERRIDE and body.key not in ("", variable.name):
        raise Invalid("key: an override keeps the key of what it overrides")
    async with context.database.transaction() as tx:
        edited = _edited(context, await store.get(tx, Variable, variable.id), body)
        await store.replace_resource(tx, edited)
    return edited


def _edited(context: Context, current: Variable, body: VariableInput) -> Variable:
    key = current.name if body.key in ("", current.name) else check_key(body.key)
    interpolates = body.enable_interpolation_in_file
    edited = msgspec.structs.replace(
        current,
        name=key,
        description=_described(body.description),
        enable_interpolation_in_file=(
            current.enable_interpolation_in_file if interpolates is None else interpolates
        ),
        updated_at=context.clock.now(),
    )
    if current.variable_type is VariableType.ALIAS or body.value is None:
        return edited
    value = check_value(key, body.value, is_file=bool(current.mount_path))
    return msgspec.structs.replace(edited, sealed=context.sealer.seal(value))


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
    body: VariableInput,
) -> Variable:
    """An alias (another key for the same value) or an override (another value for the same key).

    Both lead from a wider to a narrower scope below it, and never from another alias or override; an
    alias may also stand beside its target. Built-in variables are the widest scope.
    """
    if target.variable_type in _REFERRING:
        raise Invalid(f"{target.name} is an {target.variable_type.lower()} itself and cannot be referred to")
    narrower = _WIDTH[scope] > _WIDTH[target.scope]
    if not (narrower or (kind is VariableType.ALIAS and scope is target.scope)):
        raise Invalid(f"the {kind.lower()} must be in a narrower scope than {target.scope}")
    made = _referring(context, target, owner, scope, kind, body)
    async with context.database.transaction() as tx:
        await store.get(tx, type(owner), owner.id)
        if target.scope is not VariableScope.BUILT_IN:
            await store.get(tx, Variable, target.id)
            if not await _below(tx, owner.id, target.parent):
                raise Invalid(f"{target.name} is not in the scope of this {scope.lower()}")
        await store.insert_resource(tx, made)
    return made


def _referring(
    context: Context,
    target: Variable,
    owner: Resource,
    scope: VariableScope,
    kind: VariableType,
    body: VariableInput,
) -> Variable:
    now = context.clock.now()
    own = kind is VariableType.OVERRIDE
    value = check_value(target.name, body.value or "", is_file=bool(target.mount_path)) if own else ""
    interpolates = body.enable_interpolation_in_file
    return Variable(
        id=context.new_id(),
        parent=owner.id,
        name=target.name if own else check_key(body.key),
        scope=scope,
        variable_type=kind,
        sealed=context.sealer.seal(value) if own else "",
        is_secret=target.is_secret,
        mount_path=target.mount_path,
        target_id=reference(target),
        description=_described(body.description),
        enable_interpolation_in_file=(
            target.enable_interpolation_in_file if interpolates is None else interpolates
        ),
        created_at=now,
        updated_at=now,
    )


def reference(target: Variable) -> str:
    """How others name it: by id, a built-in one by its key, because it has no document."""
    return target.name if target.scope is VariableScope.BUILT_IN else target.id


async def import_all(
    context: Context, owner: Resource, items: Sequence[ImportedVariable], *, overwrite: bool
) -> list[ImportedVariable]:
    """Store all of them in one transaction, each in the scope it names, from the owner upwards.

    A key that is there stays as it is without `overwrite`; those that were stored are returned. One
    that breaks a rule undoes all.
    """
    stored: list[ImportedVariable] = []
    async with context.database.transaction() as tx:
        places = await _places(tx, owner)
        for item in items:
            if item.scope not in places:
                raise Invalid(f"{item.name}: the scope {item.scope} is not reached from here")
            if await _import(tx, context, places[item.scope], item, overwrite=overwrite):
                stored.append(item)
    return stored


async def _import(
    tx: Transaction, context: Context, owner: Resource, item: ImportedVariable, *, overwrite: bool
) -> bool:
    body = VariableInput(key=item.name, value=item.value, is_secret=item.is_secret)
    known = next((v for v in await store.children(tx, Variable, owner.id) if v.name == item.name), None)
    if known is None:
        await store.insert_resource(tx, _new(context, owner, item.scope, body))
        return True
    if not overwrite:
        return False
    if known.variable_type is VariableType.ALIAS:
        raise Invalid(f"{item.name}: it is an alias here, whose value cannot be written")
    body.description = known.description
    edited = msgspec.structs.replace(_edited(context, known, body), is_secret=item.is_secret)
    await store.replace_resource(tx, edited)
    return True


async def _places(read: Reader, owner: Resource) -> dict[VariableScope, Resource]:
    """The owner of each scope, as seen from this one."""
    places: dict[VariableScope, Resource] = {}
    current: str | None = owner.id
    while current:
        for scope, kind in SCOPES.items():
            if found := await store.find(read, kind, current):
                places[scope] = found
        current = await store.parent_of(read, current)
    return places


async def visible(read: Reader, owner: Resource) -> list[Variable]:
    """The variables of a scope and of the wider ones it inherits from, widest first."""
    found: list[Variable] = []
    current: str | None = owner.id
    while current:
        found = [*await store.children(read, Variable, current), *found]
        current = await store.parent_of(read, current)
    return found


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


def _checked_mount(path: str | None) -> str | None:
    """Where a file goes: absolute, and one place only."""
    if not path:
        return None
    if not path.startswith("/") or path.endswith("/") or ".." in path.split("/") or not path.isprintable():
        raise Invalid(f"mount_path: {path!r} is not the absolute path of a file")
    return path
