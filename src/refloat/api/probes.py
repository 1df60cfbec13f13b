"""What monitoring asks without a token: whether the server lives, whether it can work, what it counted."""

from litestar import Request, get
from litestar.response import Response

from refloat import __version__
from refloat.api.call import Http
from refloat.control.context import Context
from refloat.domain.errors import NotFound, Unavailable
from refloat.execution.deadline import Overdue, within
from refloat.execution.telemetry import QueueFigures
from refloat.store.figures import queue_figures

PATHS = ("/healthz", "/readyz", "/metrics")
_ANSWER_SECONDS = 5.0


@get("/healthz", include_in_schema=False)
async def _healthz() -> dict[str, str]:
    return {"status": "ok", "version": __version__}


@get("/readyz", include_in_schema=False)
async def _readyz(request: Http) -> dict[str, str]:
    """503 with the reason unless the database answers and the work of the node goes on, if it is ours."""
    context = _context(request)
    await _queue(context)
    if complaint := context.complaint():
        raise Unavailable(complaint, hint="the server's log has the details")
    return {"status": "ready", "version": __version__}


@get("/metrics", include_in_schema=False)
async def _metrics(request: Http) -> Response[bytes]:
    """Not by the names under which the edge gives out the API: how busy a server is concerns its operator."""
    context = _context(request)
    if request.url.hostname in context.settings.api_hosts:
        raise NotFound("figures are given out at the server's own address only", hint="ask at REFLOAT_PORT")
    if context.exposition is None:
        raise NotFound("this server counts nothing")
    text = context.exposition.text(await _queue(context))
    return Response(text, media_type=context.exposition.content_type)


def _context(request: Request) -> Context:  # type: ignore[type-arg]
    context: Context = request.scope["state"]["context"]
    return context


async def _queue(context: Context) -> QueueFigures:
    """Raises Unavailable when the database does not answer in time."""
    read = queue_figures(context.database.read)
    try:
        waiting, running, oldest = await within(context.clock, read, _ANSWER_SECONDS)
    except Overdue:
        raise Unavailable(
            f"the database did not answer within {_ANSWER_SECONDS:.0f} s", hint="look whether it runs"
        ) from None
    age = (context.clock.now() - oldest).total_seconds() if oldest else 0.0
    return QueueFigures(waiting=waiting, running=running, oldest_seconds=max(0.0, age))


ROUTES = (_healthz, _readyz, _metrics)
