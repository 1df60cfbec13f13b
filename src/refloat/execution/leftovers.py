"""Ends what runs and is not recorded: an old revision that would not stop, a new one that was not undone,
a command of a deployment that has ended.

A deployment only warns when its cleaning up fails; without this, what is left would run for ever.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import structlog

from refloat.clock import Clock
from refloat.domain.errors import RefloatError
from refloat.execution import applied as applied_store
from refloat.execution.applied import Applied
from refloat.execution.deadline import OBSERVE_SECONDS, Overdue, within
from refloat.execution.platform import Platform
from refloat.store import deployments as store
from refloat.store.database import Database, Reader

_GRACE_SECONDS = 60.0
_DRAIN_SECONDS = 10.0
_LONGEST_SECONDS = 100.0

log = structlog.get_logger()


async def end_leftovers(
    database: Database, clock: Clock, platform: Platform, serving: frozenset[str]
) -> None:
    """Compare once. What a deployment begins later has a key that was not seen here.

    `serving` is what was recorded a moment ago: of an environment where that is all that runs, nothing is
    asked. A service that this database never deployed is left alone: the database is new, or was put back.
    """
    for environment_id, seen in (await within(clock, _look(platform), OBSERVE_SECONDS)).items():
        if not seen.commands and seen.endpoints.keys() <= serving:
            continue
        async with database.snapshot() as read:
            if await store.open_deployments(read, environment_id):
                continue
            applied = await applied_store.of_environment(read, environment_id)
            wanted = {it.revision_key: it for it in applied.values() if it.should_run}
            left = [key for key in sorted(seen.endpoints.keys() - wanted) if await _is_known(read, key)]
            commands = [key for key, of in sorted(seen.commands.items()) if await _is_known(read, of)]
        for key in left:
            await _end(clock, platform, key, seen.endpoints[key], applied.get(service_of(key)))
        for key in commands:
            await _end_command(clock, platform, key)


def service_of(revision_key: str) -> str:
    """The service that it is a revision of."""
    return revision_key.rpartition(".")[0]


@dataclass
class _Seen:
    """What runs in an environment: revisions with their endpoints, commands of deployments with theirs."""

    endpoints: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    commands: dict[str, str] = field(default_factory=dict)


async def _look(platform: Platform) -> dict[str, _Seen]:
    found: defaultdict[str, _Seen] = defaultdict(_Seen)
    for instance in await platform.engine.observe():
        found[instance.environment_id].endpoints[instance.revision_key].append(instance.endpoint)
    for command in await platform.engine.executing():
        if command.in_deployment:
            found[command.environment_id].commands[command.key] = command.revision_key
    return found


async def _is_known(read: Reader, revision_key: str) -> bool:
    return bool(await store.target_history(read, service_of(revision_key), 1))


async def _end(
    clock: Clock, platform: Platform, key: str, endpoints: list[str], applied: Applied | None
) -> None:
    log.warning("ending what runs and is not recorded", revision=key)
    try:
        await within(clock, _retire(platform, key, tuple(endpoints), applied), _LONGEST_SECONDS)
    except (RefloatError, Overdue) as error:
        log.error("it could not be ended", revision=key, reason=str(error))


async def _retire(platform: Platform, key: str, endpoints: tuple[str, ...], applied: Applied | None) -> None:
    """Nothing is asked of it any more when it ends. Its deployment may not have led the route back: to what
    is recorded the keeper leads it, and at the next look this one ends; else it leads nowhere."""
    async with platform.turn(service_of(key)):
        serving = await platform.router.serving(service_of(key))
        if serving and serving.revision_key == key:
            if applied and applied.should_run and applied.routed:
                return
            await platform.router.switch(service_of(key), "", ())
    await platform.router.drain(endpoints, _DRAIN_SECONDS)
    await platform.engine.stop(key, _GRACE_SECONDS)


async def _end_command(clock: Clock, platform: Platform, key: str) -> None:
    log.warning("ending a command of a deployment that has ended", command=key)
    try:
        await within(clock, platform.engine.forget_run(key), _LONGEST_SECONDS)
    except (RefloatError, Overdue) as error:
        log.error("it could not be ended", command=key, reason=str(error))
