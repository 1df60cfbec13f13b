"""What a route is given besides its parameters: who asks, and the world."""

from typing import Any

import msgspec
from litestar import Request
from litestar.params import FromPath

from refloat.api import complaints
from refloat.control import access
from refloat.control.access import Operation, R
from refloat.control.context import Context
from refloat.domain.deployment import Principal
from refloat.domain.errors import Invalid
from refloat.domain.services import AnyService
from refloat.store.database import Reader

Http = Request[Any, Any, Any]
Body = dict[str, Any]
Id = FromPath[str]
"""An id in the path; what it names is looked up with the right that the operation needs."""
T = Any


def decoded(raw: bytes, kind: Any = Any) -> Any:
    """The body as JSON, whatever its type is called; raises Invalid saying what is wrong with it.

    Text that is no JSON is called that, even if the decoder found a mistyped value before the break.
    """
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        if kind is not msgspec.Raw:
            decoded(raw, msgspec.Raw)
        raise Invalid(complaints.of_decoder(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Invalid("the body is not valid JSON") from None


class JsonRequest(Request[Any, Any, Any]):
    """Reads every body by the same rules: straight into the type that the route wants, so that nothing is
    coerced. The framework's own conversion takes "1" for a number, and its reader fails on text that is not
    UTF-8.
    """

    async def json(self) -> Any:
        wanted = self.route_handler.parsed_data_field
        return decoded(await self.body(), wanted.annotation if wanted else Any)


class Call:
    """One authenticated request."""

    def __init__(self, request: Http) -> None:
        self._request = request
        self.context: Context = request.scope["state"]["context"]
        self.principal: Principal = request.scope["state"]["principal"]

    @property
    def read(self) -> Reader:
        return self.context.database.read

    async def reach(self, kind: type[R], resource_id: str, operation: Operation = Operation.VIEW) -> R:
        """The resource, if this caller may do this to it; see `access.reach`."""
        return await access.reach(self.read, self.principal, kind, resource_id, operation)

    async def reach_service(self, service_id: str, operation: Operation = Operation.VIEW) -> AnyService:
        """The service of whichever kind."""
        return await access.reach_service(self.read, self.principal, service_id, operation)

    async def no_body(self) -> None:
        """The body of a call that takes none: an empty one or any JSON; anything else is a mistake."""
        await self.optional_body(Any)

    async def optional_body(self, kind: type[T]) -> T:
        """The body of a call that may come without one; an empty one is all defaults."""
        raw = await self._request.body()
        return decoded(raw if raw.strip() else b"{}", kind)
