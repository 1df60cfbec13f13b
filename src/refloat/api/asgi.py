"""The ASGI application: a front that authenticates, and the routes behind it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

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

Lifespan = Callable[[Litestar], AbstractAsyncContextManager[None]]


def create_app(context: Context, lifespan: Sequence[Lifespan] = ()) -> ASGIApp:
    """The whole HTTP interface on one context."""
    app = Litestar(
        [*ROUTES, *probes.ROUTES],
        exception_handlers=errors.HANDLERS,
        lifespan=list(lifespan),
        openapi_config=OpenAPIConfig(
            title="Refloat", version=__version__, path="/refloat/schema", render_plugins=()
        ),
        logging_config=None,
        request_class=JsonRequest,
        request_max_body_size=MAX_BODY_BYTES,
    )
    app.state.context = context
    schema = msgspec.json.encode(app.openapi_schema.to_schema())
    return _Front(app, Authenticator(context), schema)


class _Front:
    """Before any route is looked up: who asks, and what the body is.

    A body is read as JSON whatever its type is called, because callers of actions send none or any.
    """

    def __init__(self, app: Litestar, authenticator: Authenticator, schema: bytes) -> None:
        self._app = app
        self._authenticator = authenticator
        self._schema = schema

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if path == "/openapi.json":
            await _respond(send, 200, self._schema)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        try:
            if path not in _OPEN_PATHS:
                scope.setdefault("state", {})["principal"] = await self._authenticator.principal(
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
