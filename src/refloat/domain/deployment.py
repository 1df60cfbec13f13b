"""Records of what was asked and what was done about it."""

from datetime import datetime
from enum import StrEnum

import msgspec

from refloat.domain.progress import TERMINAL, Action, Phase
from refloat.domain.resources import Role
from refloat.domain.revision import Level
from refloat.domain.services import JobEvent


class Origin(StrEnum):
    """Which client spoke, by its User-Agent and credential."""

    API = "API"
    CLI = "CLI"
    CONSOLE = "CONSOLE"
    GIT = "GIT"
    QOVERY_INTERNAL = "QOVERY_INTERNAL"
    TERRAFORM_PROVIDER = "TERRAFORM_PROVIDER"


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. `organization_id` None: the admin token, which sees every organization."""

    id: str
    name: str
    role: Role
    organization_id: str | None
    origin: Origin = Origin.API


class Verb(StrEnum):
    """What was asked for, as history and audit name it."""

    DEPLOY = "DEPLOY"
    REDEPLOY = "REDEPLOY"
    ROLLBACK = "ROLLBACK"
    RESTART = "RESTART"
    STOP = "STOP"
    UNINSTALL = "UNINSTALL"
    DELETE = "DELETE"

    @property
    def action(self) -> Action:
        """What the verb does to a service."""
        return _ACTIONS[self]


_ACTIONS = {
    Verb.DEPLOY: Action.DEPLOY,
    Verb.REDEPLOY: Action.DEPLOY,
    Verb.ROLLBACK: Action.DEPLOY,
    Verb.RESTART: Action.RESTART,
    Verb.STOP: Action.STOP,
    Verb.UNINSTALL: Action.DELETE,
    Verb.DELETE: Action.DELETE,
}


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted demand on an environment.

    `services` None means all that the verb covers when the deployment is claimed; `plan_hash` is the
    plan the caller has read: any other plan must not run. With DELETE, `services` None removes the
    environment itself at the end.
    """

    verb: Verb
    principal_id: str
    triggered_by: str
    origin: Origin = Origin.API
    services: tuple[str, ...] | None = None
    plan_hash: str | None = None
    uninterrupted: bool = False
    """Whether a plan that interrupts a service must not run."""
    back_to: str | None = None
    """With ROLLBACK: the deployment (by id) whose snapshot is wanted again. Services that are named and took
    no part in it come from the last one before it in which they were done."""
    event: JobEvent | None = None
    """With DEPLOY or REDEPLOY of one job: what it runs now, instead of what it runs when it is deployed."""


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """One request and its execution. `number` counts per environment from 1, given at the claim."""

    id: str
    environment_id: str
    cluster_id: str
    request: Request
    phase: Phase
    created_at: datetime
    number: int | None = None
    fence: int = 0
    owner: str | None = None
    cancel_requested: bool = False
    builds: int = 0
    """How many builds it may have under way; reserved of its cluster by the claim, given back as it goes."""
    plan_hash: str | None = None
    reason: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def action(self) -> Action:
        return self.request.verb.action

    @property
    def ended(self) -> bool:
        return self.phase in TERMINAL


class Swap(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of one service around one switch, as the edge saw them; None = no traffic."""

    served: int | None = None
    failed: int | None = None
    undrained: int = 0
    """Requests still in flight when the drain's deadline came."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One service within one deployment. `stage_position` orders; `change` is the planned word.

    Name, commit and stage are kept as they were: history outlives the service.
    """

    deployment_id: str
    service_id: str
    name: str
    kind: str
    stage_id: str
    stage_name: str
    stage_position: int
    action: Action
    phase: Phase
    change: str = ""
    commit_id: str = ""
    commit_message: str = ""
    image: str = ""
    """`name:tag` of what runs an image."""
    reason: str = ""
    serving: str = ""
    """Key of the revision that answers now, told when the deployment failed."""
    swap: Swap | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


class Outcome(StrEnum):
    """How a step ended; None in the record = begun and not ended."""

    DONE = "done"
    FAILED = "failed"
    CANCELED = "canceled"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the journal. Written before the step begins and again when it ended.

    `service_id` "" is the deployment's own step. `attempt` counts how often it was begun.
    `output` is a JSON document that later steps and a resumed runner read; never a value of a variable.
    Until the step is done, or has failed, it may hold an Attempt.
    """

    deployment_id: str
    service_id: str
    name: str
    ordinal: int
    attempt: int
    fence: int
    started_at: datetime
    outcome: Outcome | None = None
    finished_at: datetime | None = None
    output: str = "{}"


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """How often something was tried within one step that has not ended; kept where its output will be.

    `complaint` is what went wrong the time before. A job has come to a `number` beyond `most` when its last
    attempt is over and that is not recorded as its failure yet.
    """

    number: int
    most: int
    complaint: str = ""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One line of history: a log line, or a change of progress when `phase` is set. Append only.

    `sequence` orders all events of the installation and is the cursor of the stream.
    """

    sequence: int
    deployment_id: str
    environment_id: str
    service_id: str
    at: datetime
    level: Level
    step: str
    message: str
    action: Action | None = None
    phase: Phase | None = None
