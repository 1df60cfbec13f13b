"""Applications: what may be configured, and how an edit treats what it leaves out."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from refloat.control import stages
from refloat.control.context import Context
from refloat.control.organizations import checked_name
from refloat.domain.errors import Invalid
from refloat.domain.resources import (
    Application,
    Environment,
    ExecCheck,
    GitProvider,
    GitSource,
    GrpcCheck,
    Healthchecks,
    HttpCheck,
    Port,
    PortProtocol,
    Probe,
    Storage,
    TcpCheck,
)
from refloat.store import resources as store

V = TypeVar("V")
_GIB_SMALLEST = 1


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
    type: str = "FAST_SSD"


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
    icon_uri: str | msgspec.UnsetType = msgspec.UNSET
    build_mode: str | msgspec.UnsetType = msgspec.UNSET
    dockerfile_path: str | msgspec.UnsetType | None = msgspec.UNSET
    cpu: int | msgspec.UnsetType = msgspec.UNSET
    memory: int | msgspec.UnsetType = msgspec.UNSET
    min_running_instances: int | msgspec.UnsetType = msgspec.UNSET
    max_running_instances: int | msgspec.UnsetType = msgspec.UNSET
    auto_preview: bool | msgspec.UnsetType = msgspec.UNSET
    auto_deploy: bool | msgspec.UnsetType | None = msgspec.UNSET
    ports: list[PortInput] | msgspec.UnsetType | None = msgspec.UNSET
    storage: list[StorageInput] | msgspec.UnsetType | None = msgspec.UNSET
    arguments: list[str] | msgspec.UnsetType | None = msgspec.UNSET
    entrypoint: str | msgspec.UnsetType | None = msgspec.UNSET


async def create(context: Context, environment: Environment, body: ApplicationInput) -> Application:
    """A new application in the default stage of its kind."""
    for field in ("name", "git_repository", "healthchecks"):
        if getattr(body, field) is msgspec.UNSET:
            raise Invalid(f"{field}: it is required")
    assert isinstance(body.git_repository, GitInput) and isinstance(body.name, str)
    now = context.clock.now()
    async with context.database.transaction() as tx:
        blank = Application(
            id=context.new_id(),
            parent=environment.id,
            name=body.name,
            stage_id=(await stages.default_for(tx, environment.id, Application.kind)).id,
            git=_git(body.git_repository),
            created_at=now,
            updated_at=now,
        )
        made = _checked(_merged(context, blank, body))
        await store.insert_resource(tx, made)
    return made


async def edit(context: Context, application: Application, body: ApplicationInput) -> Application:
    """Change the fields that are given; nothing that runs is touched until the next deployment.

    Another repository forgets the pinned commit, because it means nothing there.
    """
    if body.healthchecks is msgspec.UNSET:
        raise Invalid("healthchecks: it is required")
    async with context.database.transaction() as tx:
        current = await store.get(tx, Application, application.id)
        edited = _checked(_merged(context, current, body))
        _check_growth(current.storage, edited.storage)
        if edited.git.url != current.git.url:
            edited = msgspec.structs.replace(edited, commit=None)
        edited = msgspec.structs.replace(edited, updated_at=context.clock.now())
        await store.replace_resource(tx, edited)
    return edited


def _merged(context: Context, current: Application, body: ApplicationInput) -> Application:
    plain = ("cpu", "memory", "min_running_instances", "max_running_instances", "auto_preview", "icon_uri")
    texts = ("description", "dockerfile_path", "build_mode")
    changes: dict[str, object] = {
        field: value for field in (*plain, *texts) if (value := getattr(body, field)) is not msgspec.UNSET
    }
    if isinstance(body.name, str):
        changes["name"] = checked_name(body.name)
    if isinstance(body.healthchecks, HealthchecksInput):
        changes["healthchecks"] = body.healthchecks.healthchecks()
    if isinstance(body.git_repository, GitInput):
        changes["git"] = _git(body.git_repository)
    if body.auto_deploy is not msgspec.UNSET:
        changes["auto_deploy"] = True if body.auto_deploy is None else body.auto_deploy
    if body.entrypoint is not msgspec.UNSET:
        changes["entrypoint"] = body.entrypoint or None
    if body.arguments is not msgspec.UNSET:
        changes["arguments"] = tuple(body.arguments or ())
    if body.ports is not msgspec.UNSET:
        changes["ports"] = tuple(_port(context, p) for p in body.ports or ())
    if body.storage is not msgspec.UNSET:
        changes["storage"] = tuple(_storage(context, s) for s in body.storage or ())
    return msgspec.structs.replace(current, **changes)


def _git(body: GitInput) -> GitSource:
    url = body.url.strip()
    if not url or url.startswith("-"):
        raise Invalid(f"git_repository.url: {body.url!r} is not a repository address")
    if body.branch is not None and (not body.branch.strip() or body.branch.startswith("-")):
        raise Invalid(f"git_repository.branch: {body.branch!r} is not a branch name")
    root = "/" + (body.root_path or "/").strip("/")
    if ".." in root.split("/"):
        raise Invalid(f"git_repository.root_path: {body.root_path!r} leads out of the repository")
    return GitSource(
        url=url,
        branch=body.branch,
        root_path=root,
        provider=body.provider,
        git_token_id=body.git_token_id,
    )


def _port(context: Context, body: PortInput) -> Port:
    return Port(
        id=body.id or context.new_id(),
        internal_port=body.internal_port,
        name=body.name or f"p{body.internal_port}",
        external_port=body.external_port or (443 if body.publicly_accessible else None),
        publicly_accessible=body.publicly_accessible,
        is_default=body.is_default,
        protocol=body.protocol,
    )


def _storage(context: Context, body: StorageInput) -> Storage:
    return Storage(
        id=body.id or context.new_id(), size=body.size, mount_point=body.mount_point, type=body.type
    )


def _checked(it: Application) -> Application:
    """The application, if it keeps every rule; Invalid names the field and the rule."""
    _require(it.cpu >= 10, "cpu: at least 10 (millicores) is expected")
    _require(it.memory >= 1, "memory: at least 1 (MB) is expected")
    _require(it.build_mode == "DOCKER", "build_mode: only DOCKER is known")
    low, high = it.min_running_instances, it.max_running_instances
    _require(low >= 0, "min_running_instances: at least 0 is expected")
    _require(
        high == -1 or high >= max(1, low), "max_running_instances: at least min_running_instances, or -1"
    )
    numbers = [p.internal_port for p in it.ports]
    _require(all(1 <= n <= 65535 for n in numbers), "ports: internal_port is a number from 1 to 65535")
    _require(_unique(numbers), "ports: each internal_port once")
    mounts = [s.mount_point for s in it.storage]
    _require(all(m.startswith("/") for m in mounts), "storage: mount_point is an absolute path")
    _require(_unique(mounts), "storage: each mount_point once")
    _require(all(s.size >= _GIB_SMALLEST for s in it.storage), "storage: size is at least 1 (GB)")
    for name in ("readiness_probe", "liveness_probe"):
        _check_probe(f"healthchecks.{name}", getattr(it.healthchecks, name))
    return it


def _check_probe(field: str, probe: Probe | None) -> None:
    if probe is None:
        return
    checks = [c for c in (probe.tcp, probe.http, probe.exec, probe.grpc) if c is not None]
    _require(len(checks) == 1, f"{field}: exactly one of tcp, http, exec, grpc is expected")
    _require(probe.initial_delay_seconds >= 0, f"{field}.initial_delay_seconds: at least 0")
    for name in ("period_seconds", "timeout_seconds", "success_threshold", "failure_threshold"):
        _require(getattr(probe, name) >= 1, f"{field}.{name}: at least 1")
    if probe.exec is not None:
        _require(bool(probe.exec.command), f"{field}.exec.command: at least one word")


def _check_growth(before: Sequence[Storage], after: Sequence[Storage]) -> None:
    sizes = {s.id: s.size for s in before}
    for storage in after:
        if storage.size < sizes.get(storage.id, 0):
            raise Invalid(f"storage: {storage.mount_point} cannot shrink below {sizes[storage.id]} GB")


def _unique(values: Sequence[V]) -> bool:
    return len(set(values)) == len(values)


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise Invalid(rule)
