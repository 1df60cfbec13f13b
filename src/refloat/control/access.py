"""Who may do what: one table, and one way from an id to the thing it names.

An unknown id and one of another organization get the same answer, so that ids reveal nothing.
"""

import re
from enum import Enum
from typing import TypeVar

from refloat.domain.deployment import Principal
from refloat.domain.errors import Forbidden, Invalid, NotFound
from refloat.domain.resources import Resource, Role
from refloat.domain.services import AnyService
from refloat.store import resources as store
from refloat.store.database import Reader

R = TypeVar("R", bound=Resource)


class Operation(Enum):
    """What is about to be done, and the smallest role that may."""

    VIEW = Role.VIEWER
    DEPLOY = Role.DEPLOYER
    MANAGE = Role.MANAGER
    ADMINISTER = Role.ADMIN


_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_OPENING, _CLOSING = tuple("{<$[:"), tuple("}>]")

_RANK = {role: rank for rank, role in enumerate(Role)}


async def reach(
    read: Reader, principal: Principal, kind: type[R], resource_id: str, operation: Operation
) -> R:
    """The resource, if the principal may do this to it.

    Raises Invalid for what is no id, NotFound for an unknown or foreign one, Forbidden for a small role.
    """
    resource_id = check_id(resource_id, kind.kind)
    found = await store.find(read, kind, resource_id)
    if found is None or not await _belongs(read, principal, resource_id):
        raise NotFound(f"no {kind.kind.replace('_', ' ')} {resource_id}")
    permit(principal, operation)
    return found


async def reach_service(
    read: Reader, principal: Principal, service_id: str, operation: Operation
) -> AnyService:
    """As `reach`, for a service of whichever kind."""
    service_id = check_id(service_id, "service")
    if not await _belongs(read, principal, service_id):
        raise NotFound(f"no service {service_id}")
    service = await store.get_service(read, service_id)
    permit(principal, operation)
    return service


def permit(principal: Principal, operation: Operation) -> None:
    """Raises Forbidden when the principal's role is too small."""
    if _RANK[principal.role] < _RANK[operation.value]:
        raise Forbidden(
            f"{principal.name} has the role {principal.role}; this needs {operation.value}",
            hint="use a token with that role",
        )


def check_id(text: str, noun: str) -> str:
    """The id as it is stored, if it is a UUID; raises Invalid, naming a placeholder that was left in."""
    if is_id(text):
        return text.lower()
    kind = noun.replace("_", " ")
    if text[:1] in _OPENING or text[-1:] in _CLOSING:
        raise Invalid(f"{text!r} is a placeholder: put the id of your {kind} in its place")
    raise Invalid(f"{text!r} is not the id of {_article(kind)} {kind}: a UUID is expected")


def is_id(text: str) -> bool:
    """Whether anything can have this id; what cannot is no question for a store."""
    return _UUID.fullmatch(text) is not None


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeio" else "a"


async def _belongs(read: Reader, principal: Principal, resource_id: str) -> bool:
    """Whether the thing is there and lies in the principal's organization."""
    root = await store.root_of(read, resource_id)
    return root is not None and principal.organization_id in (None, root)
