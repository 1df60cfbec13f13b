"""From a service's snapshot and its artifact to what an engine is given."""

import re
import shlex
from collections.abc import Mapping, Sequence

import msgspec

from refloat.domain.deployment import Deployment
from refloat.domain.progress import Action
from refloat.domain.revision import Artifact, Revision
from refloat.domain.services import Command, Job, Service, Workload
from refloat.domain.variables import OUTPUT_PREFIX
from refloat.execution.snapshot import ServiceSnapshot

_OUTPUT = re.compile(r"\{\{\s*(" + OUTPUT_PREFIX + r"[A-Za-z0-9_]+)\s*\}\}")


def revision_of(
    snapshot: ServiceSnapshot,
    key: str,
    deployment: Deployment,
    artifact: Artifact,
    outputs: Mapping[str, str],
) -> Revision:
    """What runs of a service. `outputs` are those of the environment's jobs by name, as they are now."""
    service = snapshot.service
    serving = service if isinstance(service, Workload) else None
    return Revision(
        key=key,
        service_id=service.id,
        environment_id=deployment.environment_id,
        deployment_id=deployment.id,
        fence=deployment.fence,
        name=service.name,
        artifact=artifact,
        command=command_of(service, artifact),
        environment={**outputs, **{k: with_outputs(v, outputs) for k, v in snapshot.variables.items()}},
        files={path: with_outputs(text, outputs) for path, text in snapshot.files.items()},
        instances=max(1, serving.min_running_instances) if serving else 1,
        cpu=service.cpu,
        memory=service.memory,
        grace_seconds=_DATABASE_GRACE if snapshot.database else 10,
        readiness=serving.healthchecks.readiness_probe if serving else None,
        liveness=serving.healthchecks.liveness_probe if serving else None,
        database=snapshot.database,
    )


def in_hands_of(deployment: Deployment | None, revision: Revision) -> Revision:
    """What was applied earlier, to be touched by the environment's last deployment or by those who keep what
    that left: engines refuse one that was followed by another. Without any deployment it stays as it was."""
    if deployment is None:
        return revision
    return msgspec.structs.replace(revision, deployment_id=deployment.id, fence=deployment.fence)


_DATABASE_GRACE = 60
"""Seconds: a database that is killed has to recover at its next start."""


def with_outputs(text: str, outputs: Mapping[str, str]) -> str:
    """References to outputs of jobs, replaced; one that no job has written yet becomes empty."""
    return _OUTPUT.sub(lambda match: outputs.get(match.group(1), ""), text) if "{{" in text else text


def command_of(service: Service, artifact: Artifact) -> tuple[str, ...]:
    """The user's entrypoint and arguments, else what the artifact brings."""
    if isinstance(service, Workload):
        return _words(service.entrypoint, service.arguments, artifact)
    return artifact.web


def command_words(command: Command, artifact: Artifact) -> tuple[str, ...]:
    """What a command of a job is as an argv."""
    return _words(command.entrypoint, command.arguments, artifact)


def event_of(job: Job, action: Action) -> Command | None:
    """The event of a job that an action is."""
    events = {Action.DEPLOY: job.on_start, Action.STOP: job.on_stop, Action.DELETE: job.on_delete}
    return events.get(action)


def needs_command(service: Service) -> bool:
    """Whether the artifact has to bring a command, because the configuration names none."""
    if isinstance(service, Job):
        events = (service.on_start, service.on_stop, service.on_delete, service.cronjob)
        return any(event and not _is_whole(event.entrypoint, event.arguments) for event in events)
    return not (isinstance(service, Workload) and _is_whole(service.entrypoint, service.arguments))


_SHELL = ("/bin/sh", "-c")


def _words(entrypoint: str | None, arguments: tuple[str, ...], artifact: Artifact) -> tuple[str, ...]:
    """As of an image: arguments alone take the place of its command; options alone are added to it."""
    if _is_whole(entrypoint, arguments):
        return (*shlex.split(entrypoint or ""), *arguments)
    if arguments and artifact.web[:2] == _SHELL:
        return (*_SHELL, f'{artifact.web[2]} "$@"', "sh", *arguments)
    return (*artifact.web, *arguments)


def _is_whole(entrypoint: str | None, arguments: Sequence[str]) -> bool:
    """Whether this is a command in itself."""
    return bool(entrypoint) or (bool(arguments) and not arguments[0].startswith("-"))
