"""The state of a simulated cluster: what runs and what answers. It outlives control planes of a test."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from refloat.domain.fences import Fence, handed_on
from refloat.domain.revision import Executing, LogLine, Revision
from refloat.routers.base import Domain
from refloat.simulated.script import VARIABLE, Script


@dataclass
class Running:
    """One revision that was started."""

    revision: Revision
    script: Script
    boot: str
    started: float
    stopped: bool = False
    log: list[LogLine] = field(default_factory=list)
    endings: set[asyncio.Task[None] | None] = field(default_factory=set)
    """Of those who told it to end, while it has not."""


@dataclass
class Command:
    """What was begun to run to its end, which it does whatever becomes of those who wait for it."""

    task: asyncio.Task[int]
    what: Executing


class Revisions(dict[str, Running]):
    """What was started, by key; what one environment runs is found without going through all others."""

    def __init__(self) -> None:
        super().__init__()
        self._of: dict[str, dict[str, Running]] = {}

    def __setitem__(self, key: str, running: Running) -> None:
        super().__setitem__(key, running)
        self._of.setdefault(running.revision.environment_id, {})[key] = running

    def __delitem__(self, key: str) -> None:
        del self._of[self[key].revision.environment_id][key]
        super().__delitem__(key)

    def clear(self) -> None:
        super().clear()
        self._of.clear()

    def of_environment(self, environment_id: str | None) -> Iterable[Running]:
        """Of one environment, or of all."""
        return self.values() if environment_id is None else self._of.get(environment_id, {}).values()


@dataclass
class World:
    """Everything the three simulated adapters share."""

    running: Revisions = field(default_factory=Revisions)
    routes: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    reserved: dict[str, int] = field(default_factory=dict)
    hosts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    domains: dict[str, tuple[Domain, ...]] = field(default_factory=dict)
    artifacts: set[str] = field(default_factory=set)
    runs: dict[str, int] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    """Every command that came to its end, by its key; what is kept of one may be forgotten, this is not."""
    fences: dict[str, list[Fence]] = field(default_factory=dict)
    turns: dict[tuple[str, str], int] = field(default_factory=dict)
    overrides: dict[str, Script] = field(default_factory=dict)
    building: set[str] = field(default_factory=set)
    inventory: dict[str, str] = field(default_factory=dict)
    executing: set[str] = field(default_factory=set)
    commands: dict[str, Command] = field(default_factory=dict)
    """Those under way, by key."""

    def rewrite(self, service_id: str, text: str) -> None:
        """From now on the service behaves like this, whatever its configuration says; "" undoes it.

        Values that are used in turn begin anew. Raises Invalid for a script that cannot be read.
        """
        script = Script(text)
        self.turns = {key: count for key, count in self.turns.items() if key[0] != service_id}
        self.overrides.pop(service_id, None)
        if text:
            self.overrides[service_id] = script

    def behaves(self, service_id: str, script: Script) -> Script:
        """The script that counts for a service."""
        return self.overrides.get(service_id, script)

    def turn(self, service_id: str, key: str) -> int:
        """How often this was asked before, counting this time."""
        count = self.turns.get((service_id, key), 0)
        self.turns[service_id, key] = count + 1
        return count

    def guard(self, revision: Revision) -> None:
        """Refuse an older owner, and a deployment that was followed; remember the newest."""
        self.fences[revision.service_id] = handed_on(self.fences.get(revision.service_id, ()), revision)

    def script_of(self, service_id: str) -> Script:
        """The script of the newest revision of a service."""
        found = [r.script for r in self.running.values() if r.revision.service_id == service_id]
        return self.behaves(service_id, found[-1] if found else Script())


def script_of_revision(revision: Revision) -> Script:
    """The user's variable, else what the builder carried over from the source."""
    return Script(revision.environment.get(VARIABLE) or revision.artifact.environment.get(VARIABLE, ""))
