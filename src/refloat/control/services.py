"""Services of every kind: how they are made, and how an edit treats what it leaves out."""

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from refloat.builders.remotes import HIDDEN, redact, without_credentials
from refloat.control import stages
from refloat.control.context import Context
from refloat.control.organizations import checked_name
from refloat.control.service_input import (
    ApplicationInput,
    CommandInput,
    ContainerInput,
    DatabaseInput,
    GitInput,
    JobInput,
    NewApplication,
    NewContainer,
    NewDatabase,
    NewJob,
    PortInput,
    ServiceInput,
    StorageInput,
)
from refloat.control.service_rules import checked
from refloat.domain.errors import Invalid
from refloat.domain.resources import ContainerRegistry, Environment, Project
from refloat.domain.services import (
    Application,
    Command,
    Container,
    Cron,
    Database,
    GitSource,
    Image,
    Job,
    Port,
    Service,
    Storage,
    Workload,
)
from refloat.execution.applied import of_environment
from refloat.store import resources as store
from refloat.store.database import Transaction

S = TypeVar("S", bound=Service)
V = TypeVar("V")
Fields = dict[str, Any]

INPUTS: dict[type[Service], tuple[type[ServiceInput], type[ServiceInput]]] = {
    Application: (NewApplication, ApplicationInput),
    Container: (NewContainer, ContainerInput),
    Database: (NewDatabase, DatabaseInput),
    Job: (NewJob, JobInput),
}
"""Which body makes, and which edits, a service of which kind."""

_DATABASE_MEMORY = {"POSTGRESQL": 100, "REDIS": 100, "MYSQL": 512, "MONGODB": 256}
"""MB, by type, where the body says nothing."""


async def create(context: Context, environment: Environment, kind: type[S], body: ServiceInput) -> S:
    """A new service in the default stage of its kind."""
    now = context.clock.now()
    async with context.database.transaction() as tx:
        await store.get(tx, Environment, environment.id)
        stage = await stages.default_for(tx, environment.id, kind.kind)
        made = kind(
            **{
                **_first(context, kind, body),
                "id": context.new_id(),
                "parent": environment.id,
                "stage_id": stage.id,
                "created_at": now,
                "updated_at": now,
                **_changes(context, None, body),
            }
        )
        await _require_registry(tx, environment, made)
        await store.insert_resource(tx, checked(made))
    return made


async def edit(context: Context, service: S, body: ServiceInput) -> S:
    """Change the fields that are given; nothing that runs is touched until the next deployment.

    Another repository or branch forgets the pinned commit: it was chosen for what was there before.
    """
    async with context.database.transaction() as tx:
        current = await store.get(tx, type(service), service.id)
        edited = checked(msgspec.structs.replace(current, **_changes(context, current, body)))
        if _place(edited.git) != _place(current.git):
            edited = msgspec.structs.replace(edited, commit=None)
        if isinstance(edited, Database) and isinstance(current, Database):
            await _keep_data(tx, current, edited)
        edited = msgspec.structs.replace(edited, updated_at=context.clock.now())
        environment = await store.get(tx, Environment, edited.parent)
        await _require_registry(tx, environment, edited)
        await store.replace_resource(tx, edited)
    return edited


def _place(git: GitSource | None) -> tuple[str, str | None] | None:
    return (without_credentials(git.url), git.branch) if git else None


async def _keep_data(tx: Transaction, current: Database, edited: Database) -> None:
    """What the data cannot follow is refused."""
    if edited.storage_gb < current.storage_gb:
        raise Invalid(f"storage: it cannot shrink below {current.storage_gb} GB")
    major, before = (it.version.partition(".")[0] for it in (edited, current))
    if major != before and current.id in await of_environment(tx, current.parent):
        raise Invalid(
            f"version: the data of {current.name} are of version {before}",
            hint="make a new database of that version, and bring the data over by dump and restore",
        )


async def _require_registry(tx: Transaction, environment: Environment, service: Service) -> None:
    image = service.image if isinstance(service, Container | Job) else None
    if image is None:
        return
    project = await store.get(tx, Project, environment.parent)
    registry = await store.find(tx, ContainerRegistry, image.registry_id)
    if registry is None or registry.parent != project.parent:
        raise Invalid(f"registry_id: no container registry {image.registry_id} in this organization")


# -- from a body to fields


def _first(context: Context, kind: type[Service], body: ServiceInput) -> Fields:
    """What a new service has that no later edit gives it."""
    if kind is not Database or not isinstance(body, DatabaseInput):
        return {}
    return {
        "type": body.type,
        "mode": body.mode,
        "memory": _DATABASE_MEMORY[str(body.type)],
        "sealed_password": new_password(context),
    }


def new_password(context: Context) -> str:
    """A password for a new database, sealed; only letters and digits, so that no URL has to quote it."""
    password = base64.urlsafe_b64encode(context.entropy(24)).decode().replace("-", "a").replace("_", "b")
    return context.sealer.seal(password)


def _changes(context: Context, current: Service | None, body: ServiceInput) -> Fields:
    """The fields that a body gives; null means the default where a null has no meaning."""
    given = {
        field: value
        for field in msgspec.structs.asdict(body)
        if (value := getattr(body, field)) is not msgspec.UNSET
    }
    changes: Fields = {field: given[field] for field in _AS_GIVEN if field in given}
    changes |= {field: given[field] for field in _NEVER_NULL if given.get(field) is not None}
    for field, convert in _CONVERTED.items():
        if field in given:
            changes |= convert(context, current, given[field])
    if isinstance(body, ContainerInput):
        changes |= _image_of(current, given)
    return changes


