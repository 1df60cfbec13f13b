"""From an `Authorization` header to a principal.

`Token t`, `Bearer t` and a bare `t` mean the same: clients choose the scheme by the token's shape.
"""

import hashlib
import hmac
import re

import msgspec

from refloat.control.context import Context
from refloat.domain.deployment import Origin, Principal
from refloat.domain.errors import Unauthenticated
from refloat.domain.resources import ApiToken, Role
from refloat.store import resources

_PLACEHOLDER = re.compile(
    r"[<{$\[].*|.*[>}\]]|.*\s.*|\.\.\.|x{3,}|((your|my|the|an?|api|access|qovery|refloat|admin)[_-])*token([_-]here)?",
    re.IGNORECASE,
)
"""What stands for a token in published examples. Only a token that is unknown is called so."""
_SCHEMES = ("token", "bearer")
ADMIN_ID = "00000000-0000-4000-8000-000000000000"
"""The principal of the installation has no document; clients expect ids of principals to be UUIDs."""


def digest(token: str) -> str:
    """What is stored of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


class Authenticator:
    """Knows the tokens of the installation. A revoked token is refused from the next request on."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._admin = digest(context.settings.admin_token)
        self._ids: dict[str, str] = {}

    async def principal(self, authorization: str, user_agent: str) -> Principal:
        """Raises Unauthenticated saying what is wrong and how to get a token."""
        token = self._token(authorization)
        found = await self._known(token)
        return msgspec.structs.replace(found, origin=origin_of(user_agent, authorization))

    def _token(self, authorization: str) -> str:
        scheme, _, rest = authorization.strip().partition(" ")
        token = rest.strip() if scheme.lower() in _SCHEMES else authorization.strip()
        if not token or token.lower() in _SCHEMES:
            raise Unauthenticated("no Authorization header", hint=self._how())
        return token

    def _how(self) -> str:
        path = self._context.settings.data_dir / "admin.token"
        return f"send the header 'Authorization: Token <token>'; the admin token is in {path}"

    async def _known(self, token: str) -> Principal:
        wanted = digest(token)
        if hmac.compare_digest(wanted, self._admin):
            return Principal(id=ADMIN_ID, name="admin", role=Role.ADMIN, organization_id=None)
        found = await self._remembered(wanted) or await self._searched(wanted)
        if found is None and _PLACEHOLDER.fullmatch(token):
            raise Unauthenticated(f"{token!r} is a placeholder, not a token", hint=self._how())
        if found is None:
            raise Unauthenticated("the token is unknown or was deleted", hint=self._how())
        return _principal(found)

    async def _remembered(self, wanted: str) -> ApiToken | None:
        known = self._ids.get(wanted)
        return await resources.find(self._context.database.read, ApiToken, known) if known else None

    async def _searched(self, wanted: str) -> ApiToken | None:
        for token in await resources.everything(self._context.database.read, ApiToken):
            self._ids[token.digest] = token.id
            if token.digest == wanted:
                return token
        return None


def _principal(token: ApiToken) -> Principal:
    return Principal(id=token.id, name=token.name, role=token.role, organization_id=token.parent)


def origin_of(user_agent: str, authorization: str) -> Origin:
    """Which client spoke: no header says so, the User-Agent tells."""
    agent = user_agent.lower()
    if agent.startswith(("cli ", "refloat-cli")):
        return Origin.CLI
    if agent.startswith("terraform provider"):
        return Origin.TERRAFORM_PROVIDER
    if agent.startswith("mozilla/") and authorization.lower().startswith("bearer"):
        return Origin.CONSOLE
    return Origin.API
