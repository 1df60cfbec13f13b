"""What serves now: the record that later plans, restarts of the machine and failures go back to."""

from collections.abc import Mapping, Sequence

import msgspec

from refloat.domain.revision import Artifact, Revision
from refloat.domain.timetable import Timetable
from refloat.planning.plan import StepName
from refloat.planning.wanted import Current
from refloat.store import applied as stored
from refloat.store import deployments as store
from refloat.store.database import Reader, Transaction
from refloat.store.resources import parent_of
from refloat.store.sealing import Sealer


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """The verified revision of one service. `sealed` is the whole revision, values included."""

    service_id: str
    environment_id: str
    revision_key: str
    fields: dict[str, str]
    sealed: str
    routed: bool
    stage_position: int
    number: int
    should_run: bool = True
    timetable: Timetable | None = None
    """Of a job by the clock, until it is stopped."""

    def stopped(self) -> "Applied":
        """The same, not to be run any more."""
        return msgspec.structs.replace(self, should_run=False, timetable=None)

    def revision(self, sealer: Sealer) -> Revision:
        """All an engine needs to start it again."""
        return msgspec.json.decode(sealer.open(self.sealed), type=Revision)

    def current(self, running: frozenset[str]) -> Current:
        """As the planner sees it, given the keys of the revisions that really run."""
        return Current(
            service_id=self.service_id,
            revision_key=self.revision_key,
            fields=self.fields,
            should_run=self.should_run,
            runs=self.revision_key in running,
        )


def seal_revision(revision: Revision, sealer: Sealer) -> str:
    """The text to store for a revision."""
    return sealer.seal(msgspec.json.encode(revision).decode())


async def put(tx: Transaction, applied: Applied) -> None:
    """Record what serves now."""
    document = msgspec.json.encode(applied).decode()
    await stored.put_applied(tx, applied.service_id, applied.environment_id, document)


async def of_environment(read: Reader, environment_id: str) -> dict[str, Applied]:
    """By service."""
    return decoded(await stored.applied_documents(read, environment_id))


def decoded(documents: Mapping[str, str]) -> dict[str, Applied]:
    """What is stored of what is applied, by service."""
    return {key: msgspec.json.decode(document, type=Applied) for key, document in documents.items()}


async def artifacts_in_use(
    read: Reader, sealer: Sealer, keep: int, service_id: str
) -> tuple[str, ...] | None:
    """Keys of the artifacts that a recovery, a failure or a rollback may start again: of what is applied,
    of the last `keep` deployments that ended well, and of those that go on. None: no such service.
    """
    environment_id = await parent_of(read, service_id)
    if environment_id is None:
        return None
    known = (await of_environment(read, environment_id)).get(service_id)
    applied = (known.revision(sealer).artifact.key,) if known else ()
    outputs = await store.built(read, service_id, StepName.BUILD, keep + _GOING_ON)
    return (*applied, *(msgspec.json.decode(text, type=_Built).artifact.key for text in outputs))


_GOING_ON = 1
"""At most one deployment of a service runs, and may have built already."""


class _Built(msgspec.Struct):
    artifact: Artifact


async def everywhere(read: Reader) -> dict[str, list[Applied]]:
    """By environment, in stage order."""
    found = await stored.applied_everywhere(read)
    return {environment_id: _in_stage_order(documents) for environment_id, documents in found.items()}


def _in_stage_order(documents: Mapping[str, str]) -> list[Applied]:
    decoded = (msgspec.json.decode(document, type=Applied) for document in documents.values())
    return sorted(decoded, key=lambda it: (it.stage_position, it.service_id))


class Everywhere:
    """The same, for whoever asks again and again: of an environment that nothing was told of since, what
    was read before still holds. Nothing is applied without an event of its deployment in the same unit."""

    def __init__(self) -> None:
        self._known: dict[str, list[Applied]] = {}
        self._seen: int | None = None

    async def read(self, read: Reader) -> Mapping[str, Sequence[Applied]]:
        """As it is now; what changes while it is read is read again the next time."""
        newest = await stored.newest_event(read)
        if self._seen is None:
            self._known = await everywhere(read)
        elif newest != self._seen:
            for environment_id in await stored.told_of(read, self._seen):
                self._known.pop(environment_id, None)
                if documents := await stored.applied_documents(read, environment_id):
                    self._known[environment_id] = _in_stage_order(documents)
        self._seen = newest
        return self._known
