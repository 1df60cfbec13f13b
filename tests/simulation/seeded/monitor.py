"""The guarantees, looked at after every commit and every effect, and at the end of a run."""

from collections.abc import Callable
from typing import Any

from refloat.domain.progress import TERMINAL
from refloat.execution.capacity import Capacity
from refloat.execution.deadline import OBSERVE_SECONDS
from refloat.execution.worker import TICK_SECONDS
from refloat.simulated.world import World
from tests.simulation.seeded import records
from tests.simulation.seeded.attempts import Attempts
from tests.simulation.seeded.caps import Caps
from tests.simulation.seeded.instants import Instants
from tests.simulation.seeded.limits import AFTER, longest
from tests.simulation.seeded.loop import VirtualClock
from tests.simulation.seeded.neighbours import REACHES, Neighbours
from tests.simulation.seeded.recorded import Recorded
from tests.simulation.seeded.records import DeploymentRow, Records
from tests.simulation.seeded.remembered import Tables
from tests.simulation.seeded.returns import Returns
from tests.simulation.seeded.store import RunStore
from tests.simulation.seeded.trace import Trace
from tests.simulation.seeded.world import answers, left_of, names_service, serves, stays

_ENDED = frozenset(str(p) for p in TERMINAL)
_TAKES_DOWN = ("stop", "remove", "recreate")
_UNDO = frozenset({"revert", "discard"})
_SWAPS = ("replace", "rebuild", "restart")
_EFFECTS = {
    "prepare": ("prepare", "ready", "switch", "verify", "revert"),
    "run": ("execute",),
    "stop": ("stop", "discard", "execute"),
    "switch": ("switch", "verify", "withdraw", "revert"),
    "destroy": ("destroy",),
    "build": ("build",),
}
"""Operations that change the world, and the steps in which a worker may begin them."""
KEEPER, CLOCK = " keeper", " clock"
"""What stands behind the name of a server for its reconciler, and for its jobs by the clock."""
_CLAIM_SECONDS = 2 * OBSERVE_SECONDS + TICK_SECONDS
"""The look at a cluster that hangs for those that came before, that for itself, and a tick."""
_SLACK_SECONDS = 30.0


_RANK = {"accepted": 0, "queued": 1, "running": 2, "canceling": 3}
"""Of a deployment; every end is the last."""


