"""Lines that a long step writes, on their way into the record: bounded, redacted, in batches."""

import asyncio
import contextlib
from collections.abc import Iterable

from refloat.clock import Clock
from refloat.domain.revision import Level
from refloat.execution.journal import Journal

_MOST_LINES = 5000
_LONGEST_LINE = 2000
_PAUSE = 0.1
_SHORTEST_SECRET = 6
REDACTED = "[secret]"


class StepLog:
    """The log sink of one step; use it as `async with`, so that nothing is lost at its end.

    A step that is over with its log (`whole`) has the last lines written with its own end.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        service_id: str,
        step: str,
        secrets: Iterable[str] = (),
        *,
        whole: bool = False,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._service_id = service_id
        self._step = step
        self._secrets = tuple(secrets)
        self._whole = whole
        self._lines: list[tuple[Level, str]] = []
        self._count = 0
        self._fresh = asyncio.Event()
        self._flusher: asyncio.Task[None] | None = None

    def __call__(self, level: Level, line: str) -> None:
        self._count += 1
        if self._count < _MOST_LINES:
            self._lines.append((level, redact(line[:_LONGEST_LINE], self._secrets)))
        elif self._count == _MOST_LINES:
            self._lines.append((Level.WARNING, f"the log is cut after {_MOST_LINES} lines"))
        self._fresh.set()

    async def __aenter__(self) -> "StepLog":
        self._flusher = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._flusher is not None
        self._flusher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._flusher
        if self._whole:
            self._journal.tell_at_the_end(self._service_id, self._step, self._lines)
        else:
            await asyncio.shield(self._flush())

    async def _run(self) -> None:
        """A step that is silent for half an hour costs nothing meanwhile."""
        while True:
            await self._fresh.wait()
            await self._clock.sleep(_PAUSE)
            self._fresh.clear()
            await asyncio.shield(self._flush())

    async def _flush(self) -> None:
        lines, self._lines = self._lines, []
        if lines:
            await self._journal.tell(self._service_id, self._step, lines)


def redact(line: str, secrets: Iterable[str]) -> str:
    """The line without the values of secrets; very short ones would only cut words apart.

    The longest first: a URL with a password in it is a secret as a whole. Of one that has several lines, as
    private keys have, each is one: what prints it prints them one by one.
    """
    values = tuple(secrets)
    parts = (part.strip() for value in values if "\n" in value for part in value.splitlines())
    for secret in sorted((*values, *parts), key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            line = line.replace(secret, REDACTED)
    return line
