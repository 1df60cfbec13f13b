"""The kinds of services, each one frozen document, and the values they consist of."""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

import msgspec

from refloat.domain.resources import Resource


class GitProvider(StrEnum):
    GITHUB = "GITHUB"
    GITLAB = "GITLAB"
    BITBUCKET = "BITBUCKET"


class GitSource(msgspec.Struct, frozen=True, kw_only=True):
    """Where the code is. `branch` None means the remote's default branch; `root_path` begins with "/".

    An address with credentials is kept sealed, in `sealed_url`; `url` then shows `***` in their place.
    Builders are given an opened source, whose `url` has them.
    """

    url: str
    branch: str | None = None
    root_path: str = "/"
    provider: GitProvider | None = None
    git_token_id: str | None = None
    sealed_url: str = ""


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """A resolved version of a git source."""

    id: str
    created_at: datetime | None = None
    author: str = ""
    message: str = ""
    tag: str = ""


class PortProtocol(StrEnum):
    HTTP = "HTTP"
    GRPC = "GRPC"
    TCP = "TCP"
    UDP = "UDP"


class Port(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    internal_port: int
    name: str
    external_port: int | None = None
    publicly_accessible: bool = False
    is_default: bool = False
    protocol: PortProtocol = PortProtocol.HTTP


class Storage(msgspec.Struct, frozen=True, kw_only=True):
    """`size` in GB."""

    id: str
    size: int
    mount_point: str
    type: str = "FAST_SSD"


class TcpCheck(msgspec.Struct, frozen=True, kw_only=True):
    port: int | None = None
    host: str | None = None


class HttpCheck(msgspec.Struct, frozen=True, kw_only=True):
    port: int | None = None
    path: str = "/"
    scheme: str = "HTTP"


class ExecCheck(msgspec.Struct, frozen=True, kw_only=True):
    command: tuple[str, ...]


class GrpcCheck(msgspec.Struct, frozen=True, kw_only=True):
    port: int | None = None
    service: str | None = None


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """Exactly one check is set. All times in whole seconds.

    `initial_delay_seconds` only delays the counting of failures; an earlier success counts.
    """

    tcp: TcpCheck | None = None
    http: HttpCheck | None = None
    exec: ExecCheck | None = None
    grpc: GrpcCheck | None = None
    initial_delay_seconds: int = 30
    period_seconds: int = 10
    timeout_seconds: int = 5
    success_threshold: int = 1
    failure_threshold: int = 9


class Healthchecks(msgspec.Struct, frozen=True, kw_only=True):
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None


class Service(Resource, frozen=True, kw_only=True, tag_field="service_kind"):
    """Parent: environment. What the kinds have in common.

    `cpu` in millicores, `memory` in MB. With `git` it is built from source: `commit` is the pinned version
    that deploy and redeploy use, None until the first deployment resolves the branch, and
    `dockerfile_path` None means: detect how to build.
    """

    namespace: ClassVar[str] = "service"

    stage_id: str
    is_skipped: bool = False
    description: str | None = None
    icon_uri: str = ""
    cpu: int = 500
    memory: int = 512
    git: GitSource | None = None
    commit: Commit | None = None
    dockerfile_path: str | None = None


class Workload(Service, frozen=True, kw_only=True):
    """A service that runs until it is stopped, in several instances behind one address."""

    min_running_instances: int = 1
    max_running_instances: int = 1
    healthchecks: Healthchecks = Healthchecks()
    auto_preview: bool = True
    auto_deploy: bool = True
    ports: tuple[Port, ...] = ()
    storage: tuple[Storage, ...] = ()
    arguments: tuple[str, ...] = ()
    entrypoint: str | None = None


class Application(Workload, frozen=True, kw_only=True, tag="application"):
    """A service built from git."""

    kind: ClassVar[str] = "application"

    icon_uri: str = "app://qovery-console/application"
    build_mode: str = "DOCKER"


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """An image of a container registry; the tag is its version."""

    registry_id: str
    image_name: str
    tag: str


class Container(Workload, frozen=True, kw_only=True, tag="container"):
    """A service that runs a ready-made image."""

    kind: ClassVar[str] = "container"

    icon_uri: str = "app://qovery-console/container"
    image: Image


class DatabaseType(StrEnum):
    MONGODB = "MONGODB"
    MYSQL = "MYSQL"
    POSTGRESQL = "POSTGRESQL"
    REDIS = "REDIS"


def database_runs(type: str, available: str, wanted: str) -> bool:
    """Whether a server of the available version runs what is configured for another.

    Files of PostgreSQL and MySQL belong to a major version; clients of an older Redis go on to work.
    """
    has, wants = (text.partition(".")[0] for text in (available, wanted))
    if type == DatabaseType.REDIS:
        return int(has) >= int(wants)
    return has == wants


class DatabaseMode(StrEnum):
    CONTAINER = "CONTAINER"
    MANAGED = "MANAGED"


class Accessibility(StrEnum):
    PRIVATE = "PRIVATE"
    PUBLIC = "PUBLIC"


class Database(Service, frozen=True, kw_only=True, tag="database"):
    """A database server with its data. Type and mode never change; `storage_gb` only grows.

    `sealed_password` is made with it and never changes, so that what connects to it need not restart.
    """

    kind: ClassVar[str] = "database"

    icon_uri: str = "app://qovery-console/database"
    cpu: int = 250
    type: DatabaseType
    version: str
    mode: DatabaseMode
    accessibility: Accessibility = Accessibility.PRIVATE
    storage_gb: int = 10
    sealed_password: str = ""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What a job runs at one event. Without an entrypoint: the artifact's own command."""

    entrypoint: str | None = None
    arguments: tuple[str, ...] = ()


class Cron(Command, frozen=True, kw_only=True):
    """Five fields, in a time zone."""

    scheduled_at: str
    timezone: str = "Etc/UTC"


class JobEvent(StrEnum):
    """When a job has something to run. Named in a request, it is run at once, whatever time it is."""

    START = "START"
    STOP = "STOP"
    DELETE = "DELETE"
    CRON = "CRON"


class Job(Service, frozen=True, kw_only=True, tag="job"):
    """A command that runs to its end: at events of the environment's life, or by the clock.

    `max_nb_restart` is how often a failed run is repeated; `max_duration_seconds` bounds one run, None:
    the default.
    """

    kind: ClassVar[str] = "job"

    icon_uri: str = "app://qovery-console/lifecycle-job"
    image: Image | None = None
    on_start: Command | None = None
    on_stop: Command | None = None
    on_delete: Command | None = None
    cronjob: Cron | None = None
    lifecycle_type: str | None = None
    max_nb_restart: int = 0
    max_duration_seconds: int | None = None
    port: int | None = None
    healthchecks: Healthchecks = Healthchecks()
    auto_preview: bool = True
    auto_deploy: bool = True

    def at(self, event: JobEvent) -> Command | None:
        """What it runs then, if anything."""
        events = {
            JobEvent.START: self.on_start,
            JobEvent.STOP: self.on_stop,
            JobEvent.DELETE: self.on_delete,
            JobEvent.CRON: self.cronjob,
        }
        return events[event]


AnyService = Application | Container | Database | Job
"""Everything an environment can run."""

SERVICE_KINDS: tuple[type[Service], ...] = (Application, Container, Database, Job)
