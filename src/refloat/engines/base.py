"""The port of engines: start, watch and stop revisions on one cluster.

Every call is idempotent by key and tolerates "already there" and "already gone", because a deployment
that lost its control plane is folded from the journal and its steps are repeated. What an engine makes
it labels with service, environment and deployment before making it, so that a retry finds it.
"""

from typing import Protocol

from refloat.domain.revision import (
    Capabilities,
    Executing,
    Instance,
    LogLine,
    LogSink,
    Ran,
    Remembered,
    Revision,
)
from refloat.domain.services import Probe


class Engine(Protocol):
    """One kind of place that runs services."""

    def capabilities(self) -> Capabilities: ...

    async def prepare(self, revision: Revision) -> tuple[Instance, ...]:
        """Start all instances of the revision beside whatever runs; return as soon as they exist.

        Readiness is the caller's to observe. Repeating returns the same instances. Instances of an
        interrupted earlier attempt under the same key are adopted, not doubled; those that were told to end
        do so first, and are started anew; those that have exited are started anew.
        Raises Fenced for an older fence, StepFailed when it cannot be started at all.
        """
        ...

    async def observe(self, environment_id: str | None = None) -> tuple[Instance, ...]:
        """What exists right now, read from the world and not from memory."""
        ...

    async def reserve(self, service_id: str) -> str:
        """The `host:port` at which a database of this id will always be, the same at every call."""
        ...

    async def run(self, revision: Revision, argv: tuple[str, ...], key: str, log: LogSink) -> Ran:
        """Run a command of the service to its end.

        It may leave values in the file that `REFLOAT_OUTPUT_FILE` names; the text comes back with the
        exit code.

        Under the same key it is run once: a repeat joins the running one or returns its result, and may tell
        its log again, for a caller who died before it was stored. Like an
        instance it outlives its caller: cancelling the call leaves it running, for the next owner to
        join, and only `stop` of its revision ends it, which is no result.
        """
        ...

    async def executing(self, environment_id: str | None = None) -> tuple[Executing, ...]:
        """The commands that are under way right now, whoever began them."""
        ...

    async def forget_run(self, key: str) -> None:
        """End a run, and delete what is kept of it: nobody asks for this key again."""
        ...

    async def check(self, instance: Instance, probe: Probe, timeout: float) -> str:
        """Ask the instance once; "" when it is well, else what it answered. Never raises for a bad answer.

        A TCP or HTTP check without a port goes to the instance's own endpoint; an exec check runs inside.
        """
        ...

    async def elsewhere(self, instance: Instance) -> tuple[str, ...]:
        """Where the instance accepts connections while nothing of it does at its endpoint.

        Empty when it listens there, or nowhere, or when the engine cannot see it.
        """
        ...

    async def logs(self, revision_key: str, tail: int) -> tuple[LogLine, ...]:
        """The last lines of all instances of a revision, oldest first; also after it stopped."""
        ...

    async def stop(self, revision_key: str, grace_seconds: float) -> None:
        """End instances and commands: TERM, then KILL after the grace; returns when no process is left."""
        ...

    async def remember(self, service_id: str, document: str) -> None:
        """Keep a document beside the service, in place of the one before; it outlives the database."""
        ...

    async def remembered(self) -> tuple[Remembered, ...]:
        """Every document that is kept, by service."""
        ...

    async def destroy(self, service_id: str) -> None:
        """Stop everything of the service and delete its releases, its data and what is remembered of it."""
        ...
