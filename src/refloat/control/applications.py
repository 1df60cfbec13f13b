"""Applications: what may be configured, and how an edit treats what it leaves out."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from refloat.control import stages
from refloat.control.application_input import ApplicationInput, GitInput, PortInput, StorageInput
from refloat.control.context import Context
from refloat.control.organizations import checked_name
from refloat.domain.errors import Invalid
from refloat.domain.resources import Application, Environment, GitSource, Port, Probe, Storage
from refloat.store import resources as store

V = TypeVar("V")
_LARGEST = 2**31 - 1
"""Clients read whole numbers into 32 bits."""


async def create(context: Context, environment: Environment, body: ApplicationInput) -> Application:
    """A new application in the default stage of its kind."""
    for field in ("name", "git_repository", "healthchecks"):
        if getattr(body, field) is msgspec.UNSET:
            raise Invalid(f"{field}: it is required")
    assert isinstance(body.git_repository, GitInput) and isinstance(body.name, str)
    now = context.clock.now()
    async with context.database.transaction() as tx:
        await store.get(tx, Environment, environment.id)
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

    Another repository or branch forgets the pinned commit: it was chosen for what was there before.
    """
    if body.healthchecks is msgspec.UNSET:
        raise Invalid("healthchecks: it is required")
    async with context.database.transaction() as tx:
        current = await store.get(tx, Application, application.id)
        edited = _checked(_merged(context, current, body))
        if (edited.git.url, edited.git.branch) != (current.git.url, current.git.branch):
            edited = msgspec.structs.replace(edited, commit=None)
        edited = msgspec.structs.replace(edited, updated_at=context.clock.now())
        await store.replace_resource(tx, edited)
    return edited


def _merged(context: Context, current: Application, body: ApplicationInput) -> Application:
    """The application with what the body gives; null means the default where a null has no meaning."""
    given = {
        field: value
        for field in msgspec.structs.asdict(body)
        if (value := getattr(body, field)) is not msgspec.UNSET
    }
    changes = {field: given[field] for field in _AS_GIVEN if field in given}
    changes |= {field: given[field] for field in _NEVER_NULL if given.get(field) is not None}
    if "auto_deploy" in given:
        changes["auto_deploy"] = given["auto_deploy"] is not False
    if "name" in given:
        changes["name"] = checked_name(given["name"])
    if "healthchecks" in given:
        changes["healthchecks"] = given["healthchecks"].healthchecks()
    if "git_repository" in given:
        changes["git"] = _git(given["git_repository"])
    if "entrypoint" in given:
        changes["entrypoint"] = given["entrypoint"] or None
    if "arguments" in given:
        changes["arguments"] = tuple(given["arguments"] or ())
    if "ports" in given:
        changes["ports"] = _ports(context, current.ports, given["ports"] or ())
    if "storage" in given:
        changes["storage"] = _storages(context, current.storage, given["storage"] or ())
    return msgspec.structs.replace(current, **changes)


_AS_GIVEN = ("description", "dockerfile_path")
_NEVER_NULL = (
    "icon_uri",
    "build_mode",
    "cpu",
    "memory",
    "min_running_instances",
    "max_running_instances",
    "auto_preview",
)


def _git(body: GitInput) -> GitSource:
    """The source as it was written, because clients compare what they read with what they sent."""
    url, branch, root = body.url.strip(), body.branch, body.root_path or "/"
    if not url.isprintable() or not url or url.startswith("-"):
        raise Invalid(f"git_repository.url: {body.url!r} is not a repository address")
    if branch is not None and (not branch.strip() or branch.startswith("-") or not branch.isprintable()):
        raise Invalid(f"git_repository.branch: {branch!r} is not a branch name")
    if ".." in root.split("/") or not root.isprintable():
        raise Invalid(f"git_repository.root_path: {root!r} leads out of the repository")
    return GitSource(
        url=url,
        branch=branch,
        root_path=root if root.startswith("/") else f"/{root}",
        provider=body.provider,
        git_token_id=body.git_token_id,
    )


def _ports(context: Context, current: Sequence[Port], bodies: Sequence[PortInput]) -> tuple[Port, ...]:
    """With an id the port is updated, without one it is new; what is not in the list is gone."""
    known = {port.id: port for port in current}
    return tuple(_port(context, _known(known, "ports", body.id), body) for body in bodies)


