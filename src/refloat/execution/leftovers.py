"""Ends what runs and is not recorded: an old revision that would not stop, a new one that was not undone.

A deployment only warns when its cleaning up fails; without this, what is left would run for ever.
"""

import structlog

from refloat.clock import Clock
from refloat.domain.errors import RefloatError
from refloat.execution import applied as applied_store
from refloat.execution.deadline import OBSERVE_SECONDS, Overdue, within
from refloat.execution.platform import Platform
from refloat.store import deployments as store
from refloat.store.database import Database, Reader

_GRACE_SECONDS = 60.0
_LONGEST_SECONDS = 80.0

log = structlog.get_logger()


async def end_leftovers(
    database: Database, clock: Clock, platform: Platform, serving: frozenset[str]
) -> None:
    """Compare once. What a deployment begins later has a key that was not seen here.

    `serving` is what was recorded a moment ago: of an environment where that is all that runs, nothing is
    asked. A service that this database never deployed is left alone: the database is new, or was put back.
    """
    seen: dict[str, set[str]] = {}
    for instance in await within(clock, platform.engine.observe(), OBSERVE_SECONDS):
        seen.setdefault(instance.environment_id, set()).add(instance.revision_key)
    for environment_id, keys in seen.items():
        if keys <= serving:
            continue
        async with database.snapshot() as read:
            if await store.open_deployments(read, environment_id):
                continue
            applied = await applied_store.of_environment(read, environment_id)
            wanted = {it.revision_key for it in applied.values() if it.should_run}
            left = [key for key in sorted(keys - wanted) if await _is_known(read, key)]
        for key in left:
            await _end(clock, platform, key)


async def _is_known(read: Reader, revision_key: str) -> bool:
    return bool(await store.target_history(read, revision_key.rpartition(".")[0], 1))


async def _end(clock: Clock, platform: Platform, key: str) -> None:
    log.warning("ending what runs and is not recorded", revision=key)
    try:
        await within(clock, platform.engine.stop(key, _GRACE_SECONDS), _LONGEST_SECONDS)
    except (RefloatError, Overdue) as error:
        log.error("it could not be ended", revision=key, reason=str(error))
