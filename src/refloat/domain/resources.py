"""Every kind of thing people configure, each one frozen document.

A resource has an id, a parent, a name and a body; all of it is the stored document. So a clone is a
copy, a snapshot is the document itself, and a new kind is one struct here plus its routes.
Values of variables and tokens are never in the clear: documents hold sealed text and digests.
"""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

import msgspec


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """What all kinds share. `parent` is "" only for organizations."""

    kind: ClassVar[str] = ""
    namespace: ClassVar[str] = ""
    """Names are unique, ignoring case, among the children of one parent with the same namespace."""
    case_matters: ClassVar[bool] = False

    id: str
    parent: str
    name: str
    created_at: datetime
    updated_at: datetime


class Organization(Resource, frozen=True, kw_only=True):
    kind: ClassVar[str] = "organization"
    namespace: ClassVar[str] = "organization"

    plan: str = "ENTERPRISE"
    description: str | None = None
    website_url: str | None = None
    repository: str | None = None
    logo_url: str | None = None
    icon_url: str | None = None
    admin_emails: tuple[str, ...] | None = None


class Project(Resource, frozen=True, kw_only=True):
    """Parent: organization."""

    kind: ClassVar[str] = "project"
    namespace: ClassVar[str] = "project"

    description: str | None = None


class ClusterKind(StrEnum):
    """Which matched set of engine, router and builder a cluster runs on."""

    LOCAL = "local"
    SIMULATED = "simulated"


class Cluster(Resource, frozen=True, kw_only=True):
    """Parent: organization."""

    kind: ClassVar[str] = "cluster"
    namespace: ClassVar[str] = "cluster"

    runs_on: ClusterKind
    node: str = ""
    """The machine whose servers alone can reach it; "" until one of them first worked on it, and always
    where there is a single server."""
    region: str = "on-premise"
    description: str | None = None
    is_default: bool = False


class EnvironmentMode(StrEnum):
    DEVELOPMENT = "DEVELOPMENT"
    PREVIEW = "PREVIEW"
    STAGING = "STAGING"
    PRODUCTION = "PRODUCTION"


class Environment(Resource, frozen=True, kw_only=True):
    """Parent: project. The cluster never changes; moving is cloning."""

    kind: ClassVar[str] = "environment"
    namespace: ClassVar[str] = "environment"

    cluster_id: str
    mode: EnvironmentMode = EnvironmentMode.DEVELOPMENT
    last_updated_by: str | None = None
    rollback_on_failure: bool = False
    """Whether what a failed deployment had replaced already goes back by itself."""


class Stage(Resource, frozen=True, kw_only=True):
    """Parent: environment. Stages run in the order of `position`, which has no gaps."""

    kind: ClassVar[str] = "stage"
    namespace: ClassVar[str] = "stage"

    position: int
    description: str | None = None


LONGEST_NAME = 128
"""Characters of the name of whatever has one."""
DEFAULT_STAGES = ("DEFAULT DATABASE", "DEFAULT JOB", "DEFAULT CONTAINER", "DEFAULT APPLICATION")


class VariableScope(StrEnum):
    """From widest to narrowest, apart from BUILT_IN, which nobody writes."""

    BUILT_IN = "BUILT_IN"
    PROJECT = "PROJECT"
    ENVIRONMENT = "ENVIRONMENT"
    APPLICATION = "APPLICATION"
    CONTAINER = "CONTAINER"
    JOB = "JOB"


class VariableType(StrEnum):
    VALUE = "VALUE"
    ALIAS = "ALIAS"
    OVERRIDE = "OVERRIDE"
    BUILT_IN = "BUILT_IN"
    FILE = "FILE"


class Variable(Resource, frozen=True, kw_only=True):
    """Parent: the project, environment or service it belongs to; `name` is the key.

    `sealed` is the encrypted value, for plain variables too: a database file alone reveals nothing.
    An alias has no value of its own; `target_id` names the variable it stands for. An override names
    the one it replaces.
    """

    kind: ClassVar[str] = "variable"
    namespace: ClassVar[str] = "variable"
    case_matters: ClassVar[bool] = True
    """To a process `HTTP_PROXY` and `http_proxy` are two variables."""

    scope: VariableScope
    variable_type: VariableType = VariableType.VALUE
    sealed: str = ""
    is_secret: bool = False
    target_id: str | None = None
    mount_path: str | None = None
    description: str | None = None
    enable_interpolation_in_file: bool = False


class CustomDomain(Resource, frozen=True, kw_only=True):
    """Parent: the service it leads to from that one's next deployment on; `name` is the domain, in lower
    case. No two services of the installation have the same."""

    kind: ClassVar[str] = "custom_domain"
    namespace: ClassVar[str] = "custom_domain"

    generate_certificate: bool = True
    """False: whoever stands in front has the certificate, and asks in plain HTTP."""
    use_cdn: bool = False
    """True: its addresses are those of somebody in front, and are not compared with ours."""


class ContainerRegistry(Resource, frozen=True, kw_only=True):
    """Parent: organization. Where images come from; `sealed` holds the secret part of its configuration."""

    kind: ClassVar[str] = "container_registry"
    namespace: ClassVar[str] = "container_registry"

    registry_kind: str
    url: str
    description: str | None = None
    config: dict[str, str] = {}
    sealed: str = ""


class Role(StrEnum):
    """What a token may do in its organization, each including the ones before."""

    VIEWER = "viewer"
    DEPLOYER = "deployer"
    MANAGER = "manager"
    ADMIN = "admin"


class ApiToken(Resource, frozen=True, kw_only=True):
    """Parent: organization. `digest` is the SHA-256 of the token in hexadecimal; itself it is shown once."""

    kind: ClassVar[str] = "api_token"
    namespace: ClassVar[str] = "api_token"

    digest: str
    role: Role = Role.ADMIN
    description: str | None = None
