"""The effective configuration of an environment at one instant: what plans compare and engines are given.

Values are opened only here. The snapshot is sealed before it is stored; the comparable side holds
names and keyed digests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from refloat.domain.resources import (
    ContainerRegistry,
    CustomDomain,
    Environment,
    Stage,
    VariableScope,
)
from refloat.domain.revision import DatabaseServer
from refloat.domain.services import AnyService, Container, Database, DatabaseType, GitSource, Job, Service
from refloat.domain.variables import Effective, Place, builtins, effective
from refloat.execution.applied import Applied, decoded
from refloat.planning.wanted import Wanted, commands_of, fields_of, is_routed, way_of
from refloat.routers.base import Address
from refloat.store import resources as store
from refloat.store.configuration import Configuration, read_configuration
from refloat.store.database import Reader
from refloat.store.sealing import Sealer

Addresses = Mapping[str, Address]
NO_ADDRESS = Address(internal="", hosts=(), url="")
"""Of a service that was made after the addresses were asked for."""


class ServiceSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One service with its values, as a deployment will use it."""

    service: AnyService
    variables: dict[str, str]
    files: dict[str, str]
    secrets: tuple[str, ...]
    """Values that must not be seen in logs."""
    database: DatabaseServer | None = None
    image: str = ""
    """Where the image is, with its tag."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All services of an environment by id: as wanted, and as they were applied at that instant."""

    services: dict[str, ServiceSnapshot]
    fields: dict[str, dict[str, str]]
    before: dict[str, Applied]

    def seal(self, sealer: Sealer) -> str:
        return sealer.seal(msgspec.json.encode(self).decode())


def open_snapshot(sealed: str, sealer: Sealer) -> Snapshot:
    """The snapshot that a claim stored."""
    return msgspec.json.decode(sealer.open(sealed), type=Snapshot)


def opened_source(source: GitSource, sealer: Sealer) -> GitSource:
    """The source as builders need it, with its credentials."""
    if not source.sealed_url:
        return source
    return msgspec.structs.replace(source, url=sealer.open(source.sealed_url), sealed_url="")


def _opened(service: AnyService, sealer: Sealer) -> AnyService:
    if service.git is None:
        return service
    return msgspec.structs.replace(service, git=opened_source(service.git, sealer))


@dataclass(frozen=True)
class Compiled:
    """The same configuration twice: comparable without values, and with them."""

    wanted: tuple[Wanted, ...]
    snapshot: Snapshot


def place_of(service: Service, addresses: Addresses, sealer: Sealer) -> Place:
    """What the neighbours of a service are told about it."""
    address = addresses.get(service.id)
    return Place(
        service=service,
        internal=address.internal if address else "",
        url=address.url if address else "",
        database=server_of(service, address, sealer) if isinstance(service, Database) and address else None,
    )


def server_of(service: Database, address: Address, sealer: Sealer) -> DatabaseServer:
    """How a database is reached, its password in the clear."""
    login, database = _DEFAULTS[service.type]
    host, _, port = address.internal.rpartition(":")
    return DatabaseServer(
        type=service.type,
        version=service.version,
        host=host,
        port=int(port),
        login=login,
        password=sealer.open(service.sealed_password),
        database=database,
    )


_DEFAULTS = {
    DatabaseType.POSTGRESQL: ("postgres", "postgres"),
    DatabaseType.REDIS: ("default", "0"),
    DatabaseType.MYSQL: ("root", "mysql"),
    DatabaseType.MONGODB: ("root", "admin"),
}
"""User and first database of each type."""


async def compile_environment(
    read: Reader,
    sealer: Sealer,
    environment: Environment,
    addresses: Addresses,
    configuration: Configuration | None = None,
) -> Compiled:
    """Put together everything that determines how the services run; `configuration` if it was read already.

    Raises Invalid naming the variable that cannot be resolved.
    """
    configured = configuration or await read_configuration(read, environment)
    services, stages = configured.services, {s.id: s for s in configured.stages}
    variables, domains = configured.variables, configured.domains
    own = [v for v in variables.get(environment.id, ()) if v.scope is not VariableScope.BUILT_IN]
    shared = (variables.get(environment.parent, ()), own)
    places = {s.id: place_of(s, addresses, sealer) for s in services}
    provided = builtins(environment, list(places.values()))
    wanted: list[Wanted] = []
    snapshots: dict[str, ServiceSnapshot] = {}
    for service in services:
        resolved = effective(provided, (*shared, variables.get(service.id, ())), sealer.open)
        attached = domains.get(service.id, ())
        wanted.append(_wanted(service, stages[service.stage_id], resolved, attached, sealer))
        snapshots[service.id] = ServiceSnapshot(
            service=_opened(service, sealer),
            variables={name: found.value for name, found in resolved.items() if found.mount_path is None},
            files={found.mount_path: found.value for found in resolved.values() if found.mount_path},
            secrets=_secrets(resolved),
            database=places[service.id].database,
            image=await _image(read, service),
        )
    snapshot = Snapshot(
        services=snapshots,
        fields={w.service_id: w.fields for w in wanted},
        before=decoded(configured.applied),
    )
    return Compiled(wanted=tuple(wanted), snapshot=snapshot)


def _wanted(
    service: Service,
    stage: Stage,
    resolved: Mapping[str, Effective],
    domains: Sequence[CustomDomain],
    sealer: Sealer,
) -> Wanted:
    digests = {
        name: sealer.digest(f"{found.mount_path or ''}\0{found.value}")
        for name, found in resolved.items()
        if found.scope is not VariableScope.BUILT_IN and not isinstance(service, Database)
    }
    return Wanted(
        service_id=service.id,
        name=service.name,
        kind=service.kind,
        stage_id=stage.id,
        stage_name=stage.name,
        stage_position=stage.position,
        is_skipped=service.is_skipped,
        routed=is_routed(service),
        way=way_of(service),
        builds=service.git is not None,
        commands=commands_of(service),
        timed=isinstance(service, Job) and service.cronjob is not None,
        commit_id=service.commit.id if service.commit else None,
        fields=fields_of(service, digests, domains),
    )


def _secrets(resolved: Mapping[str, Effective]) -> tuple[str, ...]:
    return tuple(sorted({found.value for found in resolved.values() if found.is_secret and found.value}))


async def _image(read: Reader, service: AnyService) -> str:
    image = service.image if isinstance(service, Container | Job) else None
    if image is None:
        return ""
    registry = await store.find(read, ContainerRegistry, image.registry_id)
    host = urlsplit(registry.url).netloc if registry else ""
    return f"{host}/{image.image_name}:{image.tag}".removeprefix("/")
