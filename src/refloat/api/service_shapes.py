"""Published bodies of services, kind by kind. Every required key is always present."""

from urllib.parse import urlsplit

import msgspec

from refloat.api.shapes import Body, base, given
from refloat.api.statuses import timestamp
from refloat.builders.remotes import without_credentials
from refloat.domain.resources import ContainerRegistry
from refloat.domain.services import (
    Application,
    Command,
    Commit,
    Container,
    Database,
    GitSource,
    Healthchecks,
    Image,
    Job,
    Probe,
    Service,
    Workload,
)


def application(it: Application) -> Body:
    """`Application`; the maximum of GPUs is misspelt by contract."""
    return {
        **_common(it),
        **_workload(it),
        "git_repository": _git(it, it.git) if it.git else None,
        "build_mode": it.build_mode,
        "dockerfile_path": it.dockerfile_path,
        "gpu": 0,
        "maximun_gpu": 0,
    }


def container(it: Container, registry: ContainerRegistry | None) -> Body:
    """`ContainerResponse`."""
    return {**_common(it), **_workload(it), **_image(it.image, registry), "gpu": 0, "maximum_gpu": 0}


def database(it: Database, internal: str) -> Body:
    """`Database`; `internal` is its `host:port`."""
    host, _, port = internal.rpartition(":")
    return {
        **_common(it),
        "type": it.type,
        "version": it.version,
        "mode": it.mode,
        "accessibility": it.accessibility,
        "storage": it.storage_gb,
        "host": host,
        "port": int(port),
        "disk_encrypted": False,
        "disk_type": None,
    }


def job(it: Job, registry: ContainerRegistry | None) -> Body:
    """`JobResponse`: a lifecycle job or a cron job, its source exactly one of image and docker."""
    source: Body = {"image": _image(it.image, registry)} if it.image else {"docker": _docker(it)}
    return {
        **_common(it),
        "job_type": "CRON" if it.cronjob else "LIFECYCLE",
        "source": source,
        "schedule": _schedule(it),
        "max_nb_restart": it.max_nb_restart,
        **given(max_duration_seconds=it.max_duration_seconds),
        "port": it.port,
        "gpu": 0,
        "maximum_gpu": 0,
        "healthchecks": _healthchecks(it.healthchecks),
        "auto_preview": it.auto_preview,
        "auto_deploy": it.auto_deploy,
    }


def _docker(it: Job) -> Body:
    return {
        "git_repository": _git(it, it.git) if it.git else None,
        "dockerfile_path": it.dockerfile_path,
    }


def _schedule(it: Job) -> Body:
    if it.cronjob:
        timed = {"scheduled_at": it.cronjob.scheduled_at, "timezone": it.cronjob.timezone}
        return {"cronjob": {**_command(it.cronjob), **timed}}
    events = {"on_start": it.on_start, "on_stop": it.on_stop, "on_delete": it.on_delete}
    return {
        **{name: _command(command) for name, command in events.items() if command},
        **given(lifecycle_type=it.lifecycle_type),
    }


def _command(it: Command) -> Body:
    return {"arguments": list(it.arguments), **given(entrypoint=it.entrypoint)}


def _image(it: Image, registry: ContainerRegistry | None) -> Body:
    shown = {
        "id": it.registry_id,
        "name": registry.name if registry else "",
        "url": registry.url if registry else "",
        "kind": registry.registry_kind if registry else "GENERIC_CR",
    }
    return {
        "image_name": it.image_name,
        "tag": it.tag,
        "registry_id": it.registry_id,
        "registry": shown,
    }


def _common(it: Service) -> Body:
    return {
        **base(it),
        "environment": {"id": it.parent},
        "name": it.name,
        "description": it.description or "",
        "icon_uri": it.icon_uri,
        "service_type": it.kind.upper(),
        "cpu": it.cpu,
        "memory": it.memory,
        "maximum_cpu": 64000,
        "maximum_memory": 262144,
        "annotations_groups": [],
        "labels_groups": [],
    }


def _workload(it: Workload) -> Body:
    return {
        "min_running_instances": it.min_running_instances,
        "max_running_instances": it.max_running_instances,
        "healthchecks": _healthchecks(it.healthchecks),
        "auto_preview": it.auto_preview,
        "auto_deploy": it.auto_deploy,
        "ports": [given(**msgspec.to_builtins(p)) for p in it.ports],
        "storage": [msgspec.to_builtins(s) for s in it.storage],
        "arguments": list(it.arguments),
        "entrypoint": it.entrypoint or "",
    }


def _healthchecks(it: Healthchecks) -> Body:
    return {
        "readiness_probe": _probe(it.readiness_probe),
        "liveness_probe": _probe(it.liveness_probe),
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


def _git(it: Service, source: GitSource) -> Body:
    owner, name = _owner_and_name(source.url)
    return {
        "url": without_credentials(source.url),
        "owner": owner,
        "name": name,
        "root_path": source.root_path,
        "provider": source.provider or "GITHUB",
        "has_access": True,
        "git_token_id": source.git_token_id,
        **given(branch=source.branch),
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
