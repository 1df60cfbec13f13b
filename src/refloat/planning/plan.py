"""The plan: immutable, complete, showable, refusable. The runner executes it and decides nothing."""

import hashlib
from enum import StrEnum

import msgspec

from refloat.domain.deployment import Verb
from refloat.domain.progress import Action


class Change(StrEnum):
    """What happens to a service, in the word people read."""

    SKIP = "skip"
    """Nothing differs and it runs: only asked whether it answers."""
    RUN = "run"
    """A command runs to its end."""
    START = "start"
    """Nothing of it runs now."""
    REPLACE = "replace"
    """New configuration beside the old one, switched when it answers."""
    REBUILD = "rebuild"
    """As replace, from other source."""
    RECREATE = "recreate"
    """Stopped before the new one starts: it interrupts."""
    RESTART = "restart"
    """As replace, with the configuration that is applied already."""
    STOP = "stop"
    REMOVE = "remove"


class StepName(StrEnum):
    """Every step the runner knows; the journal and crash points use these words."""

    PRECHECK = "precheck"
    """Of the deployment: resolve versions that were never pinned, before anything is touched."""
    BUILD = "build"
    EXECUTE = "execute"
    """The release command, if the artifact has one."""
    PREPARE = "prepare"
    """Start the new revision beside the old one."""
    READY = "ready"
    SWITCH = "switch"
    VERIFY = "verify"
    """The new revision itself answered through the public route."""
    WITHDRAW = "withdraw"
    """Take the service off its route."""
    DRAIN = "drain"
    STOP = "stop"
    DESTROY = "destroy"
    REVERT = "revert"
    """After a failure: send requests to the old revision again."""
    DISCARD = "discard"
    """After a failure: end the new revision."""


class Interruption(msgspec.Struct, frozen=True, kw_only=True):
    """A gap in service that the change cannot avoid, and why."""

    reason: str


class ServicePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What will be done to one service. `causes` are field names; values never appear in a plan.

    `fingerprint` stands for all wanted fields, so that a plan is stale as soon as one value differs.
    `replaces` is the key of the revision that runs now. `expected_seconds` comes from earlier
    deployments and is not part of the hash.
    """

    service_id: str
    name: str
    kind: str
    action: Action
    change: Change
    steps: tuple[StepName, ...]
    causes: tuple[str, ...] = ()
    interruption: Interruption | None = None
    replaces: str | None = None
    commit_id: str | None = None
    fingerprint: str = ""
    routed: bool = True
    expected_seconds: float | None = None


class StagePlan(msgspec.Struct, frozen=True, kw_only=True):
    stage_id: str
    name: str
    position: int
    services: tuple[ServicePlan, ...]


class Omitted(msgspec.Struct, frozen=True, kw_only=True):
    """A service the plan leaves alone, and why."""

    service_id: str
    name: str
    reason: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a deployment will do. Stages are in the order they run; empty ones are left out."""

    environment_id: str
    verb: Verb
    stages: tuple[StagePlan, ...]
    omitted: tuple[Omitted, ...] = ()

    @property
    def services(self) -> tuple[ServicePlan, ...]:
        return tuple(service for stage in self.stages for service in stage.services)

    @property
    def interruptions(self) -> tuple[str, ...]:
        """Which services it interrupts, each with the reason."""
        return tuple(f"{s.name}: {s.interruption.reason}" for s in self.services if s.interruption)

    @property
    def hash(self) -> str:
        """The same for the same intentions; expectations and the word deploy or redeploy do not count."""
        stages = tuple(
            msgspec.structs.replace(
                stage,
                services=tuple(msgspec.structs.replace(s, expected_seconds=None) for s in stage.services),
            )
            for stage in self.stages
        )
        body = msgspec.structs.replace(self, stages=stages, verb=_spoken(self.verb), omitted=())
        return hashlib.sha256(msgspec.json.encode(body, order="deterministic")).hexdigest()[:16]


def _spoken(verb: Verb) -> Verb:
    return Verb.DEPLOY if verb is Verb.REDEPLOY else verb
