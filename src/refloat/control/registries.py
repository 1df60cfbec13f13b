"""Container registries: where images come from, and who may read them."""

from typing import Any, Literal

import msgspec

from refloat.control.context import Context
from refloat.control.organizations import checked_name
from refloat.domain.errors import Conflict, Invalid
from refloat.domain.resources import ContainerRegistry, Environment, Organization, Project
from refloat.domain.services import AnyService, Container, Job
from refloat.store import resources as store
from refloat.store.database import Reader

Kind = Literal[
    "ECR",
    "SCALEWAY_CR",
    "DOCKER_HUB",
    "GITHUB_CR",
    "GITHUB_ENTERPRISE_CR",
    "GITLAB_CR",
    "PUBLIC_ECR",
    "DOCR",
    "GENERIC_CR",
    "GCP_ARTIFACT_REGISTRY",
    "AZURE_CR",
]
_URLS = {"DOCKER_HUB": "https://docker.io", "GITHUB_CR": "https://ghcr.io"}
_SECRET = frozenset({"password", "secret_access_key", "scaleway_secret_key", "json_credentials"})


class RegistryInput(msgspec.Struct, kw_only=True):
    """Body of a create and an edit. Secret fields of `config` are never shown again."""

    name: str
    kind: Kind
    config: dict[str, str | int | None]
    url: str | None = None
    description: str | None = None


async def create(context: Context, organization: Organization, body: RegistryInput) -> ContainerRegistry:
    """A new registry."""
    now = context.clock.now()
    made = ContainerRegistry(
        id=context.new_id(),
        parent=organization.id,
        created_at=now,
        updated_at=now,
        **_fields(context, body),
    )
    async with context.database.transaction() as tx:
        await store.get(tx, Organization, organization.id)
        await store.insert_resource(tx, made)
    return made


async def edit(context: Context, registry: ContainerRegistry, body: RegistryInput) -> ContainerRegistry:
    """All of it is replaced, the secret part only if one is given."""
    async with context.database.transaction() as tx:
        current = await store.get(tx, ContainerRegistry, registry.id)
        fields = _fields(context, body)
        if not _secrets(body):
            del fields["sealed"]
        edited = msgspec.structs.replace(current, **fields, updated_at=context.clock.now())
        await store.replace_resource(tx, edited)
    return edited


async def delete(context: Context, registry: ContainerRegistry) -> None:
    """Only one that no service uses."""
    async with context.database.transaction() as tx:
        users = await used_by(tx, registry)
        if users:
            raise Conflict(f"{registry.name} is used by {', '.join(s.name for s in users)}")
        await store.delete_resource(tx, registry.id)


async def used_by(read: Reader, registry: ContainerRegistry) -> list[AnyService]:
    """The services whose image is in it."""
    found: list[AnyService] = []
    for project in await store.children(read, Project, registry.parent):
        for environment in await store.children(read, Environment, project.id):
            for service in await store.services(read, environment.id):
                image = service.image if isinstance(service, Container | Job) else None
                if image and image.registry_id == registry.id:
                    found.append(service)
    return found


def _fields(context: Context, body: RegistryInput) -> dict[str, Any]:
    url = body.url or _URLS.get(body.kind, "")
    if not url.startswith(("http://", "https://")):
        raise Invalid("url: the address of the registry is required, like https://registry.example.org")
    shown = {k: str(v) for k, v in body.config.items() if v is not None and k not in _SECRET}
    return {
        "name": checked_name(body.name),
        "registry_kind": body.kind,
        "url": url,
        "description": body.description,
        "config": shown,
        "sealed": context.sealer.seal(msgspec.json.encode(_secrets(body)).decode()),
    }


def _secrets(body: RegistryInput) -> dict[str, str]:
    return {k: str(v) for k, v in body.config.items() if v is not None and k in _SECRET}