def _port(context: Context, current: Port | None, body: PortInput) -> Port:
    return Port(
        id=current.id if current else context.new_id(),
        internal_port=body.internal_port,
        name=body.name or (current.name if current else f"p{body.internal_port}"),
        external_port=body.external_port or (443 if body.publicly_accessible else None),
        publicly_accessible=body.publicly_accessible,
        is_default=body.is_default,
        protocol=body.protocol,
    )


def _storages(
    context: Context, current: Sequence[Storage], bodies: Sequence[StorageInput]
) -> tuple[Storage, ...]:
    """The same rule as for ports; and a disk can only grow."""
    known = {storage.id: storage for storage in current}
    return tuple(_storage(context, _known(known, "storage", body.id), body) for body in bodies)


def _storage(context: Context, current: Storage | None, body: StorageInput) -> Storage:
    if current and body.size < current.size:
        raise Invalid(f"storage: {current.mount_point} cannot shrink below {current.size} GB")
    return Storage(
        id=current.id if current else context.new_id(),
        size=body.size,
        mount_point=body.mount_point,
        type=body.type,
    )


def _known(items: Mapping[str, V], field: str, item_id: str | None) -> V | None:
    """The item of this id; None when it is to be made. Another application's id is refused."""
    if item_id is None:
        return None
    if item_id not in items:
        raise Invalid(f"{field}: {item_id!r} is not the id of an item of this application", hint="omit it")
    return items[item_id]


def _checked(it: Application) -> Application:
    """The application, if it keeps every rule; Invalid names the field and the rule."""
    _at_least("cpu", it.cpu, 10, " (millicores)")
    _at_least("memory", it.memory, 1, " (MB)")
    _require(it.build_mode == "DOCKER", "build_mode: only DOCKER is known")
    low, high = it.min_running_instances, it.max_running_instances
    _at_least("min_running_instances", low, 0)
    _at_least("max_running_instances", high, -1)
    _require(
        high == -1 or high >= max(1, low), "max_running_instances: at least min_running_instances, or -1"
    )
    for field, words in (("arguments", it.arguments), ("entrypoint", (it.entrypoint or "",))):
        _require(not any("\0" in word for word in words), f"{field}: the character NUL is not allowed")
    _check_ports(it.ports)
    _check_storage(it.storage)
    for name in ("readiness_probe", "liveness_probe"):
        _check_probe(f"healthchecks.{name}", getattr(it.healthchecks, name))
    return it


def _check_ports(ports: Sequence[Port]) -> None:
    for port in ports:
        _check_port("ports: internal_port", port.internal_port)
        _check_port("ports: external_port", port.external_port)
    _require(_unique([p.internal_port for p in ports]), "ports: each internal_port once")
    _require(_unique([p.name for p in ports]), "ports: each name once")


def _check_storage(storages: Sequence[Storage]) -> None:
    mounts = [s.mount_point for s in storages]
    _require(all(m.startswith("/") for m in mounts), "storage: mount_point is an absolute path")
    _require(not any(".." in m.split("/") for m in mounts), "storage: mount_point without '..'")
    _require(_unique([m.rstrip("/") for m in mounts]), "storage: each mount_point once")
    for storage in storages:
        _at_least("storage: size", storage.size, 1, " (GB)")


def _check_probe(field: str, probe: Probe | None) -> None:
    if probe is None:
        return
    checks = [c for c in (probe.tcp, probe.http, probe.exec, probe.grpc) if c is not None]
    _require(len(checks) == 1, f"{field}: exactly one of tcp, http, exec, grpc is expected")
    for check in checks:
        _check_port(f"{field}.type: port", getattr(check, "port", None))
    _at_least(f"{field}.initial_delay_seconds", probe.initial_delay_seconds, 0)
    for name in ("period_seconds", "timeout_seconds", "success_threshold", "failure_threshold"):
        _at_least(f"{field}.{name}", getattr(probe, name), 1)
    if probe.exec is not None:
        _require(bool(probe.exec.command), f"{field}.type.exec.command: at least one word")
        _require("\0" not in "".join(probe.exec.command), f"{field}.type.exec.command: no NUL")


def _check_port(field: str, port: int | None) -> None:
    _require(port is None or 1 <= port <= 65535, f"{field} is a number from 1 to 65535")


def _at_least(field: str, value: int, least: int, unit: str = "") -> None:
    _require(least <= value <= _LARGEST, f"{field}: {least}{unit} to {_LARGEST} is expected")


def _unique(values: Sequence[object]) -> bool:
    return len(set(values)) == len(values)


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise Invalid(rule)
