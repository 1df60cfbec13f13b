"""History and logs of deployments, in the two published forms, derived from targets, journal and events."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from refloat.api.explanations import longest
from refloat.api.states import (
    State,
    action_status,
    deployment_state,
    service_state,
    stage_status,
)
from refloat.api.statuses import service_metrics, status_details, timestamp
from refloat.control.context import Context
from refloat.control.explanations import path_of
from refloat.domain.deployment import Deployment, Event, Step, Target, Verb
from refloat.domain.ids import execution_id
from refloat.domain.resources import Environment, Project
from refloat.execution.queue import RECAP
from refloat.store import deployments as store
from refloat.store import resources

Body = dict[str, Any]
_MOST_LOGS = 1000

_TRIGGER = {
    Verb.DEPLOY: "DEPLOY",
    Verb.REDEPLOY: "DEPLOY",
    Verb.ROLLBACK: "DEPLOY",
    Verb.RESTART: "RESTART",
    Verb.STOP: "STOP",
    Verb.UNINSTALL: "UNINSTALL",
    Verb.DELETE: "DELETE",
}


def duration(seconds: float) -> str:
    """ISO 8601, whole seconds: PT1M12S."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    text = (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "")
    return "PT" + text + (f"{left}S" if left or not text else "")


def _elapsed(start: datetime | None, end: datetime | None, now: datetime) -> float:
    return ((end or now) - start) / timedelta(seconds=1) if start else 0.0


async def page_v1(context: Context, environment: Environment, before: str | None, size: int) -> list[Body]:
    """`DeploymentHistoryEnvironment` items, newest first."""
    found = await store.history(context.database.read, environment.id, size, before)
    return [await _item_v1(context, d) for d in found]


async def _item_v1(context: Context, deployment: Deployment) -> Body:
    targets = await store.targets(context.database.read, deployment.id)
    return {
        "id": deployment.id,
        "created_at": timestamp(deployment.created_at),
        "updated_at": timestamp(deployment.finished_at or deployment.started_at or deployment.created_at),
        "status": deployment_state(deployment, targets),
        "origin": deployment.request.origin,
        "triggered_by": deployment.request.triggered_by,
        **{
            f"{kind}s": [_service_v1(t, deployment) for t in targets if t.kind == kind]
            for kind in ("application", "container", "database", "job", "helm")
        },
    }


def _service_v1(target: Target, deployment: Deployment) -> Body:
    body: Body = {
        "id": target.service_id,
        "created_at": timestamp(target.started_at or deployment.created_at),
        "updated_at": timestamp(target.finished_at or target.started_at or deployment.created_at),
        "name": target.name,
        "status": service_state(target.action, target.phase),
    }
    if target.kind == "application":
        return {**body, "commit": _commit(target, deployment)}
    if target.image:
        return {**body, **_image(target)}
    commit = _commit(target, deployment)
    return {**body, **({"commit": commit} if commit else {})}


def _image(target: Target) -> Body:
    name, _, tag = target.image.rpartition(":")
    return {"image_name": name, "tag": tag, "arguments": []}


def _details(target: Target, deployment: Deployment) -> Body:
    """The natural shape of each kind; the published alternatives overlap, so that none fits strictly."""
    if target.kind == "application":
        return {"commit": _commit(target, deployment), "build_pod_name": ""}
    if target.kind == "job":
        image = _image(target) if target.image else {"image_name": "", "tag": ""}
        commit = _commit(target, deployment)
        return {**image, "job_type": "LIFECYCLE", **({"commit": commit} if commit else {})}
    return _image(target) if target.image else {}


def _commit(target: Target, deployment: Deployment) -> Body | None:
    if not target.commit_id:
        return None
    return {
        "git_commit_id": target.commit_id,
        "created_at": timestamp(deployment.created_at),
        "author_name": "",
        "message": target.commit_message,
        "tag": "",
    }