_AS_GIVEN = ("description", "dockerfile_path", "max_duration_seconds", "port")
_NEVER_NULL = (
    "icon_uri",
    "build_mode",
    "cpu",
    "memory",
    "min_running_instances",
    "max_running_instances",
    "auto_preview",
    "max_nb_restart",
    "version",
    "accessibility",
)

Convert = Callable[[Context, Service | None, Any], Fields]

_CONVERTED: dict[str, Convert] = {
    "name": lambda _, __, given: {"name": checked_name(given)},
    "auto_deploy": lambda _, __, given: {"auto_deploy": given is not False},
    "healthchecks": lambda _, __, given: {"healthchecks": given.healthchecks()},
    "git_repository": lambda context, current, given: _repository(context, current, given),
    "entrypoint": lambda _, __, given: {"entrypoint": given or None},
    "arguments": lambda _, __, given: {"arguments": tuple(given or ())},
    "ports": lambda context, current, given: {"ports": _ports(context, current, given or ())},
    "storage": lambda context, current, given: _storage_of(context, current, given),
    "instance_type": lambda _, __, given: _no_instance_type(given),
    "source": lambda context, current, given: _source(context, current, given),
    "schedule": lambda _, __, given: _schedule(given),
}


def _storage_of(context: Context, current: Service | None, given: Any) -> Fields:
    """A number of GB for a database, a list of volumes for the others."""
    if isinstance(given, int):
        return {"storage_gb": given}
    return {"storage": _storages(context, current, given or ())}


def _no_instance_type(given: str | None) -> Fields:
    if given:
        raise Invalid("instance_type: only managed databases of a cloud have one")
    return {}


def _image_of(current: Service | None, given: Mapping[str, Any]) -> Fields:
    known = msgspec.structs.asdict(current.image) if isinstance(current, Container) else {}
    fields = {f: given[f] for f in ("registry_id", "image_name", "tag") if f in given}
    return {"image": Image(**{**known, **fields})} if fields else {}


def _repository(context: Context, current: Service | None, given: GitInput) -> Fields:
    return {"git": _git(context, "git_repository", current, given)}


def _source(context: Context, current: Service | None, given: Any) -> Fields:
    if given.image and given.docker:
        raise Invalid("source: exactly one of image and docker is expected")
    if given.image:
        return {"image": Image(**msgspec.structs.asdict(given.image)), "git": None, "dockerfile_path": None}
    if given.docker is None:
        raise Invalid("source: image or docker is expected")
    if given.docker.dockerfile_raw:
        raise Invalid("source.docker.dockerfile_raw: put the Dockerfile into the repository")
    return {
        "image": None,
        "git": _git(context, "source.docker.git_repository", current, given.docker.git_repository),
        "dockerfile_path": given.docker.dockerfile_path,
    }


def _schedule(given: Any) -> Fields:
    cron = given.cronjob
    return {
        **{event: _command(getattr(given, event)) for event in ("on_start", "on_stop", "on_delete")},
        "lifecycle_type": given.lifecycle_type,
        "cronjob": Cron(
            scheduled_at=cron.scheduled_at,
            timezone=cron.timezone or "Etc/UTC",
            entrypoint=cron.entrypoint or None,
            arguments=tuple(cron.arguments or ()),
        )
        if cron
        else None,
    }


def _command(given: CommandInput | None) -> Command | None:
    if given is None:
        return None
    return Command(entrypoint=given.entrypoint or None, arguments=tuple(given.arguments or ()))


def _git(context: Context, field: str, current: Service | None, body: GitInput) -> GitSource:
    """The source as it was written, because clients compare what they read with what they sent; only
    credentials are hidden and sealed."""
    url, branch, root = body.url.strip(), body.branch, body.root_path or "/"
    if not url.isprintable() or not url or url.startswith("-"):
        raise Invalid(f"{field}.url: {redact(url)!r} is not a repository address")
    if branch is not None and (not branch.strip() or branch.startswith("-") or not branch.isprintable()):
        raise Invalid(f"{field}.branch: {branch!r} is not a branch name")
    if ".." in root.split("/") or not root.isprintable():
        raise Invalid(f"{field}.root_path: {root!r} leads out of the repository")
    shown, sealed = _address(context, field, current.git if current else None, url)
    return GitSource(
        url=shown,
        sealed_url=sealed,
        branch=branch,
        root_path=root if root.startswith("/") else f"/{root}",
        provider=body.provider,
        git_token_id=body.git_token_id,
    )


def _address(context: Context, field: str, known: GitSource | None, url: str) -> tuple[str, str]:
    """The address as it is shown, and sealed with its credentials when it has some.

    One that was read without its credentials and is sent back keeps them.
    """
    shown = without_credentials(url)
    if known and url == without_credentials(known.url):
        if known.sealed_url or url == known.url:
            return shown, known.sealed_url
        return shown, context.sealer.seal(known.url)
    if HIDDEN in url:
        raise Invalid(
            f"{field}.url: {url!r} has its credentials left out", hint="give the address with credentials"
        )
    return shown, "" if shown == url else context.sealer.seal(url)


def _ports(context: Context, current: Service | None, bodies: Sequence[PortInput]) -> tuple[Port, ...]:
    """With an id the port is updated, without one it is new; what is not in the list is gone."""
    known = {port.id: port for port in current.ports} if isinstance(current, Workload) else {}
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
    context: Context, current: Service | None, bodies: Sequence[StorageInput]
) -> tuple[Storage, ...]:
    """The same rule as for ports; and a disk can only grow."""
    known = {it.id: it for it in current.storage} if isinstance(current, Workload) else {}
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
    """The item of this id; None when it is to be made. Another service's id is refused."""
    if item_id is None:
        return None
    if item_id not in items:
        raise Invalid(f"{field}: {item_id!r} is not the id of an item of this service", hint="omit it")
    return items[item_id]
