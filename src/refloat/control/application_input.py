"""What clients send to create or edit an application, before any rule is applied."""

from typing import Literal

import msgspec

from refloat.domain.resources import (
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


class ApplicationInput(msgspec.Struct, kw_only=True):
    """A create or edit body. What is UNSET keeps its value in an edit, and is the default in a create."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    healthchecks: HealthchecksInput | msgspec.UnsetType = msgspec.UNSET
    git_repository: GitInput | msgspec.UnsetType = msgspec.UNSET
    description: str | msgspec.UnsetType | None = msgspec.UNSET
    icon_uri: str | msgspec.UnsetType | None = msgspec.UNSET
    build_mode: str | msgspec.UnsetType = msgspec.UNSET
    dockerfile_path: str | msgspec.UnsetType | None = msgspec.UNSET
    cpu: int | msgspec.UnsetType = msgspec.UNSET
    memory: int | msgspec.UnsetType = msgspec.UNSET
    min_running_instances: int | msgspec.UnsetType = msgspec.UNSET
    max_running_instances: int | msgspec.UnsetType = msgspec.UNSET
    auto_preview: bool | msgspec.UnsetType | None = msgspec.UNSET
    auto_deploy: bool | msgspec.UnsetType | None = msgspec.UNSET
    ports: list[PortInput] | msgspec.UnsetType | None = msgspec.UNSET
    storage: list[StorageInput] | msgspec.UnsetType | None = msgspec.UNSET
    arguments: list[str] | msgspec.UnsetType | None = msgspec.UNSET
    entrypoint: str | msgspec.UnsetType | None = msgspec.UNSET
