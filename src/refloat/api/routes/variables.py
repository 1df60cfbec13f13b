"""Variables and secrets: the unified form, and the older form of each scope."""

from typing import Annotated, Any

import msgspec
from litestar import delete, get, post, put
from litestar.params import FromQuery, JSONBody, QueryParameter

from refloat.api import shapes
from refloat.api.call import Body, Call, Http, Id
from refloat.control import variables as control
from refloat.control.access import Operation
from refloat.control.variables import SCOPES, VariableInput
from refloat.domain.errors import Conflict, Invalid, NotFound
from refloat.domain.resources import (
    Application,
    Environment,
    Project,
    Resource,
    Variable,
    VariableScope,
    VariableType,
)
from refloat.store import resources as store


class UnifiedInput(VariableInput, kw_only=True):
    variable_scope: VariableScope
    variable_parent_id: str


class AliasInput(msgspec.Struct, kw_only=True):
    key: str
    alias_scope: VariableScope | None = None
    alias_parent_id: str | None = None
    description: str | None = None


class OverrideInput(msgspec.Struct, kw_only=True):
    value: str
    override_scope: VariableScope | None = None
    override_parent_id: str | None = None
    description: str | None = None


class ImportedVariable(msgspec.Struct, kw_only=True):
    name: str
    value: str
    scope: VariableScope
    is_secret: bool = False


class ImportInput(msgspec.Struct, kw_only=True):
    overwrite: bool
    vars: list[ImportedVariable]


async def _owner(call: Call, scope: VariableScope, parent_id: str, operation: Operation) -> Resource:
    if scope not in SCOPES:
        raise Invalid(f"scope: {scope} cannot be written; use {', '.join(SCOPES)}")
    return await call.reach(SCOPES[scope], parent_id, operation)


async def _body(call: Call, variable: Variable) -> Body:
    value, target = await control.value_of(call.context, variable)
    owner = await store.find(call.read, Application, variable.parent)
    return shapes.variable(variable, value, target, owner)


async def _listed(call: Call, owner: Resource, is_secret: bool | None) -> Body:
    found = await control.visible(call.read, owner)
    bodies = [await _body(call, v) for v in found if is_secret in (None, v.is_secret)]
    if not is_secret:
        environment_id = owner.id if isinstance(owner, Environment) else owner.parent
        bodies += [
            shapes.built_in(key, value, control.built_in_id(environment_id, key), owner)
            for key, value in (await control.built_ins(call.context, owner)).items()
        ]
    return shapes.listed(bodies)


async def _variable(call: Call, variable_id: str, owner: Resource | None = None) -> Variable:
    found = await call.reach(Variable, variable_id, Operation.MANAGE)
    if owner is not None and found.parent != owner.id:
        raise NotFound(f"no variable {variable_id}")
    return found


@get("/variable")
async def list_variables(
    request: Http,
    parent_id: FromQuery[str],
    of_scope: Annotated[VariableScope, QueryParameter(name="scope")],
    is_secret: Annotated[bool | None, QueryParameter(name="is_secret")] = None,
) -> Body:
    call = Call(request)
    return await _listed(call, await _owner(call, of_scope, parent_id, Operation.VIEW), is_secret)


@post("/variable")
async def create_variable(request: Http, data: JSONBody[UnifiedInput]) -> Body:
    call = Call(request)
    owner = await _owner(call, data.variable_scope, data.variable_parent_id, Operation.MANAGE)
    return await _body(call, await control.create(call.context, owner, data.variable_scope, data))


@put("/variable/{variable_id:str}")
async def edit_variable(request: Http, variable_id: Id, data: JSONBody[VariableInput]) -> Body:
    call = Call(request)
    variable = await _variable(call, variable_id)
    return await _body(call, await control.edit(call.context, variable, data))


@delete("/variable/{variable_id:str}")
async def delete_variable(request: Http, variable_id: Id) -> None:
    call = Call(request)
    await control.delete(call.context, await _variable(call, variable_id))


@post("/variable/{variable_id:str}/alias")
async def alias_variable(request: Http, variable_id: Id, data: JSONBody[AliasInput]) -> Body:
    call = Call(request)
    if data.alias_scope is None or data.alias_parent_id is None:
        raise Invalid("alias_scope and alias_parent_id: they are required")
    owner = await _owner(call, data.alias_scope, data.alias_parent_id, Operation.MANAGE)
    return await _alias(call, variable_id, owner, data.alias_scope, data)


async def _alias(
    call: Call, variable_id: str, owner: Resource, scope: VariableScope, data: JSONBody[AliasInput]
) -> Body:
    target = await _variable(call, variable_id)
    made = await control.refer(
        call.context,
        target,
        owner,
        scope,
        VariableType.ALIAS,
        key=data.key,
        description=data.description,
    )
    return await _body(call, made)


