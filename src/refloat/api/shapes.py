"""Published bodies of configured resources. Every required key is always present."""

from typing import Any
from urllib.parse import urlsplit

import msgspec

from refloat.api.statuses import timestamp
from refloat.domain.resources import (
    ApiToken,
    Application,
    Cluster,
    Commit,
    Environment,
    Organization,
    Probe,
    Project,
    Resource,
    Service,
    Stage,
    Variable,
    VariableType,
)
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


def stage(it: Stage, services: list[Service]) -> Body:
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


def application(it: Application) -> Body:
    """`Application`; the maximum of GPUs is misspelt by contract."""
    return {
        **base(it),
        "environment": {"id": it.parent},
        "name": it.name,
        "description": it.description or "",
        "icon_uri": it.icon_uri,
        "service_type": "APPLICATION",
        "git_repository": _git(it),
        "build_mode": it.build_mode,
        "dockerfile_path": it.dockerfile_path,
        "cpu": it.cpu,
        "memory": it.memory,
        "gpu": 0,
        "maximum_cpu": 64000,
        "maximum_memory": 262144,
        "maximun_gpu": 0,
        "min_running_instances": it.min_running_instances,
        "max_running_instances": it.max_running_instances,
        "healthchecks": {
            "readiness_probe": _probe(it.healthchecks.readiness_probe),
            "liveness_probe": _probe(it.healthchecks.liveness_probe),
        },
        "auto_preview": it.auto_preview,
        "auto_deploy": it.auto_deploy,
        "ports": [given(**msgspec.to_builtins(p)) for p in it.ports],
        "storage": [msgspec.to_builtins(s) for s in it.storage],
        "arguments": list(it.arguments),
        "entrypoint": it.entrypoint or "",
        "annotations_groups": [],
        "labels_groups": [],
    }


_CHECKS = ("tcp", "http", "exec", "grpc")


def _probe(it: Probe | None) -> Body | None:
    """A probe with its check below `type`."""
    if it is None:
        return None
    body = msgspec.to_builtins(it)
    checks = {name: body.pop(name) for name in _CHECKS}
    return {"type": {name: _check(check) for name, check in checks.items()}, **body}


def _check(check: Body | None) -> Body | None:
    """Without the port when none was given: the published port is a number."""
    return {k: v for k, v in check.items() if k != "port" or v is not None} if check else None


def _git(it: Application) -> Body:
    owner, name = _owner_and_name(it.git.url)
    return {
        "url": it.git.url,
        "owner": owner,
        "name": name,
        "root_path": it.git.root_path,
        "provider": it.git.provider or "GITHUB",
        "has_access": True,
        "git_token_id": it.git.git_token_id,
        **given(branch=it.git.branch),
        **(_deployed(it.commit) if it.commit else {}),
    }


def _deployed(commit: Commit) -> Body:
    return {
        "deployed_commit_id": commit.id,
        "deployed_commit_contributor": commit.author,
        "deployed_commit_tag": commit.tag,
        **given(deployed_commit_date=timestamp(commit.created_at) if commit.created_at else None),
    }


def _owner_and_name(url: str) -> tuple[str, str]:
    parts = [p for p in urlsplit(url).path.removesuffix(".git").replace(":", "/").split("/") if p]
    return ("/".join(parts[:-1]) or "local"), (parts[-1] if parts else "repository")


def link(service: Service, address: Address) -> Body:
    port = urlsplit(address.url).port or 80
    return {
        "service_id": service.id,
        "service_type": service.kind.upper(),
        "url": address.url,
        "internal_port": service.ports[0].internal_port if service.ports else port,
        "external_port": port,
        "is_qovery_domain": True,
        "is_default": True,
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
