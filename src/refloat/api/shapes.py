"""Published bodies of configured resources. Every required key is always present."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from refloat.api.statuses import timestamp
from refloat.domain.resources import (
    ApiToken,
    Cluster,
    ContainerRegistry,
    CustomDomain,
    Environment,
    Organization,
    Project,
    Resource,
    Stage,
    Variable,
    VariableType,
)
from refloat.domain.services import Service, Workload
from refloat.routers.base import Address

Body = dict[str, Any]
Target = tuple[Variable, str]
"""The variable that an alias or override refers to, and its own value."""


def base(resource: Resource) -> Body:
    """Id and times; clients dereference `updated_at` without looking."""
    return {
        "id": resource.id,
        "created_at": timestamp(resource.created_at),
        "updated_at": timestamp(resource.updated_at),
    }


def present(body: Body, *kept: str) -> Body:
    """Without the keys that have no value: most published optional keys may be absent and not null."""
    return {key: value for key, value in body.items() if value is not None or key in kept}


def given(**optional: Any) -> Body:
    """The optional keys that have a value: published as absent, not as null."""
    return {key: value for key, value in optional.items() if value is not None}


def listed(items: list[Body]) -> Body:
    """Lists are never bare."""
    return {"results": items}


def organization(it: Organization) -> Body:
    return {
        **base(it),
        "name": it.name,
        "plan": it.plan,
        "description": it.description,
        "website_url": it.website_url,
        "repository": it.repository,
        "logo_url": it.logo_url,
        "icon_url": it.icon_url,
        "admin_emails": it.admin_emails,
        "billing_deployment_restriction": None,
    }


def project(it: Project, environments: int) -> Body:
    return present(
        {
            **base(it),
            "name": it.name,
            "description": it.description,
            "organization": {"id": it.parent},
            "associated_environments_count": environments,
        }
    )


def cluster(it: Cluster) -> Body:
    return {
        **base(it),
        "name": it.name,
        "organization": {"id": it.parent},
        "description": it.description or "",
        "region": it.region,
        "cloud_provider": "ON_PREMISE",
        "kubernetes": "SELF_MANAGED",
        "status": "DEPLOYED",
        "deployment_status": "UP_TO_DATE",
        "is_default": it.is_default,
        "production": False,
        "version": it.runs_on,
        "refloat_kind": it.runs_on,
    }


def environment(it: Environment, organization_id: str, of: Cluster) -> Body:
    return {
        **base(it),
        "name": it.name,
        "organization": {"id": organization_id},
        "project": {"id": it.parent},
        "last_updated_by": it.last_updated_by,
        "cloud_provider": {"provider": "ON_PREMISE", "cluster": of.region},
        "mode": it.mode,
        "cluster_id": it.cluster_id,
        "cluster_name": of.name,
        "expires_at": None,
    }


def stage(it: Stage, services: Sequence[Service]) -> Body:
    return {
        **base(it),
        "environment": {"id": it.parent},
        "name": it.name,
        "description": it.description or "",
        "deployment_order": it.position,
        "services": [
            {
                **base(s),
                "service_id": s.id,
                "service_type": s.kind.upper(),
                "is_skipped": s.is_skipped,
            }
            for s in services
            if s.stage_id == it.id
        ],
    }


def links(service: Service, address: Address) -> list[Body]:
    """The service's own name first, then the custom domains that lead to it."""
    return [_link(service, address, url) for url in (address.url, *address.domain_urls)]


def _link(service: Service, address: Address, url: str) -> Body:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    ports = service.ports if isinstance(service, Workload) else ()
    return {
        "service_id": service.id,
        "service_type": service.kind.upper(),
        "url": url,
        "internal_port": ports[0].internal_port if ports else port,
        "external_port": port,
        "is_qovery_domain": url == address.url,
        "is_default": url == address.url,
        "refloat_internal": address.internal,
    }


def variable(it: Variable, value: str, target: Target | None, owner: Service | None) -> Body:
    """`VariableResponse`, which also satisfies the older environment variable and secret bodies.

    `value` is what the variable says itself (an alias: its target), references in it not replaced.
    """
    kind = "aliased_variable" if it.variable_type is VariableType.ALIAS else "overridden_variable"
    return {
        **base(it),
        "key": it.name,
        "value": None if it.is_secret else value,
        "mount_path": it.mount_path,
        "scope": it.scope,
        "variable_type": it.variable_type,
        "is_secret": it.is_secret,
        "enable_interpolation_in_file": it.enable_interpolation_in_file,
        "owned_by": "QOVERY",
        **given(description=it.description),
        **({kind: _reference(*target)} if target else {}),
        **({"service_id": owner.id, "service_name": owner.name} if owner else {}),
        **({"service_type": owner.kind.upper()} if owner else {}),
    }


def _reference(it: Variable, value: str) -> Body:
    return {
        "id": it.id,
        "key": it.name,
        "value": None if it.is_secret else value,
        "mount_path": it.mount_path or "",
        "scope": it.scope,
        "variable_type": it.variable_type,
    }


def container_registry(it: ContainerRegistry, services: int) -> Body:
    return {
        **base(it),
        "name": it.name,
        "kind": it.registry_kind,
        "description": it.description or "",
        "url": it.url,
        "associated_services_count": services,
        "config": it.config,
    }


def custom_domain(it: CustomDomain, target: str) -> Body:
    """`target` is the name that a CNAME record leads to. The published status has this one value."""
    return {
        **base(it),
        "domain": it.name,
        "generate_certificate": it.generate_certificate,
        "use_cdn": it.use_cdn,
        "validation_domain": target,
        "status": "VALIDATION_PENDING",
    }


def api_token(it: ApiToken) -> Body:
    return {
        **base(it),
        "name": it.name,
        "description": it.description or "",
        "role_name": it.role.capitalize(),
        "role_id": ROLE_IDS[it.role],
    }


ROLE_IDS = {
    "viewer": "00000000-0000-4000-8000-000000000001",
    "deployer": "00000000-0000-4000-8000-000000000002",
    "manager": "00000000-0000-4000-8000-000000000003",
    "admin": "00000000-0000-4000-8000-000000000004",
}
"""Roles are built in; clients know them by id."""