@post("/variable/{variable_id:str}/override")
async def override_variable(request: Http, variable_id: Id, data: JSONBody[OverrideInput]) -> Body:
    call = Call(request)
    if data.override_scope is None or data.override_parent_id is None:
        raise Invalid("override_scope and override_parent_id: they are required")
    owner = await _owner(call, data.override_scope, data.override_parent_id, Operation.MANAGE)
    return await _override(call, variable_id, owner, data.override_scope, data)


async def _override(
    call: Call, variable_id: str, owner: Resource, scope: VariableScope, data: JSONBody[OverrideInput]
) -> Body:
    target = await _variable(call, variable_id)
    made = await control.refer(
        call.context,
        target,
        owner,
        scope,
        VariableType.OVERRIDE,
        key=target.name,
        value=data.value,
        description=data.description,
    )
    return await _body(call, made)


async def _import(call: Call, owner: Resource, scope: VariableScope, data: JSONBody[ImportInput]) -> Body:
    """Each variable on its own: one that is refused does not undo the others, and is named."""
    imported: list[str] = []
    for item in data.vars:
        known = [v for v in await store.children(call.read, Variable, owner.id) if v.name == item.name]
        body = VariableInput(key=item.name, value=item.value, is_secret=item.is_secret)
        if known and not data.overwrite:
            raise Conflict(f"the key {item.name} is taken", hint="import with overwrite")
        if known:
            await control.edit(call.context, known[0], body)
        else:
            await control.create(call.context, owner, scope, body)
        imported.append(item.name)
    return {
        "total_variables_to_import": len(data.vars),
        "successful_imported_variables": [
            {
                "name": v.name,
                "value": None if v.is_secret else v.value,
                "scope": scope,
                "is_secret": v.is_secret,
            }
            for v in data.vars
            if v.name in imported
        ],
    }


def _family(
    noun: str, kind: type[Resource], scope: VariableScope, word: str, *, secret: bool
) -> tuple[Any, ...]:
    """The older endpoints of one scope: `/{noun}/{id}/environmentVariable` and `/{noun}/{id}/secret`."""
    path = f"/{noun}/{{owner_id:str}}/{word}"
    one = f"{path}/{{variable_id:str}}"

    def named(verb: str) -> dict[str, Any]:
        return {"name": f"{verb}_{noun}_{word}", "operation_id": f"{verb}_{noun}_{word}"}

    @get(path, **named("list"))
    async def listing(request: Http, owner_id: Id) -> Body:
        call = Call(request)
        return await _listed(call, await call.reach(kind, owner_id), secret)

    @post(path, **named("create"))
    async def create(request: Http, owner_id: Id, data: JSONBody[VariableInput]) -> Body:
        call = Call(request)
        owner = await call.reach(kind, owner_id, Operation.MANAGE)
        body = msgspec.structs.replace(data, is_secret=secret)
        return await _body(call, await control.create(call.context, owner, scope, body))

    @put(one, **named("edit"))
    async def edit(request: Http, owner_id: Id, variable_id: Id, data: JSONBody[VariableInput]) -> Body:
        call = Call(request)
        variable = await _variable(call, variable_id, await call.reach(kind, owner_id, Operation.MANAGE))
        return await _body(call, await control.edit(call.context, variable, data))

    @delete(one, **named("delete"))
    async def remove(request: Http, owner_id: Id, variable_id: Id) -> None:
        call = Call(request)
        variable = await _variable(call, variable_id, await call.reach(kind, owner_id, Operation.MANAGE))
        await control.delete(call.context, variable)

    @post(f"{one}/alias", **named("alias"))
    async def alias(request: Http, owner_id: Id, variable_id: Id, data: JSONBody[AliasInput]) -> Body:
        call = Call(request)
        owner = await call.reach(kind, owner_id, Operation.MANAGE)
        return await _alias(call, variable_id, owner, scope, data)

    @post(f"{one}/override", **named("override"))
    async def override(request: Http, owner_id: Id, variable_id: Id, data: JSONBody[OverrideInput]) -> Body:
        call = Call(request)
        owner = await call.reach(kind, owner_id, Operation.MANAGE)
        return await _override(call, variable_id, owner, scope, data)

    @post(f"{path}/import", status_code=200, **named("import"))
    async def bulk(request: Http, owner_id: Id, data: JSONBody[ImportInput]) -> Body:
        call = Call(request)
        return await _import(call, await call.reach(kind, owner_id, Operation.MANAGE), scope, data)

    handlers = (listing, create, edit, remove, alias, override)
    return handlers if secret else (*handlers, bulk)


_FAMILIES = (
    ("project", Project, VariableScope.PROJECT),
    ("environment", Environment, VariableScope.ENVIRONMENT),
    ("application", Application, VariableScope.APPLICATION),
)

ROUTES = (
    list_variables,
    create_variable,
    edit_variable,
    delete_variable,
    alias_variable,
    override_variable,
    *(
        handler
        for noun, kind, scope in _FAMILIES
        for word, secret in (("environmentVariable", False), ("secret", True))
        for handler in _family(noun, kind, scope, word, secret=secret)
    ),
)
