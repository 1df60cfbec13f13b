"""Work that one server does for a node, for as long as it is that server."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from refloat.domain.errors import RefloatError
from refloat.domain.replicas import Term

_AGAIN_SECONDS = 1.0

log = structlog.get_logger()


class Candidate(Protocol):
    """Who may come to lead a node, and may lose it again."""

    async def elected(self) -> Term: ...

    async def over(self, term: Term) -> None: ...


async def lead(candidate: Candidate, work: Callable[[Term], Awaitable[None]]) -> None:
    """Until cancelled: work through every term, and drop the work at once when the term is over.

    What is dropped is not undone: whoever leads next goes on with it.
    """
    while True:
        term = await candidate.elected()
        log.info("this server works on its node", node=term.node, term=term.number)
        working = asyncio.ensure_future(work(term))
        over = asyncio.ensure_future(candidate.over(term))
        try:
            await asyncio.wait({working, over}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (working, over):
                task.cancel()
            ended = await asyncio.gather(working, over, return_exceptions=True)
        if isinstance(ended[0], Exception):
            reason = str(ended[0]) if isinstance(ended[0], RefloatError) else repr(ended[0])
            log.error("the work on the node stopped and is begun again", reason=reason)
            await asyncio.sleep(_AGAIN_SECONDS)
        else:
            log.warning("another server may work on this node now", node=term.node, term=term.number)
