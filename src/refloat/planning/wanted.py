"""What is wanted and what is there, as flat fields that can be compared.

A field is a name and a text. Variables appear by name with a keyed digest of their value, so nothing
derived from these fields (plans, fingerprints, history) reveals a value.
"""

import hashlib
from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from refloat.domain.progress import Action
from refloat.domain.resources import CustomDomain
from refloat.domain.services import Database, GitSource, Job, Port, PortProtocol, Service, Storage, Workload

COMMIT = "git.commit"
_BUILD_FIELDS = frozenset({COMMIT, "git.url", "git.root_path", "dockerfile_path"})
DOMAINS = "custom_domains"
VARIABLE = "variable."
_ROUTABLE = (PortProtocol.HTTP, PortProtocol.GRPC)

Fields = Mapping[str, str]


class Way(StrEnum):
    """How a service is brought from one configuration to the next."""

    SWAP = "swap"
    """The new revision starts beside the old one and takes over when it answers."""
    IN_PLACE = "in_place"
    """The old revision ends before the new one starts: both would use the same data."""
    COMMAND = "command"
    """It runs to its end; nothing of it stays."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """One service as it is configured, in its stage. `commands` are the actions at which a job runs; a
    `timed` one runs by the clock from when it is deployed until it is stopped."""

    service_id: str
    name: str
    kind: str
    stage_id: str
    stage_name: str
    stage_position: int
    is_skipped: bool
    routed: bool
    way: Way = Way.SWAP
    builds: bool = True
    commands: tuple[Action, ...] = ()
    timed: bool = False
    commit_id: str | None
    fields: dict[str, str]


class Current(msgspec.Struct, frozen=True, kw_only=True):
    """One service as it is: what was applied last, and whether it really runs now."""

    service_id: str
    revision_key: str
    fields: dict[str, str]
    should_run: bool
    runs: bool


_NOT_COMPARED = frozenset(
    {"id", "parent", "name", "created_at", "updated_at", "description", "icon_uri", "stage_id"}
    | {"is_skipped", "auto_deploy", "auto_preview", "git", "commit", "ports", "storage", "sealed_password"}
)


def fields_of(
    service: Service, variables: Mapping[str, str], domains: Sequence[CustomDomain] = ()
) -> dict[str, str]:
    """Everything that makes a running service differ from another; `variables` maps names to digests.

    Left out on purpose: names and descriptions, stage and skip flag, auto_deploy and auto_preview, the
    branch (the pinned commit counts), and built-in variables, which change when a neighbour is added.
    """
    own = {name: _text(value) for name, value in msgspec.structs.asdict(service).items()}
    return {
        **{name: text for name, text in own.items() if name not in _NOT_COMPARED},
        **(_source_fields(service, service.git) if service.git else {}),
        **(_mounted_fields(service.ports, service.storage) if isinstance(service, Workload) else {}),
        **({DOMAINS: _text(sorted((d.name, d.generate_certificate) for d in domains))} if domains else {}),
        **{VARIABLE + name: digest for name, digest in variables.items()},
    }


def domains_in(fields: Fields) -> list[tuple[str, bool]]:
    """The domains that these fields were made with, and whether each is to have a certificate."""
    return msgspec.json.decode(fields.get(DOMAINS, "[]"), type=list[tuple[str, bool]])


def _source_fields(service: Service, source: GitSource) -> dict[str, str]:
    return {
        COMMIT: service.commit.id if service.commit else "",
        "git.url": source.url,
        "git.root_path": source.root_path,
    }


def _mounted_fields(ports: tuple[Port, ...], storage: tuple[Storage, ...]) -> dict[str, str]:
    """Without ids and names, which say nothing to what runs."""
    return {
        "ports": _text([(p.internal_port, p.protocol, p.publicly_accessible) for p in ports]),
        "storage": _text([(s.mount_point, s.size, s.type) for s in storage]),
    }


def way_of(service: Service) -> Way:
    """A database, and whatever has storage, keeps its data for itself."""
    if isinstance(service, Job):
        return Way.COMMAND
    if isinstance(service, Database) or (isinstance(service, Workload) and service.storage):
        return Way.IN_PLACE
    return Way.SWAP


def commands_of(service: Service) -> tuple[Action, ...]:
    """At which actions a job runs."""
    if not isinstance(service, Job):
        return ()
    events = {
        Action.DEPLOY: service.on_start,
        Action.STOP: service.on_stop,
        Action.DELETE: service.on_delete,
    }
    return tuple(action for action, command in events.items() if command)


def is_routed(service: Service) -> bool:
    """Whether requests reach it: it declares a port that speaks HTTP."""
    return isinstance(service, Workload) and any(port.protocol in _ROUTABLE for port in service.ports)


def fingerprint(fields: Fields) -> str:
    """Equal exactly when all fields are equal."""
    return hashlib.sha256(_text(sorted(fields.items())).encode()).hexdigest()[:32]


def differences(before: Fields, after: Fields) -> tuple[str, ...]:
    """The names of fields that were added, removed or changed, in order."""
    return tuple(sorted(n for n in {*before, *after} if before.get(n) != after.get(n)))


def needs_build(names: tuple[str, ...]) -> bool:
    """Whether a difference in these fields can lead to another artifact."""
    return not _BUILD_FIELDS.isdisjoint(names)


def _text(value: object) -> str:
    return msgspec.json.encode(value, order="deterministic").decode()
