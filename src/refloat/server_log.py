"""What the server says about itself: a line on stderr for each thing that happened.

Lines of a deployment's work carry `deployment` and `environment`, `service` and `step` where there are such.
"""

import sys
from typing import TextIO

import structlog
from structlog.typing import Processor

TEXT, JSON = "text", "json"


def configure(form: str, stream: TextIO | None = None) -> None:
    """Tracebacks show no local variables: they may hold secrets."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *_rendered(form),
        ],
        logger_factory=structlog.PrintLoggerFactory(stream or sys.stderr),
    )


def _rendered(form: str) -> tuple[Processor, ...]:
    if form == JSON:
        return structlog.processors.format_exc_info, structlog.processors.JSONRenderer()
    plain = structlog.dev.plain_traceback
    return (structlog.dev.ConsoleRenderer(colors=False, exception_formatter=plain),)