def queued(deployment: Deployment, targets: Sequence[Target]) -> Body:
    """`QueuedDeploymentRequestWithStages`."""
    return {
        "identifier": {
            "deployment_request_id": deployment.id,
            "environment_id": deployment.environment_id,
        },
        "auditing_data": _asker(deployment),
        "trigger_action": _TRIGGER[deployment.request.verb],
        "stages": [
            {
                "name": members[0].stage_name,
                "status": stage_status([t.phase for t in members]),
                "services": [
                    {
                        "identifier": _service(target),
                        "status": stage_status([target.phase]),
                        "icon_uri": f"app://qovery-console/{target.kind}",
                    }
                    for target in members
                ],
            }
            for members in _by_stage(targets)
        ],
    }


def queued_service(deployment: Deployment, target: Target) -> Body:
    """`QueuedDeploymentRequestForService`."""
    return {
        "identifier": {"deployment_request_id": deployment.id, **_service(target)},
        "auditing_data": _asker(deployment),
        "status_details": status_details(target),
        "icon_uri": f"app://qovery-console/{target.kind}",
    }


def _asker(deployment: Deployment) -> Body:
    return {"triggered_by": deployment.request.triggered_by, "origin": deployment.request.origin}


def _service(target: Target) -> Body:
    return {"service_id": target.service_id, "service_type": target.kind.upper(), "name": target.name}


async def page_v2(context: Context, environment: Environment, size: int) -> list[Body]:
    """`DeploymentHistoryEnvironmentV2` items, newest first; requests that wait are not history yet."""
    found = await store.history(context.database.read, environment.id, size)
    return [await _item_v2(context, environment, d) for d in found if d.number or d.ended]


async def _item_v2(context: Context, environment: Environment, deployment: Deployment) -> Body:
    read = context.database.read
    targets = await store.targets(read, deployment.id)
    steps = await store.steps(read, deployment.id)
    now = context.clock.now()
    end = deployment.finished_at
    state = deployment_state(deployment, targets)
    return {
        "identifier": {
            "execution_id": _execution(environment, deployment),
            "environment_id": environment.id,
        },
        "auditing_data": _auditing(deployment),
        "status": state,
        "trigger_action": _TRIGGER[deployment.request.verb],
        "action_status": action_status(deployment.phase),
        "total_duration": duration(_elapsed(deployment.started_at, end, now)),
        "stages": [_stage_v2(members, environment, deployment, steps, now) for members in _by_stage(targets)],
        "deployment_request_id": deployment.id,
        "plan_hash": deployment.plan_hash,
        "reason": deployment.reason or None,
        "longest": longest(await path_of(read, deployment, steps)) if deployment.ended else None,
    }


def _execution(environment: Environment, deployment: Deployment) -> str:
    number = deployment.number
    return execution_id(environment.id, number) if number else deployment.id


def _auditing(deployment: Deployment) -> Body:
    updated = deployment.finished_at or deployment.started_at or deployment.created_at
    return {
        "created_at": timestamp(deployment.created_at),
        "updated_at": timestamp(updated),
        "triggered_by": deployment.request.triggered_by,
        "origin": deployment.request.origin,
    }


def _by_stage(targets: Sequence[Target]) -> list[list[Target]]:
    groups: dict[int, list[Target]] = {}
    for target in targets:
        groups.setdefault(target.stage_position, []).append(target)
    return [groups[position] for position in sorted(groups)]


def _stage_v2(
    members: Sequence[Target],
    environment: Environment,
    deployment: Deployment,
    steps: Sequence[Step],
    now: datetime,
) -> Body:
    starts = [t.started_at for t in members if t.started_at]
    ends = [t.finished_at or now for t in members if t.started_at]
    return {
        "name": members[0].stage_name,
        "status": stage_status([t.phase for t in members]),
        "duration": duration(_elapsed(min(starts, default=None), max(ends, default=None), now)),
        "services": [_service_v2(t, environment, deployment, steps, now) for t in members],
    }