class Monitor:
    """Watches one run."""

    def __init__(
        self, store: RunStore, world: World, trace: Trace, clock: VirtualClock, capacity: Capacity
    ) -> None:
        now = clock.monotonic
        self._store = store
        self._world = world
        self._trace = trace
        self._now = now
        self._known = Records()
        self.recorded = Recorded(store.look, world, trace)
        self.neighbours = Neighbours(world, trace)
        self.caps = Caps(capacity, world, trace, now)
        self.returns = Returns(store.look, world, trace)
        self.instants = Instants(store.look, world, trace, clock.now)
        self.attempts = Attempts(world, trace)
        self.commits = 0
        self._newest = 0
        self._order: dict[str, list[str]] = {}
        self._serving: dict[str, bool] = {}
        self.claimed_at: dict[str, float] = {}
        self._head_since: dict[str, tuple[str, float]] = {}
        self.disturbed = 0.0
        """When something last kept servers from working: a death, a freeze, a refused commit."""
        self.outage = 0.0
        """Seconds that faults may have cost so far."""
        self._outage_at: dict[str, float] = {}
        self.world_fault = -1.0
        """When something last happened to what runs, that nobody asked for."""
        self.late: set[str] = set()
        """Services to which a replaced owner did one thing more."""
        self._unreturned = False
        """Whether a deployment could not bring back what it had replaced; the keeper does so later."""
        self._unrepaired: set[str] = set()
        """Deployments that were claimed when what ended by itself, or was not brought back, did not run."""
        self.ended: set[str] = set()
        self._drained: set[str] = set()
        self.owners: dict[str, str] = {}
        self.stale: Callable[[str], bool] = lambda host: False
        store.told = self.committed

    def accepted(self, environment: str) -> list[str]:
        """The requests of an environment, in the order in which they were stored."""
        return list(self._order.get(environment, ()))

    def begun(self, environment: str) -> set[str]:
        """Those that were claimed or have ended."""
        return {i for i in self.accepted(environment) if i in self.claimed_at or i in self.ended}

    # -- after every commit

    def committed(self, written: Tables) -> None:
        """Compare what is stored now with what was stored at the last commit."""
        self._trace.require(
            not self._store.database.snapshots, "whoever looks at one instant waits for nothing", ""
        )
        self.commits += 1
        before = self._known
        now = self._known = records.read(self._store.look, before, self._newest, written)
        if now.deployments is not before.deployments:
            self._newest = max([self._newest, *(d.place for d in now.deployments.values())])
            for it in now.deployments.values():
                self._deployment(before.deployments.get(it.id), it, now)
        if now.targets is not before.targets:
            for key, target in now.targets.items():
                if target is not before.targets.get(key):
                    self._target(before.targets.get(key), now, now.deployments[key[0]], target)
        if now.steps is not before.steps:
            for place, step in now.steps.items():
                if step != before.steps.get(place):
                    known = [it.deployments.get(place[0]) for it in (before, now)]
                    self._step(place, before.steps.get(place), step, [it.fence for it in known if it])
        if now.deployments is not before.deployments:
            self._queues(now)
            self.caps.committed(now)
            self.returns.committed(before, now)
        if "applied" in written:
            self.recorded.read()
            self.neighbours.committed(before, now, self.recorded.applied)
        self.neighbours.look()
        if "resource" in written:
            self.instants.committed()

    def _deployment(self, before: DeploymentRow | None, it: DeploymentRow, now: Records) -> None:
        require, name = self._trace.require, f"deployment {it.place}"
        if before is None:
            self._order.setdefault(it.environment, []).append(it.id)
            self._trace.note("commit", f"{name} {it.verb} accepted as {it.phase}")
        elif (before.phase, before.owner, before.fence) != (it.phase, it.owner, it.fence):
            self._trace.note("commit", f"{name} {before.phase} -> {it.phase} owner {it.owner} {it.reason}")
            forward = _RANK.get(before.phase, 4) <= _RANK.get(it.phase, 4) and not before.ended
            require(forward, "legal progress", f"{name} {before.phase} -> {it.phase}")
            require(it.fence >= before.fence, "G15 leases with fencing", f"the fence of {name} went back")
        require(not it.reason.startswith("internal error"), "no internal error", f"{name}: {it.reason}")
        if it.owner and it.id not in self.claimed_at:
            self.claimed_at[it.id] = self._now()
            self._outage_at[it.id] = self.outage
            if (self._unreturned or self.world_fault >= 0) and not self.recorded.repaired:
                self._unrepaired.add(it.id)
            earlier = self._order[it.environment][: self._order[it.environment].index(it.id)]
            waiting = [e for e in earlier if e in now.deployments and not now.deployments[e].ended]
            require(
                not waiting, "first in, first out", f"{name} was claimed before {len(waiting)} older ones"
            )
        if it.ended and it.id not in self.ended:
            self.ended.add(it.id)
            targets = [t for (d, _), t in now.targets.items() if d == it.id]
            unfinished = [t["name"] for t in targets if t["phase"] not in _ENDED]
            require(not unfinished, "no false terminal state", f"{name} ended before {unfinished}")
            self._bounded(it)
            if it.phase == "done":
                undone = [
                    t["name"] for t in targets if t["service_id"] in it.planned and t["phase"] != "done"
                ]
                require(not undone, "done means that all of it is", f"{name}: {undone}")
                self._retired(it, now)

    def _retired(self, it: DeploymentRow, now: Records) -> None:
        """The old revisions of what was rolled have ended, unless ending them failed."""
        for service, planned in it.planned.items():
            stop = now.steps.get((it.id, service, "stop"))
            if "stop" in planned["steps"] and not (stop and stop.outcome == "failed"):
                left = left_of(self._world, str(planned["replaces"]))
                self._trace.require(
                    not left, "G8 detach, drain, stop", f"of {planned['name']} is left {left}"
                )

    def _bounded(self, it: DeploymentRow) -> None:
        if it.id in self.claimed_at:
            took = self._now() - self.claimed_at[it.id]
            allowed = longest(it) * max(1, it.fence) + self.outage - self._outage_at[it.id] + _SLACK_SECONDS
            self._trace.require(
                took <= allowed,
                "G1 bounded progress",
                f"deployment {it.place}: {took:.0f} s of {allowed:.0f} s",
            )

    def _queues(self, now: Records) -> None:
        by_environment: dict[str, list[DeploymentRow]] = {}
        for it in now.deployments.values():
            if not it.ended:
                by_environment.setdefault(it.environment, []).append(it)
        for environment, queue in by_environment.items():
            owned = [d for d in queue if d.owner]
            self._trace.require(len(owned) <= 1, "G7 one deployment of an environment runs", environment)
            shown = [(d.place, d.phase) for d in queue]
            proper = queue[0].phase != "accepted" and all(d.phase == "accepted" for d in queue[1:])
            self._trace.require(proper, "the successor is shown as next", str(shown))
            if self._head_since.get(environment, ("", 0.0))[0] != queue[0].id:
                self._head_since[environment] = queue[0].id, self._now()
        for environment in [e for e in self._head_since if e not in by_environment]:
            del self._head_since[environment]

    def _step(self, key: tuple[str, str, str], before: Any, step: Any, fences: list[int]) -> None:
        """`fences` before and after this commit: an owner's last unit may share it with its successor's
        first."""
        who = names_service(self._world, key[1])
        if before is None or (before.attempt, before.outcome) != (step.attempt, step.outcome):
            late = f"{key[2]} of {who} is written under {step.fence} of {fences[-1]}"
            self._trace.require(step.fence in fences, "G15 leases with fencing", late)
        if before is not None and before.outcome == "done":
            self._trace.require(
                (step.attempt, step.outcome) == (before.attempt, before.outcome),
                "finished steps are not repeated",
                f"{key[2]} of {who} was done and is {step}",
            )
        if before is None or (before.attempt, before.outcome) != (step.attempt, step.outcome):
            self._trace.note(
                "journal", f"{key[2]} of {who}: attempt {step.attempt} {step.outcome or 'begins'}"
            )
        if key[2] in _UNDO and step.outcome == "failed":
            self._unreturned = True
        if step.outcome:
            self._last_good(key[1], f"{key[2]}, which is {step.outcome}")

    # -- outcomes of services

    def _target(self, before: Any, now: Records, it: DeploymentRow, target: dict[str, Any]) -> None:
        phase, service = target["phase"], target["service_id"]
        if before is not None and before["phase"] == phase:
            return
        if before is not None:
            self._trace.note(
                "commit", f"{target['name']} {before['phase']} -> {phase} {target.get('reason', '')}"
            )
            legal = phase in AFTER[before["phase"]]
            self._trace.require(legal, "legal progress", f"{target['name']} {before['phase']} -> {phase}")
        if phase not in _ENDED or it.number is None or service not in it.planned:
            return
        planned = it.planned[service]
        if phase == "done":
            self._done(it, target, planned)
        else:
            self._undone(now, it, target, planned)

    def _calm(self, it: DeploymentRow) -> bool:
        """Nothing happened to the world by itself since the deployment began, and nothing was left of
        what had happened before."""
        return self.world_fault < self.claimed_at.get(it.id, 0.0) and it.id not in self._unrepaired

    def _done(self, it: DeploymentRow, target: dict[str, Any], planned: dict[str, Any]) -> None:
        service, name = target["service_id"], target["name"]
        if target["action"] in ("deploy", "restart"):
            key = planned["replaces"] if planned["change"] == "skip" else f"{service}.{it.number}"
            if planned["routed"] and self._calm(it):
                routed = self._world.routes.get(service, ("", ()))[0]
                held = routed == key and answers(self._world, service)
                details = f"{name} is done, its route points to {routed[-4:]} instead of {key[-4:]}"
                self._trace.require(held, "G11 status is observed", details)
        else:
            left = left_of(self._world, f"{service}.")
            self._trace.require(not left, "what is stopped does not run", f"{name}: {left}")

    def _undone(
        self, now: Records, it: DeploymentRow, target: dict[str, Any], planned: dict[str, Any]
    ) -> None:
        service, name = target["service_id"], target["name"]
        if target["action"] not in ("deploy", "restart"):
            return
        failed = {
            n
            for (d, s, n), step in now.steps.items()
            if (d, s) == (it.id, service) and step.outcome == "failed"
        }
        if failed & _UNDO:
            return
        left = left_of(self._world, f"{service}.{it.number}")
        if service in self._world.building:
            left.append("building")
        details = f"of {name}, {target['phase']}, is left {left}"
        self._trace.require(not left or planned["change"] == "skip", "G5 cancel means stopped", details)
        if not self._calm(it) or not planned["routed"]:
            return
        serving = target.get("serving") or ""
        routed = self._world.routes.get(service, ("", ()))[0]
        if serving:
            truth = routed == serving and serves(self._world, service)
            self._trace.require(
                truth, "the error names what serves", f"{name} says {serving}, it is {routed}"
            )
        before = self._world.running.get(planned["replaces"])
        told_to_end = before and before.endings  # by an earlier deployment, and it has not
        if planned["change"] in _SWAPS and not told_to_end:
            held = routed == planned["replaces"] and serves(self._world, service)
            details = (
                f"{name} {target['phase']}: {planned['replaces']} does not serve, the route says {routed}"
            )
            self._trace.require(held, "G10 last-good safety", details)

    # -- after every effect

    def effect(
        self, who: str, name: str, arguments: tuple[Any, ...], *, done: bool, late: bool = False
    ) -> None:
        """A server begins to change the world, or has changed it. `late`: it asked whether it is still the
        owner, and froze before it did that one thing, which nothing can forbid it."""
        if name == "drain" and done:
            self._drained |= {str(e).rpartition("/")[0] for e in arguments[0]} or self._draining(who)
        if name in REACHES:
            self.neighbours.reached(_service_of(name, arguments), done=done)
        steps = _EFFECTS.get(name)
        if steps is None:
            return
        service = _service_of(name, arguments)
        shown = names_service(self._world, service)
        if not done:
            self._trace.note(who, f"{name} {shown}")
            if who.endswith(CLOCK):
                self.instants.begins(str(arguments[2]), late=late)
            elif not who.endswith(KEEPER):
                if name == "build" and not self.stale(who):
                    self.caps.builds(service)
                written = records.open_step(self._known, service, steps, self.owners.get(who, ""))
                guarantee = (
                    "an old fence never changes the world" if self.stale(who) else "G14 written down first"
                )
                details = f"{who}: {name} of {shown} is no step that has begun"
                self._trace.require(written or late, guarantee, details)
                if late and not written:
                    self.late.add(service)
                    self.disturb_world()
                elif name == "run":
                    self.attempts.begins(str(arguments[2]), late=late)
                elif name == "stop":
                    self._detached(str(arguments[0]), service, shown)
            elif name == "stop" and self.recorded.wanted(service) != str(arguments[0]):
                self._detached(str(arguments[0]), service, shown)
        else:
            self._last_good(service, f"{who} {name}")

    def _draining(self, who: str) -> set[str]:
        """Deployments of this server that may have drained nothing: the engine lied, or nothing ran."""
        owner, known = self.owners.get(who, ""), self._known
        drains = {key[0] for key, step in known.steps.items() if key[2] == "drain" and not step.outcome}
        return {it for it in drains if it in known.deployments and known.deployments[it].owner == owner}

    def _detached(self, key: str, service: str, shown: str) -> None:
        """What is stopped gets no requests any more, and those in flight were waited for."""
        routed, endpoints = self._world.routes.get(service, ("", ()))
        detached = routed != key or not endpoints or service in self.late or stays(self._world, key)
        self._trace.require(detached, "G8 detach, drain, stop", f"{shown} is still routed")
        for it in self._known.deployments.values():
            planned = it.planned.get(service)
            if not it.ended and it.owner and planned and planned["replaces"] == key and planned["routed"]:
                drain = self._known.steps.get((it.id, service, "drain"))
                failed = drain is not None and drain.outcome == "failed"
                drained = "drain" not in planned["steps"] or failed or self._drained & {key, it.id}
                self._trace.require(drained, "G8 detach, drain, stop", f"{shown} stops before it was drained")

    def _last_good(self, service: str, what: str) -> None:
        before, after = self._serving.get(service, False), serves(self._world, service)
        self._serving[service] = after
        if not before or after or (self.world_fault >= 0 and self._now() - self.world_fault < 1):
            return
        for it in self._known.deployments.values():
            planned = it.planned.get(service)
            expected = planned and (planned["change"] in _TAKES_DOWN or not planned["replaces"])
            if expected and not it.ended and it.owner:
                return
        if KEEPER in what and not self.recorded.wanted(service):
            return  # its deployment could not end it, and nothing is recorded that would serve
        if service in self._world.routes:
            name = names_service(self._world, service)
            self._trace.require(False, "G10 last-good safety", f"{name} stopped serving by {what}")

    def disturb_world(self) -> None:
        """Something happens to what runs; it may stop serving."""
        self.world_fault = self._now()
        self._serving.clear()
        self.neighbours.excuse()

    # -- as time passes

    def tick(self) -> None:
        """Deadlines of what goes on, and of what waits."""
        for it in self._known.deployments.values():
            if not it.ended:
                self._bounded(it)
        room = self.caps.waited_for(self._known)
        for head, since in self._head_since.values():
            waited = self._now() - max(since, self.disturbed, room)
            it = self._known.deployments[head]
            self._trace.require(
                it.owner or waited < _CLAIM_SECONDS,
                "G3 queue liveness",
                f"deployment {it.place} waits {waited:.0f} s",
            )

    @property
    def open(self) -> list[DeploymentRow]:
        return [it for it in self._known.deployments.values() if not it.ended]


def _service_of(name: str, arguments: tuple[Any, ...]) -> str:
    first = arguments[0]
    if name == "stop":
        return str(first).rpartition(".")[0]
    return str(first if isinstance(first, str) else first.service_id)
