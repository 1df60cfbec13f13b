"""What is wanted and what is there, as flat fields that can be compared.

A field is a name and a text. Variables appear by name with a keyed digest of their value, so nothing
derived from these fields (plans, fingerprints, history) reveals a value.
"""

import hashlib
from collections.abc import Mapping

import msgspec

from refloat.domain.resources import Application, PortProtocol, Service

COMMIT = "git.commit"
_BUILD_FIELDS = frozenset({COMMIT, "git.url", "git.root_path", "dockerfile_path"})
VARIABLE = "variable."
_ROUTABLE = (PortProtocol.HTTP, PortProtocol.GRPC)

Fields = Mapping[str, str]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """One service as it is configured, in its stage."""

    service_id: str
    name: str
    kind: str
    stage_id: str
    stage_name: str
    stage_position: int
    is_skipped: bool
    routed: bool
    stateful: bool
    commit_id: str | None
    fields: dict[str, str]


class Current(msgspec.Struct, frozen=True, kw_only=True):
    """One service as it is: what was applied last, and whether it really runs now."""

    service_id: str
    revision_key: str
    fields: dict[str, str]
    should_run: bool
    runs: bool


def fields_of(service: Service, variables: Mapping[str, str]) -> dict[str, str]:
    """Everything that makes a running service differ from another; `variables` maps names to digests.

    Left out on purpose: names and descriptions, stage and skip flag, auto_deploy and auto_preview, the
    branch (the pinned commit counts), and built-in variables, which change when a neighbour is added.
    """
    return {
        **_source_fields(service),
        "cpu": str(service.cpu),
        "memory": str(service.memory),
        "min_running_instances": str(service.min_running_instances),
        "max_running_instances": str(service.max_running_instances),
        "entrypoint": service.entrypoint or "",
        "arguments": _text(service.arguments),
        "healthchecks": _text(service.healthchecks),
        "ports": _text([(p.internal_port, p.protocol, p.publicly_accessible) for p in service.ports]),
        "storage": _text([(s.mount_point, s.size, s.type) for s in service.storage]),
        **{VARIABLE + name: digest for name, digest in variables.items()},
    }


def _source_fields(service: Application) -> dict[str, str]:
    return {
        COMMIT: service.commit.id if service.commit else "",
        "git.url": service.git.url,
        "git.root_path": service.git.root_path,
        "dockerfile_path": service.dockerfile_path or "",
    }


def is_routed(service: Service) -> bool:
    """Whether requests reach it: it declares a port that speaks HTTP."""
    return any(port.protocol in _ROUTABLE for port in service.ports)


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
