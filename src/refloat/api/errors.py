"""Errors become HTTP here and nowhere else: one table, one body."""

from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from refloat.domain import errors

log = structlog.get_logger()

STATUS: dict[type[errors.RefloatError], HTTPStatus] = {
    errors.Unauthenticated: HTTPStatus.UNAUTHORIZED,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Invalid: HTTPStatus.BAD_REQUEST,
    errors.StepFailed: HTTPStatus.BAD_REQUEST,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.StorageFull: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}


def status_of(error: errors.RefloatError) -> HTTPStatus:
    """The status of an error, by its nearest class in the table."""
    for ancestor in type(error).__mro__:
        if ancestor in STATUS:
            return STATUS[ancestor]
    return HTTPStatus.INTERNAL_SERVER_ERROR


def body(status: int, detail: str, path: str, *, code: str = "", hint: str = "") -> dict[str, Any]:
    """The error body that every client reads: some look at `detail`, some at `message`."""
    return {
        "status": int(status),
        "error": HTTPStatus(status).phrase,
        "message": detail,
        "detail": f"{detail} ({hint})" if hint else detail,
        "code": code,
        "hint": hint,
        "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "path": path,
    }


def of_error(error: errors.RefloatError, path: str) -> tuple[HTTPStatus, dict[str, Any]]:
    """Status and body of one of our errors."""
    status = status_of(error)
    return status, body(status, error.message, path, code=error.code, hint=error.hint)


def _ours(request: Request[Any, Any, Any], error: errors.RefloatError) -> Response[Any]:
    status, content = of_error(error, request.url.path)
    return Response(content, status_code=status, media_type="application/json")


def _frameworks(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    detail = _complaint(error) if isinstance(error, ValidationException) else _words(error)
    content = body(error.status_code, detail, request.url.path, code="invalid")
    return Response(content, status_code=error.status_code, media_type="application/json")


def _complaint(error: ValidationException) -> str:
    """What is wrong with which field, of the first complaint."""
    complaints = error.extra if isinstance(error.extra, list) else []
    if not complaints or not isinstance(complaints[0], dict):
        return "the request is not valid"
    first = complaints[0]
    where = str(first.get("key") or "the body")
    return f"{where}: {str(first.get('message', 'not valid')).replace('`', '')}"


def _words(error: HTTPException) -> str:
    if error.status_code == HTTPStatus.NOT_FOUND:
        return "there is no such path; the paths are listed in /openapi.json"
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return "this path does not take this method"
    if error.status_code == HTTPStatus.BAD_REQUEST:
        return "the body is not valid JSON"
    return error.detail


def _unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    log.exception("a request failed unexpectedly", path=request.url.path, exc_info=error)
    content = body(500, "internal error; the server's log has the details", request.url.path, code="internal")
    return Response(content, status_code=500, media_type="application/json")


HANDLERS: dict[int | type[Exception], Callable[..., Response[Any]]] = {
    errors.RefloatError: _ours,
    HTTPException: _frameworks,
    Exception: _unexpected,
}
