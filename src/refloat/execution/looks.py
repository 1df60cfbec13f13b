"""Looks of loops that go on: what refuses one is told, and the next one comes."""

from collections.abc import Awaitable

import structlog

from refloat.domain.errors import RefloatError
from refloat.execution.room import refused_when_full

log = structlog.get_logger()


async def looked(work: Awaitable[None], complaint: str, **about: str) -> RefloatError | None:
    """What refused the work, if anything did, told in these words; a full disk of the node is StorageFull."""
    try:
        with refused_when_full():
            await work
    except RefloatError as error:
        log.error(complaint, **about, reason=str(error))
        return error
    return None
