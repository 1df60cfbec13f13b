"""What a service prints while it runs."""

from collections.abc import Iterable, Iterator

import msgspec

from refloat.control.context import Context
from refloat.domain.resources import Environment
from refloat.domain.revision import LogLine
from refloat.domain.services import AnyService
from refloat.execution import applied
from refloat.execution.logs import redact
from refloat.execution.places import platform_of
from refloat.execution.snapshot import open_snapshot
from refloat.store import deployments as store
from refloat.store import resources


class Output(msgspec.Struct, frozen=True):
    """The last lines of the revision that is applied, oldest first; none where nothing is."""

    revision_key: str = ""
    lines: tuple[LogLine, ...] = ()


async def last_output(context: Context, service: AnyService, most: int) -> Output:
    """Values of secrets are left out. Raises Elsewhere where another node has the lines."""
    read = context.database.read
    environment = await resources.get(read, Environment, service.parent)
    known = (await applied.of_environment(read, environment.id)).get(service.id)
    if known is None:
        return Output()
    platform = await platform_of(read, context.platforms, environment)
    lines = await platform.engine.logs(known.revision_key, most)
    return Output(known.revision_key, tuple(_redacted(lines, await _secrets(context, known))))


async def _secrets(context: Context, known: applied.Applied) -> tuple[str, ...]:
    """As its deployment knew them; without that, of an adopted one, every value may be a secret."""
    read, revision = context.database.read, known.revision(context.sealer)
    deployment = await store.find_deployment(read, revision.deployment_id)
    if deployment and deployment.number is not None:
        _, sealed = await store.claimed_documents(read, deployment.id)
        if snapshot := open_snapshot(sealed, context.sealer).services.get(known.service_id):
            return snapshot.secrets
    return tuple(revision.environment.values())


def _redacted(lines: Iterable[LogLine], secrets: tuple[str, ...]) -> Iterator[LogLine]:
    for line in lines:
        yield msgspec.structs.replace(line, text=redact(line.text, secrets))
