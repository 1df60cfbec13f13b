"""The ASGI application: a front that authenticates, and the routes behind it."""

from functools import cache

import msgspec
from litestar import Litestar
from litestar.enums import ScopeType
from litestar.openapi import OpenAPIConfig
from litestar.types import ASGIApp, Receive, Scope, Send

from refloat import __version__
from refloat.api import errors, probes
from refloat.api.auth import Authenticator
from refloat.api.call import JsonRequest
from refloat.api.routes import ROUTES
from refloat.control.context import Context
from refloat.domain.errors import RefloatError, TooLarge

MAX_BODY_BYTES = 1024 * 1024
_OPEN_PATHS = ("/openapi.json", *probes.PATHS)


def create_app(context: Context) -> ASGIApp:
    """The whole HTTP interface on one context."""
    return _Front(_routes(), context)


@cache
def _routes() -> Litestar:
    """Made once in a process, because that takes longer than most requests together: every request brings
    its context along."""
    return Litestar(
        [*ROUTES, *probes.ROUTES],
        exception_handlers=errors.HANDLERS,
        openapi_config=OpenAPIConfig(
            title="Refloat", version=__version__, path="/refloat/schema", render_plugins=()
        ),
        logging_config=None,
        request_class=JsonRequest,
        request_max_body_size=MAX_BODY_BYTES,
    )


@cache
def _document() -> bytes:
    """Made when it is first asked for: few ask, and every start would pay."""
    return msgspec.json.encode(_routes().openapi_schema.to_schema())


class _Front:
    """Before any route is looked up: who asks, and what the body is.

    A body is read as JSON whatever its type is called, because callers of actions send none or any.
    """

    def __init__(self, app: Litestar, context: Context) -> None:
        self._app = app
        self._context = context
        self._authenticator = Authenticator(context)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if path == "/openapi.json":
            await _respond(send, 200, _document())
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        state = scope.setdefault("state", {})
        state["context"] = self._context
        try:
            if path not in _OPEN_PATHS:
                state["principal"] = await self._authenticator.principal(
                    headers.get(b"authorization", b"").decode("latin-1"),
                    headers.get(b"user-agent", b"").decode("latin-1"),
                )
            length = headers.get(b"content-length", b"")
            if length.isdigit() and int(length) > MAX_BODY_BYTES:
                raise TooLarge(f"the body is larger than {MAX_BODY_BYTES} bytes")
        except RefloatError as error:
            status, body = errors.of_error(error, path)
            extra = ((b"www-authenticate", b"Token"),) if status == 401 else ()
            await _respond(send, status, msgspec.json.encode(body), *extra)
            return
        scope["headers"] = [
            *((n, v) for n, v in scope["headers"] if n.lower() != b"content-type"),
            (b"content-type", b"application/json"),
        ]
        await self._app(scope, receive, send)


async def _respond(send: Send, status: int, body: bytes, *extra: tuple[bytes, bytes]) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
