"""Rollbacks: one that an environment asks for comes exactly once, and every one leads to what ran."""

import sqlite3
from dataclasses import dataclass, field
from typing import Any

from refloat.simulated.world import World
from tests.simulation.seeded.records import DeploymentRow, Records
from tests.simulation.seeded.trace import Trace
from tests.simulation.seeded.world import names_service

_BY_ITSELF = "rollback on failure"
_ONCE = "exactly one rollback of what failed"
_FORWARD = ("DEPLOY", "REDEPLOY")
_BRINGS = (*_FORWARD, "ROLLBACK")


@dataclass
class _Past:
    """A deployment that has ended, and what ran for each service that it brought to its end."""

    it: DeploymentRow
    done: set[str]
    ran: dict[str, Any] = field(default_factory=dict)


class Returns:
    """Remembers what every deployment left. `asking`: environments that go back by themselves."""

    def __init__(self, look: sqlite3.Connection, world: World, trace: Trace) -> None:
        self._look = look
        self._world = world
        self._trace = trace
        self.asking: set[str] = set()
        self._past: dict[str, _Past] = {}
        self._undone: set[str] = set()

    def good(self, environment: str) -> list[int]:
        """Numbers of the deployments that can be gone back to."""
        found = [it.it for it in self._of(environment) if it.it.phase == "done" and it.it.verb in _BRINGS]
        return sorted(it.number for it in found if it.number is not None)

    def committed(self, before: Records, now: Records) -> None:
        """After all that ended is known: what came of it in the same commit."""
        new = [it for it in now.deployments.values() if it.id not in before.deployments]
        returns = [it for it in new if it.request["principal_id"] == _BY_ITSELF]
        ended = [it for it in now.deployments.values() if it.ended and it.id not in self._past]
        for it in ended:
            self._past[it.id] = self._left_by(it, now)
        for it in returns:
            of = it.request["triggered_by"].rpartition(" of ")[2]
            told = f"deployment {it.place} goes back from {of[-4:]}"
            self._trace.note("commit", told)
            self._trace.require(of not in self._undone, _ONCE, f"{told} once more")
            self._trace.require(any(_name(f) == of for f in ended), _ONCE, f"{told} at another time")
            self._undone.add(of)
        for it in ended:
            self._owed(it, now, [r for r in returns if r.request["triggered_by"].endswith(_name(it))])
            if it.request.get("back_to") and it.phase == "done":
                self._led_back(it)

    def _left_by(self, it: DeploymentRow, now: Records) -> _Past:
        brought = it.verb in _BRINGS
        done = {s for (d, s), t in now.targets.items() if d == it.id and t["phase"] == "done" and brought}
        past = _Past(it, done & it.planned.keys())
        for service in past.done:
            planned = it.planned[service]
            key = planned["replaces"] if planned["change"] == "skip" else f"{service}.{it.number}"
            if running := self._world.running.get(key):
                revision = running.revision
                past.ran[service] = (revision.artifact.key, revision.cpu, revision.memory)
        return past

    def _owed(self, failed: DeploymentRow, now: Records, returns: list[DeploymentRow]) -> None:
        """Whether there has to be one, and then of what and to what."""
        back_to, services = self._should(failed, now, {it.id for it in returns})
        if services:
            said = [(it.request["back_to"], set(it.request["services"])) for it in returns]
            told = (
                f"deployment {failed.place} failed: {len(said)} rollbacks follow, or not of what was replaced"
            )
            self._trace.require(said == [(back_to, services)], _ONCE, told)
        elif returns:
            told = f"deployment {failed.place} {failed.phase} is followed by one"
            self._trace.require(self._may(failed), _ONCE, told)

    def _may(self, failed: DeploymentRow) -> bool:
        asked = failed.environment in self.asking and failed.verb in _FORWARD and failed.number is not None
        return asked and failed.phase in ("failed", "build_failed") and not failed.cancel_requested

    def _should(self, failed: DeploymentRow, now: Records, returns: set[str]) -> tuple[str, set[str]]:
        others = [
            it
            for it in now.deployments.values()
            if it.environment == failed.environment and not it.ended and it.id not in returns
        ]
        if not self._may(failed) or others:
            return "", set()
        earlier = sorted((it for it in self._of(failed.environment) if it.it.id < failed.id), key=_id)
        good = [it for it in earlier if it.it.phase == "done" and it.it.verb in _BRINGS]
        if not good:
            return "", set()
        back_to = good[-1].it.id
        replaced = {
            service
            for service in self._past[failed.id].done
            if failed.planned[service]["replaces"] and failed.planned[service]["change"] != "skip"
        }
        known = {s for it in earlier if it.it.id <= back_to for s in it.done}
        return back_to, {service for service in replaced & known if self._is_there(service)}

    def _of(self, environment: str) -> list[_Past]:
        return [it for it in self._past.values() if it.it.environment == environment]

    def _is_there(self, service: str) -> bool:
        return self._look.execute("SELECT 1 FROM resource WHERE id = ?", (service,)).fetchone() is not None

    def _led_back(self, it: DeploymentRow) -> None:
        """What runs is what ran after the deployment that was meant."""
        back_to = it.request["back_to"]
        for service, ran in self._past[it.id].ran.items():
            sources = [p for p in self._of(it.environment) if p.it.id <= back_to and service in p.it.planned]
            sources.sort(key=_id)
            source = sources[-1] if sources else None
            if source and source.it.id != back_to:
                source = next((p for p in reversed(sources) if service in p.done), None)
            if source and service in source.done and (was := source.ran.get(service)):
                name = names_service(self._world, service)
                told = f"{name} goes back to {was} of deployment {source.it.place}, {ran} runs"
                self._trace.require(was == ran, "a rollback leads to what ran", told)


def _name(it: DeploymentRow) -> str:
    return f"{it.environment}-{it.number}"


def _id(past: _Past) -> str:
    return past.it.id
