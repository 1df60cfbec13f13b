"""Errors become HTTP here and nowhere else: one table, one body."""

import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from refloat.api import complaints
from refloat.api.statuses import timestamp
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
        "timestamp": timestamp(datetime.now(UTC)),
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
    detail = complaints.of_request(error) if isinstance(error, ValidationException) else _words(error)
    content = body(error.status_code, detail, request.url.path, code="invalid")
    return Response(content, status_code=error.status_code, media_type="application/json")


def _words(error: HTTPException) -> str:
    if error.status_code == HTTPStatus.NOT_FOUND:
        return "there is no such path; the paths are listed in /openapi.json"
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return "this path does not take this method"
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return "the body is larger than the server reads"
    if error.status_code == HTTPStatus.BAD_REQUEST:
        return "the body is not valid JSON"
    return error.detail


def _unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """The log gets the traceback as text, because a rendering with local variables would show tokens."""
    trace = "".join(traceback.format_exception(error))
    log.error("a request failed unexpectedly", path=request.url.path, traceback=trace)
    content = body(500, "internal error; the server's log has the details", request.url.path, code="internal")
    return Response(content, status_code=500, media_type="application/json")


HANDLERS: dict[int | type[Exception], Callable[..., Response[Any]]] = {
    errors.RefloatError: _ours,
    HTTPException: _frameworks,
    Exception: _unexpected,
}