def _service_v2(
    target: Target, environment: Environment, deployment: Deployment, steps: Sequence[Step], now: datetime
) -> Body:
    own = [s for s in steps if s.service_id == target.service_id]
    return {
        "identifier": {
            "name": target.name,
            "service_id": target.service_id,
            "service_type": target.kind.upper(),
            "execution_id": _execution(environment, deployment),
        },
        "status": service_state(target.action, target.phase),
        "auditing_data": _auditing(deployment),
        "details": _details(target, deployment),
        "status_details": status_details(target),
        "icon_uri": f"app://qovery-console/{target.kind}",
        "total_duration": duration(_elapsed(target.started_at, target.finished_at, now)),
        "change": target.change,
        "reason": target.reason or None,
        "serving": target.serving or None,
        "swap": _swap(target),
        "steps": service_metrics(target, own),
    }


def _swap(target: Target) -> Body | None:
    """Requests around the switch; "no traffic" is not zero."""
    if target.swap is None:
        return None
    if target.swap.served is None:
        return {"traffic": "no traffic", "undrained": target.swap.undrained}
    return {
        "served": target.swap.served,
        "failed": target.swap.failed,
        "undrained": target.swap.undrained,
    }


# -- logs

_TRANSMITTER = {
    "application": "Application",
    "container": "Container",
    "database": "Database",
    "job": "Job",
}


class LogLines:
    """Events of one environment as published `EnvironmentLogs`."""

    def __init__(self, environment: Environment, organization_id: str, targets: Iterable[Target]) -> None:
        self._environment = environment
        self._organization_id = organization_id
        self._targets = {t.service_id: t for t in targets}

    def line(self, event: Event, number: int | None) -> Body:
        """One log line. Its timestamp is unique within the environment: the event's sequence number
        breaks ties below the microsecond."""
        target = self._targets.get(event.service_id)
        failed = event.level == "error"
        return {
            "type": event.level,
            "timestamp": _unique_timestamp(event),
            "details": {
                "organization_id": self._organization_id,
                "cluster_id": self._environment.cluster_id,
                "execution_id": execution_id(self._environment.id, number) if number else None,
                "stage": {
                    "step": _step_name(event),
                    "id": target.stage_id if target else None,
                    "name": target.stage_name if target else None,
                },
                "transmitter": {
                    "type": _TRANSMITTER.get(target.kind, "Environment") if target else "Environment",
                    "id": event.service_id or self._environment.id,
                    "name": target.name if target else self._environment.name,
                },
            },
            "message": {"safe_message": event.message, "full_details": ""},
            "error": _error(event) if failed else None,
        }


def _unique_timestamp(event: Event) -> str:
    return f"{timestamp(event.at)[:-1]}{event.sequence % 1000:03d}Z"


def _step_name(event: Event) -> str:
    """The state a change of progress leads to; RECAP for the last line; else the step's own name."""
    if event.step == RECAP:
        return State.RECAP
    if event.action and event.phase:
        return service_state(event.action, event.phase)
    return event.step


def _error(event: Event) -> Body:
    return {
        "tag": f"{event.step.upper()}_ERROR",
        "user_log_message": event.message,
    }


async def logs(context: Context, environment: Environment, deployment: Deployment | None) -> list[Body]:
    """The latest lines of a deployment, oldest first."""
    if deployment is None:
        return []
    read = context.database.read
    lines = await log_lines(context, environment, await store.targets(read, deployment.id))
    events = await store.last_events(read, deployment.id, _MOST_LOGS)
    return [lines.line(event, deployment.number) for event in events]


async def log_lines(context: Context, environment: Environment, targets: Iterable[Target]) -> LogLines:
    project = await resources.get(context.database.read, Project, environment.parent)
    return LogLines(environment, project.parent, targets)
