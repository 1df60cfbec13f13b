"""Variables and secrets: the unified form, and the older form of each scope."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from litestar import delete, get, post, put
from litestar.params import FromQuery, JSONBody, QueryParameter

from refloat.api import shapes
from refloat.api.call import Body, Call, Http, Id
from refloat.control import variables as control
from refloat.control.access import Operation, check_id
from refloat.control.builtins import built_ins
from refloat.control.variables import SCOPES, ImportedVariable, VariableInput
from refloat.domain.errors import Invalid, NotFound
from refloat.domain.ids import is_built_in
from refloat.domain.resources import Environment, Project, Resource, Variable, VariableScope, VariableType
from refloat.domain.services import Application, Container, Job, Service
from refloat.store import resources as store


class UnifiedInput(VariableInput, kw_only=True):
    variable_scope: VariableScope
    variable_parent_id: str


class AliasInput(VariableInput, kw_only=True):
    key: str
    alias_scope: VariableScope | None = None
    alias_parent_id: str | None = None


class OverrideInput(VariableInput, kw_only=True):
    override_scope: VariableScope | None = None
    override_parent_id: str | None = None


class ImportInput(msgspec.Struct, kw_only=True):
    vars: list[ImportedVariable]
    overwrite: bool = False


async def _owner(call: Call, scope: VariableScope, parent_id: str, operation: Operation) -> Resource:
    if scope not in SCOPES:
        raise Invalid(f"scope: {scope} has no parent; use {', '.join(SCOPES)}")
    return await call.reach(SCOPES[scope], parent_id, operation)


async def _body(call: Call, variable: Variable) -> Body:
    known: Sequence[Variable] = ()
    if variable.target_id:
        owner = await control.owner_of(call.read, variable)
        known = (*await control.visible(call.read, owner), *await built_ins(call.context, owner))
    return await _rendered(call, variable, known)


async def _rendered(call: Call, variable: Variable, known: Sequence[Variable]) -> Body:
    """`known` holds what the variable may refer to: by id, a built-in one by its key."""
    referred = variable.target_id
    target = next((v for v in known if referred == control.reference(v)), None)
    opened = call.context.sealer.open(target.sealed) if target and target.sealed else ""
    own = call.context.sealer.open(variable.sealed) if variable.sealed else opened
    service = await _service(call, variable.parent)
    return shapes.variable(variable, own, (target, opened) if target else None, service)


async def _service(call: Call, owner_id: str) -> Service | None:
    try:
        return await store.get_service(call.read, owner_id)
    except NotFound:
        return None


async def _listed(call: Call, owner: Resource, is_secret: bool | None) -> Body:
    found = (*await control.visible(call.read, owner), *await built_ins(call.context, owner))
    return shapes.listed([await _rendered(call, v, found) for v in found if is_secret in (None, v.is_secret)])


async def _variable(call: Call, variable_id: str, owner: Resource | None = None) -> Variable:
    """A variable that may be changed, one of `owner` if given."""
    if is_built_in(check_id(variable_id, Variable.kind)):
        raise Invalid("a built-in variable cannot be changed", hint="make an alias or an override of it")
    found = await call.reach(Variable, variable_id, Operation.MANAGE)
    if owner is not None and found.parent != owner.id:
        raise NotFound(f"no variable {variable_id}")
    return found


async def _referred(call: Call, variable_id: str, owner: Resource) -> Variable:
    """A variable that an alias or override of `owner` may refer to."""
    if not is_built_in(check_id(variable_id, Variable.kind)):
        return await call.reach(Variable, variable_id, Operation.MANAGE)
    for known in await built_ins(call.context, owner):
        if known.id == variable_id.lower():
            return known
    raise NotFound(f"no variable {variable_id}")


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
    call: Call, variable_id: str, owner: Resource, scope: VariableScope, data: AliasInput
) -> Body:
    target = await _referred(call, variable_id, owner)
    return await _body(
        call, await control.refer(call.context, target, owner, scope, VariableType.ALIAS, data)
    )


@post("/variable/{variable_id:str}/override")
async def override_variable(request: Http, variable_id: Id, data: JSONBody[OverrideInput]) -> Body:
    call = Call(request)
    if data.override_scope is None or data.override_parent_id is None:
        raise Invalid("override_scope and override_parent_id: they are required")
    owner = await _owner(call, data.override_scope, data.override_parent_id, Operation.MANAGE)
    return await _override(call, variable_id, owner, data.override_scope, data)


async def _override(
    call: Call, variable_id: str, owner: Resource, scope: VariableScope, data: OverrideInput
) -> Body:
    target = await _referred(call, variable_id, owner)
    return await _body(
        call, await control.refer(call.context, target, owner, scope, VariableType.OVERRIDE, data)
    )


@post("/variable/import")
async def import_variables(
    request: Http,
    service_id: FromQuery[str],
    data: JSONBody[ImportInput],
) -> Body:
    call = Call(request)
    return await _import(call, await call.reach_service(service_id, Operation.MANAGE), data)


async def _import(call: Call, owner: Resource, data: ImportInput) -> Body:
    stored = await control.import_all(call.context, owner, data.vars, overwrite=data.overwrite)
    return {
        "total_variables_to_import": len(data.vars),
        "successful_imported_variables": [
            {
                "name": item.name,
                **({} if item.is_secret else {"value": item.value}),
                "scope": item.scope,
                "is_secret": item.is_secret,
            }
            for item in stored
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

    @post(f"{path}/import", **named("import"))
    async def bulk(request: Http, owner_id: Id, data: JSONBody[ImportInput]) -> Body:
        call = Call(request)
        return await _import(call, await call.reach(kind, owner_id, Operation.MANAGE), data)

    handlers = (listing, create, edit, remove, alias, override)
    return (*handlers, bulk) if issubclass(kind, Service) and not secret else handlers


_FAMILIES = (
    ("project", Project, VariableScope.PROJECT),
    ("environment", Environment, VariableScope.ENVIRONMENT),
    ("application", Application, VariableScope.APPLICATION),
    ("container", Container, VariableScope.CONTAINER),
    ("job", Job, VariableScope.JOB),
)

ROUTES = (
    list_variables,
    create_variable,
    edit_variable,
    delete_variable,
    alias_variable,
    override_variable,
    import_variables,
    *(
        handler
        for noun, kind, scope in _FAMILIES
        for word, secret in (("environmentVariable", False), ("secret", True))
        for handler in _family(noun, kind, scope, word, secret=secret)
    ),
)
