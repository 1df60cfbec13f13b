"""What clients send to create or edit a service, before any rule is applied.

What is UNSET keeps its value in an edit, and is the default in a create. The types that make a service
say what a create cannot do without.
"""

from typing import Literal

import msgspec

from refloat.domain.services import (
    Accessibility,
    DatabaseMode,
    DatabaseType,
    ExecCheck,
    GitProvider,
    GrpcCheck,
    Healthchecks,
    HttpCheck,
    PortProtocol,
    Probe,
    TcpCheck,
)


class GitInput(msgspec.Struct, kw_only=True):
    """`branch` left out: the remote's default branch."""

    url: str
    branch: str | None = None
    root_path: str | None = "/"
    provider: GitProvider | None = None
    git_token_id: str | None = None


class PortInput(msgspec.Struct, kw_only=True):
    internal_port: int
    publicly_accessible: bool = False
    id: str | None = None
    name: str | None = None
    external_port: int | None = None
    is_default: bool = False
    protocol: PortProtocol = PortProtocol.HTTP


class StorageInput(msgspec.Struct, kw_only=True):
    size: int
    mount_point: str
    id: str | None = None
    type: Literal["FAST_SSD"] = "FAST_SSD"


class CheckInput(msgspec.Struct, kw_only=True):
    """`type` of a probe: exactly one is set."""

    tcp: TcpCheck | None = None
    http: HttpCheck | None = None
    exec: ExecCheck | None = None
    grpc: GrpcCheck | None = None


class ProbeInput(msgspec.Struct, kw_only=True):
    """Times in whole seconds."""

    type: CheckInput = msgspec.field(default_factory=CheckInput)
    initial_delay_seconds: int = 30
    period_seconds: int = 10
    timeout_seconds: int = 5
    success_threshold: int = 1
    failure_threshold: int = 9

    def probe(self) -> Probe:
        return Probe(
            tcp=self.type.tcp,
            http=self.type.http,
            exec=self.type.exec,
            grpc=self.type.grpc,
            initial_delay_seconds=self.initial_delay_seconds,
            period_seconds=self.period_seconds,
            timeout_seconds=self.timeout_seconds,
            success_threshold=self.success_threshold,
            failure_threshold=self.failure_threshold,
        )


class HealthchecksInput(msgspec.Struct, kw_only=True):
    readiness_probe: ProbeInput | None = None
    liveness_probe: ProbeInput | None = None

    def healthchecks(self) -> Healthchecks:
        return Healthchecks(
            readiness_probe=self.readiness_probe.probe() if self.readiness_probe else None,
            liveness_probe=self.liveness_probe.probe() if self.liveness_probe else None,
        )


class ServiceInput(msgspec.Struct, kw_only=True):
    """What bodies of all kinds have in common."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    description: str | msgspec.UnsetType | None = msgspec.UNSET
    icon_uri: str | msgspec.UnsetType | None = msgspec.UNSET
    cpu: int | msgspec.UnsetType = msgspec.UNSET
    memory: int | msgspec.UnsetType = msgspec.UNSET


class WorkloadInput(ServiceInput, kw_only=True):
    """What runs until it is stopped."""

    healthchecks: HealthchecksInput
    min_running_instances: int | msgspec.UnsetType = msgspec.UNSET
    max_running_instances: int | msgspec.UnsetType = msgspec.UNSET
    auto_preview: bool | msgspec.UnsetType | None = msgspec.UNSET
    auto_deploy: bool | msgspec.UnsetType | None = msgspec.UNSET
    ports: list[PortInput] | msgspec.UnsetType | None = msgspec.UNSET
    storage: list[StorageInput] | msgspec.UnsetType | None = msgspec.UNSET
    arguments: list[str] | msgspec.UnsetType | None = msgspec.UNSET
    entrypoint: str | msgspec.UnsetType | None = msgspec.UNSET


class ApplicationInput(WorkloadInput, kw_only=True):
    """A create or edit body of an application."""

    git_repository: GitInput | msgspec.UnsetType = msgspec.UNSET
    build_mode: str | msgspec.UnsetType = msgspec.UNSET
    dockerfile_path: str | msgspec.UnsetType | None = msgspec.UNSET


class ContainerInput(WorkloadInput, kw_only=True):
    """A create or edit body of a container."""

    registry_id: str | msgspec.UnsetType = msgspec.UNSET
    image_name: str | msgspec.UnsetType = msgspec.UNSET
    tag: str | msgspec.UnsetType = msgspec.UNSET


class DatabaseInput(ServiceInput, kw_only=True):
    """A create or edit body of a database; `storage` in GB. Type and mode only count in a create."""

    type: DatabaseType | msgspec.UnsetType = msgspec.UNSET
    version: str | msgspec.UnsetType = msgspec.UNSET
    mode: DatabaseMode | msgspec.UnsetType = msgspec.UNSET
    accessibility: Accessibility | msgspec.UnsetType = msgspec.UNSET
    storage: int | msgspec.UnsetType = msgspec.UNSET
    instance_type: str | msgspec.UnsetType | None = msgspec.UNSET


class ImageInput(msgspec.Struct, kw_only=True):
    image_name: str
    tag: str
    registry_id: str


class DockerInput(msgspec.Struct, kw_only=True):
    """Source of a job that is built."""

    git_repository: GitInput
    dockerfile_path: str | None = None
    dockerfile_raw: str | None = None


class SourceInput(msgspec.Struct, kw_only=True):
    """Exactly one is set."""

    image: ImageInput | None = None
    docker: DockerInput | None = None


class CommandInput(msgspec.Struct, kw_only=True):
    entrypoint: str | None = None
    arguments: list[str] | None = None


class CronInput(CommandInput, kw_only=True):
    scheduled_at: str
    timezone: str | None = None


class ScheduleInput(msgspec.Struct, kw_only=True):
    """Either `cronjob`, or at least one event."""

    on_start: CommandInput | None = None
    on_stop: CommandInput | None = None
    on_delete: CommandInput | None = None
    cronjob: CronInput | None = None
    lifecycle_type: Literal["GENERIC", "TERRAFORM", "CLOUDFORMATION"] | None = None


class JobInput(ServiceInput, kw_only=True):
    """A create or edit body of a job."""

    healthchecks: HealthchecksInput
    source: SourceInput | msgspec.UnsetType = msgspec.UNSET
    schedule: ScheduleInput | msgspec.UnsetType = msgspec.UNSET
    max_nb_restart: int | msgspec.UnsetType = msgspec.UNSET
    max_duration_seconds: int | msgspec.UnsetType | None = msgspec.UNSET
    port: int | msgspec.UnsetType | None = msgspec.UNSET
    auto_preview: bool | msgspec.UnsetType | None = msgspec.UNSET
    auto_deploy: bool | msgspec.UnsetType | None = msgspec.UNSET


class NewApplication(ApplicationInput, kw_only=True):
    """The body that makes an application."""

    name: str
    git_repository: GitInput


class NewContainer(ContainerInput, kw_only=True):
    """The body that makes a container."""

    name: str
    registry_id: str
    image_name: str
    tag: str


class NewDatabase(DatabaseInput, kw_only=True):
    """The body that makes a database."""

    name: str
    type: DatabaseType
    version: str
    mode: DatabaseMode


class NewJob(JobInput, kw_only=True):
    """The body that makes a job."""

    name: str
    source: SourceInput
    schedule: ScheduleInput
