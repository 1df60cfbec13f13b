"""What runs: a revision is one service with one configuration and one artifact.

Engines start and stop revisions, routers point at their endpoints. These values are the vocabulary
that planning, execution and every adapter share.
"""

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum

import msgspec

from refloat.domain.services import DatabaseType, Probe


class Level(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


LogSink = Callable[[Level, str], None]
"""Where a long operation tells what it does, one line a call, never a secret."""


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line that a process wrote. `stream` is "out", "err" or "shim" (the supervisor's own words)."""

    at: datetime
    stream: str
    text: str


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a build.

    `key` is a content address: equal inputs, equal key. `location` means something only to the engine
    of the same cluster. `web` is the argv of the serving process, `release` the argv of a command to
    run to its end once per deployment before the new revision starts (empty: none). `environment`
    is what the build adds for the process (a PATH with its interpreter), below the user's variables.
    """

    key: str
    location: str
    web: tuple[str, ...]
    release: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    cached: bool = False


class DatabaseServer(msgspec.Struct, frozen=True, kw_only=True):
    """How a database service is reached: what its engine sets up and its neighbours are told.

    The address never changes while the service lives. `password` is in the clear: never log it.
    """

    type: DatabaseType
    version: str
    host: str
    port: int
    login: str
    password: str
    database: str

    @property
    def url(self) -> str:
        """The form that client libraries take."""
        scheme = {DatabaseType.POSTGRESQL: "postgresql", DatabaseType.REDIS: "redis"}.get(
            self.type, self.type.lower()
        )
        return f"{scheme}://{self.login}:{self.password}@{self.host}:{self.port}/{self.database}"


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """How a command ended, and what it wrote into its output file."""

    exit_code: int
    output: str = ""


class Executing(msgspec.Struct, frozen=True, kw_only=True):
    """A command that is under way, as observed now, and the revision it was begun for."""

    key: str
    revision_key: str
    service_id: str
    environment_id: str

    @property
    def in_deployment(self) -> bool:
        """Whether a step of the revision's deployment runs it; a run by the clock belongs to none."""
        return self.key.startswith(f"{self.revision_key}.")


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """All an engine needs to start a service. `environment` holds values: never log it.

    `key` is unique for ever: `{service_id}.{deployment number}`. A lower `fence` than one seen for the
    deployment is refused. `cpu` in millicores, `memory` in MB, `grace_seconds` between TERM and KILL.
    `command` is final: the artifact's own or the user's entrypoint and arguments.
    """

    key: str
    service_id: str
    environment_id: str
    deployment_id: str
    fence: int
    name: str
    artifact: Artifact
    command: tuple[str, ...]
    environment: dict[str, str] = {}
    files: dict[str, str] = {}
    instances: int = 1
    cpu: int = 500
    memory: int = 512
    grace_seconds: int = 10
    readiness: Probe | None = None
    liveness: Probe | None = None
    database: DatabaseServer | None = None
    """Set: the engine itself knows what to run; artifact and command are empty."""


class InstanceState(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    BACKOFF = "backoff"
    """It ended by itself and waits to be started again."""
    STOPPING = "stopping"
    EXITED = "exited"
    """It ended and nobody will start it again: the command ran out, or its supervisor is gone."""


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine keeps beside a service for the day the database is lost. `last_number` is the highest
    of its revisions that the cluster has seen, 0 when none."""

    service_id: str
    document: str
    last_number: int = 0


ALIVE = frozenset({InstanceState.STARTING, InstanceState.RUNNING, InstanceState.STOPPING})


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One running copy of a revision, as observed now. `endpoint` is `host:port` for the router.

    `exit_code` of the last end; None when it never ended, or nobody saw how: the machine went down.
    """

    revision_key: str
    service_id: str
    environment_id: str
    deployment_id: str
    index: int
    state: InstanceState
    endpoint: str
    restarts: int = 0
    exit_code: int | None = None


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine can do, in words a plan and `doctor` can show.

    `isolation` False: applications run as the same user as the control plane.
    """

    kind: str
    service_kinds: tuple[str, ...]
    isolation: bool
    limits: bool
    databases: dict[str, tuple[str, ...]] = {}
    """Types of databases with the versions that can be had."""
    notes: tuple[str, ...] = ()
