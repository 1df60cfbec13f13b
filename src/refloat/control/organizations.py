"""Organizations, projects, clusters and environments: making them with what belongs to them."""

from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import msgspec

from refloat.control.context import Context
from refloat.domain.deployment import Principal
from refloat.domain.errors import Conflict, Forbidden, Invalid
from refloat.domain.resources import (
    DEFAULT_STAGES,
    LONGEST_NAME,
    Cluster,
    ClusterKind,
    Environment,
    EnvironmentMode,
    Organization,
    Project,
    Resource,
    Role,
    Stage,
)
from refloat.execution.places import node_of
from refloat.store import resources as store
from refloat.store.database import Reader, Transaction

R = TypeVar("R", bound=Resource)

Plan = Literal[
    "FREE",
    "TEAM",
    "TEAM_YEARLY",
    "ENTERPRISE",
    "ENTERPRISE_YEARLY",
    "PROFESSIONAL",
    "BUSINESS",
    "USER_2025",
    "TEAM_2025",
    "BUSINESS_2025",
    "ENTERPRISE_2025",
]


class OrganizationInput(msgspec.Struct, kw_only=True):
    """The plan is shown again and limits nothing."""

    name: str
    plan: Plan | None = None
    description: str | None = None
    website_url: str | None = None
    repository: str | None = None
    logo_url: str | None = None
    icon_url: str | None = None
    admin_emails: tuple[str, ...] | None = None

    def fields(self) -> dict[str, Any]:
        """As an organization keeps them."""
        given = {**msgspec.structs.asdict(self), "name": checked_name(self.name)}
        return {key: value for key, value in given.items() if key != "plan" or value is not None}


def checked_name(name: str) -> str:
    """The trimmed name; Invalid when nothing is left, it is longer than people read, or cannot be shown."""
    trimmed = name.strip()
    if not trimmed or len(trimmed) > LONGEST_NAME:
        raise Invalid(f"name: 1 to {LONGEST_NAME} characters that are not all blank are expected")
    if not trimmed.isprintable():
        raise Invalid("name: control characters and line breaks are not allowed")
    return trimmed


async def change(context: Context, resource: R, **fields: Any) -> R:
    """Store these fields and nothing else: what others changed meanwhile stays."""
    async with context.database.transaction() as tx:
        current = await store.get(tx, type(resource), resource.id)
        changed = msgspec.structs.replace(current, **fields, updated_at=context.clock.now())
        await store.replace_resource(tx, changed)
    return changed


async def create_organization(
    context: Context, principal: Principal, body: OrganizationInput
) -> Organization:
    """A new organization with its default cluster; only for the administrator of the installation."""
    if principal.organization_id is not None:
        raise Forbidden("only the admin token may create organizations")
    now = context.clock.now()
    made = Organization(id=context.new_id(), parent="", created_at=now, updated_at=now, **body.fields())
    async with context.database.transaction() as tx:
        await store.insert_resource(tx, made)
        await store.insert_resource(tx, _cluster(context, made.id, "local", ClusterKind.LOCAL, default=True))
    return made


def _cluster(
    context: Context, organization_id: str, name: str, kind: ClusterKind, *, default: bool
) -> Cluster:
    now = context.clock.now()
    return Cluster(
        id=context.new_id(),
        parent=organization_id,
        name=name,
        runs_on=kind,
        is_default=default,
        node=node_of(context.platforms),
        created_at=now,
        updated_at=now,
    )


async def create_cluster(
    context: Context,
    organization: Organization,
    name: str,
    kind: ClusterKind,
    region: str,
    description: str | None,
) -> Cluster:
    """Another cluster, of the node whose server is asked. A node is one local cluster; it cannot be
    added twice."""
    made = msgspec.structs.replace(
        _cluster(context, organization.id, checked_name(name), kind, default=False),
        region=region,
        description=description,
    )
    async with context.database.transaction() as tx:
        if kind is ClusterKind.LOCAL:
            _refuse_second(made, await store.children(tx, Cluster, organization.id))
        await store.insert_resource(tx, made)
    return made


def _refuse_second(made: Cluster, known: Sequence[Cluster]) -> None:
    for cluster in known:
        if cluster.runs_on is ClusterKind.LOCAL and cluster.node in ("", made.node):
            raise Invalid(
                f"this machine is the cluster {cluster.name!r} already",
                hint='use "refloat_kind": "simulated"',
            )


async def default_cluster(read: Reader, organization_id: str) -> Cluster:
    """The organization's default, else its first."""
    clusters = await store.children(read, Cluster, organization_id)
    if not clusters:
        raise Invalid("the organization has no cluster", hint="add one")
    return next((c for c in clusters if c.is_default), clusters[0])


async def create_project(
    context: Context, organization: Organization, name: str, description: str | None
) -> Project:
    now = context.clock.now()
    made = Project(
        id=context.new_id(),
        parent=organization.id,
        name=checked_name(name),
        description=description,
        created_at=now,
        updated_at=now,
    )
    async with context.database.transaction() as tx:
        await store.insert_resource(tx, made)
    return made


async def delete_project(context: Context, project: Project) -> None:
    """Only an empty one: environments hold running things and are deleted on their own."""
    async with context.database.transaction() as tx:
        if await store.children(tx, Environment, project.id):
            raise Invalid(f"project {project.name} still has environments", hint="delete them first")
        await store.delete_tree(tx, project.id)


async def create_environment(
    context: Context,
    principal: Principal,
    project: Project,
    name: str,
    mode: EnvironmentMode,
    cluster: Cluster,
) -> Environment:
    """A new environment with the four default stages."""
    if cluster.parent != project.parent:
        raise Invalid(f"cluster: {cluster.id} belongs to another organization")
    now = context.clock.now()
    made = Environment(
        id=context.new_id(),
        parent=project.id,
        name=checked_name(name),
        cluster_id=cluster.id,
        mode=mode,
        last_updated_by=principal.id,
        created_at=now,
        updated_at=now,
    )
    async with context.database.transaction() as tx:
        await store.get(tx, Project, project.id)
        await store.insert_resource(tx, made)
        for position, stage_name in enumerate(DEFAULT_STAGES):
            await _insert_stage(tx, context, made.id, stage_name, position)
    return made


async def _insert_stage(
    tx: Transaction, context: Context, environment_id: str, name: str, position: int
) -> None:
    now = context.clock.now()
    stage = Stage(
        id=context.new_id(),
        parent=environment_id,
        name=name,
        position=position,
        created_at=now,
        updated_at=now,
    )
    await store.insert_resource(tx, stage)


async def bootstrap(context: Context) -> None:
    """What the first start makes: an organization with its cluster, and a project."""
    read = context.database.read
    if await store.everything(read, Organization):
        return
    admin = Principal(id="admin", name="admin", role=Role.ADMIN, organization_id=None)
    try:
        organization = await create_organization(context, admin, OrganizationInput(name="default"))
    except Conflict:
        return
    await create_project(context, organization, "default", None)
