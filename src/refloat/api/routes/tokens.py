"""API tokens: made once, shown once, stored as digests."""

import base64

import msgspec
from litestar import delete, get, post
from litestar.params import JSONBody

from refloat.api import shapes
from refloat.api.auth import digest
from refloat.api.call import Body, Call, Http, Id
from refloat.control.access import Operation
from refloat.control.organizations import checked_name
from refloat.domain.errors import Invalid, NotFound
from refloat.domain.resources import ApiToken, Organization, Role
from refloat.store import resources as store

_PREFIX = "rf_"
"""With an underscore in it no client takes the token for a JWT."""


class TokenInput(msgspec.Struct, kw_only=True):
    name: str
    description: str | None = None
    role_id: str | None = None
    scope: str | None = None


@get("/organization/{organization_id:str}/availableRole")
async def available_roles(request: Http, organization_id: Id) -> Body:
    await Call(request).reach(Organization, organization_id)
    return shapes.listed([{"id": shapes.ROLE_IDS[role], "name": role.capitalize()} for role in Role])


@get("/organization/{organization_id:str}/apiToken")
async def list_tokens(request: Http, organization_id: Id) -> Body:
    call = Call(request)
    organization = await call.reach(Organization, organization_id, Operation.ADMINISTER)
    found = await store.children(call.read, ApiToken, organization.id)
    return shapes.listed([shapes.api_token(t) for t in found])


@post("/organization/{organization_id:str}/apiToken")
async def create_token(request: Http, organization_id: Id, data: JSONBody[TokenInput]) -> Body:
    call = Call(request)
    organization = await call.reach(Organization, organization_id, Operation.ADMINISTER)
    token = _PREFIX + base64.urlsafe_b64encode(call.context.entropy(30)).decode()
    now = call.context.clock.now()
    made = ApiToken(
        id=call.context.new_id(),
        parent=organization.id,
        name=checked_name(data.name),
        description=data.description,
        digest=digest(token),
        role=_role(data.role_id),
        created_at=now,
        updated_at=now,
    )
    async with call.context.database.transaction() as tx:
        await store.insert_resource(tx, made)
    return {**shapes.api_token(made), "token": token}


def _role(role_id: str | None) -> Role:
    if role_id is None:
        return Role.ADMIN
    for name, known in shapes.ROLE_IDS.items():
        if known == role_id:
            return Role(name)
    raise Invalid(f"role_id: {role_id!r} is no role", hint="GET …/availableRole lists them")


@delete("/organization/{organization_id:str}/apiToken/{token_id:str}")
async def delete_token(request: Http, organization_id: Id, token_id: Id) -> None:
    call = Call(request)
    organization = await call.reach(Organization, organization_id, Operation.ADMINISTER)
    token = await call.reach(ApiToken, token_id)
    if token.parent != organization.id:
        raise NotFound(f"no api token {token_id}")
    async with call.context.database.transaction() as tx:
        await store.delete_resource(tx, token.id)


ROUTES = (available_roles, list_tokens, create_token, delete_token)
