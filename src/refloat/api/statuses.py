"""Status bodies: what the published `EnvironmentStatus`, `Status` and their collections say.

Three statuses never mix: the deployment state, the freshness (does what runs equal what is configured),
and the running status, which is the engine's and not here.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from refloat.api.states import (
    ActionStatus,
    State,
    action_status,
    deployment_state,
    resting_state,
    service_state,
    stage_status,
)
from refloat.control.context import Context
from refloat.domain.deployment import Deployment, Step, Target
from refloat.domain.errors import Invalid
from refloat.domain.ids import execution_id
from refloat.domain.progress import TERMINAL
from refloat.domain.resources import Environment, Stage
from refloat.domain.services import Service
from refloat.execution.places import addresses_of
from refloat.execution.snapshot import Addresses, compile_environment
from refloat.planning.plan import StepName
from refloat.planning.wanted import fingerprint
from refloat.store import applied as applied_store
from refloat.store import deployments as store
from refloat.store.configuration import Configuration, read_configuration
from refloat.store.database import Reader
from refloat.store.sealing import Sealer

Body = dict[str, Any]

_KINDS = ("applications", "containers", "jobs", "databases", "helms", "terraforms")
_LIST_OF = {kind.removesuffix("s"): kind for kind in _KINDS}
_NEVER, _CURRENT, _STALE = "NEVER_DEPLOYED", "UP_TO_DATE", "OUT_OF_DATE"


def timestamp(at: datetime) -> str:
    """RFC 3339, UTC, always with microseconds: clients tell log lines apart by it."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class EnvironmentView:
    """Everything the status of one environment is rendered from, read at one instant."""

    def __init__(
        self,
        environment: Environment,
        services: Sequence[Service],
        stages: Sequence[Stage],
        newest: Deployment | None,
        running: Deployment | None,
        targets: Mapping[str, Sequence[Target]],
        latest: Mapping[str, Target],
        counts: Mapping[str, int],
        numbers: Mapping[str, int | None],
        steps: Sequence[Step],
        freshness: Mapping[str, str],
    ) -> None:
        self._environment = environment
        self._services = services
        self._stages = stages
        self._newest = newest
        self._running = running
        self._targets = targets
        self._latest = latest
        self._counts = counts
        self._numbers = numbers
        self._steps = steps
        self._freshness = freshness

    # -- the environment

    def environment(self) -> Body:
        """`EnvironmentStatus`: every key always present."""
        newest, shown = self._newest, self._running or self._newest
        ended = newest.finished_at if newest else None
        started = newest.started_at if newest else None
        total = round((ended - started).total_seconds()) if started and ended else None
        return {
            "id": self._environment.id,
            "state": self._state(),
            "last_deployment_date": timestamp(newest.started_at or newest.created_at) if newest else None,
            "last_deployment_state": self._state_of(newest),
            "last_deployment_id": self._execution(shown),
            "total_deployment_duration_in_seconds": total,
            "origin": newest.request.origin if newest else None,
            "triggered_by": newest.request.triggered_by if newest else None,
            "deployment_status": self._environment_freshness(),
            "deployment_request_id": newest.id if newest else None,
            "metrics": self._stage_metrics(),
        }

    def _state(self) -> State:
        if self._running:
            return self._state_of(self._running)
        newest = self._newest
        if newest and (not newest.ended or self._covers_all(newest)):
            return self._state_of(newest)
        return resting_state(self._service_state(s.id) for s in self._services)

    def _covers_all(self, deployment: Deployment) -> bool:
        covered = {t.service_id for t in self._targets[deployment.id]}
        return all(s.id in covered or s.is_skipped for s in self._services)

    def _state_of(self, deployment: Deployment | None) -> State:
        return deployment_state(deployment, self._targets[deployment.id]) if deployment else State.READY

    def _execution(self, deployment: Deployment | None) -> str | None:
        """The execution id of the deployment, or of the last one that has a number."""
        numbers = [n for n in self._numbers.values() if n is not None]
        number = deployment.number if deployment and deployment.number else max(numbers, default=None)
        return execution_id(self._environment.id, number) if number else None

    def _environment_freshness(self) -> str:
        seen = {self._freshness[s.id] for s in self._services if not s.is_skipped}
        if not seen - {_NEVER}:
            return _NEVER
        return _CURRENT if seen == {_CURRENT} else _STALE

    def _stage_metrics(self) -> list[Body]:
        shown = self._running or self._newest
        if shown is None:
            return []
        by_stage: dict[str, list[Target]] = {}
        for target in self._targets[shown.id]:
            by_stage.setdefault(target.stage_id, []).append(target)
        return [_stage_metrics(stage_id, members) for stage_id, members in by_stage.items()]

    # -- services

    def _service_state(self, service_id: str) -> State:
        target = self._latest.get(service_id)
        return service_state(target.action, target.phase) if target else State.READY

    def service(self, service: Service) -> Body:
        """`Status` of one service. `last_deployment_date` is absent before the first deployment."""
        target = self._latest.get(service.id)
        shown = self._running or self._newest
        body: Body = {
            "id": service.id,
            "state": self._service_state(service.id),
            "service_deployment_status": self._freshness[service.id],
            "is_part_last_deployment": bool(target and shown and target.deployment_id == shown.id),
            "status_details": status_details(target),
            "deployment_request_id": target.deployment_id if target else None,
            "deployment_requests_count": self._counts.get(service.id, 0),
        }
        if target:
            number = self._numbers.get(target.deployment_id)
            if number:
                body["execution_id"] = execution_id(self._environment.id, number)
            if target.started_at:
                body["last_deployment_date"] = timestamp(target.started_at)
            steps = [s for s in self._steps if s.service_id == service.id]
            body["steps"] = service_metrics(target, steps)
        return body

    def services_of(self, services: Iterable[Service]) -> dict[str, list[Body]]:
        """Statuses by kind, every kind's key present."""
        found: dict[str, list[Body]] = {kind: [] for kind in _KINDS}
        for service in services:
            found[_LIST_OF[service.kind]].append(self.service(service))
        return found

    def flat(self) -> Body:
        """`EnvironmentStatuses`."""
        return {"environment": self.environment(), **self.services_of(self._services)}

    def by_stage(self) -> Body:
        """`EnvironmentStatusesWithStages`."""
        body = {"environment": self.environment(), "stages": [self._stage(s) for s in self._stages]}
        precheck = self._precheck()
        return {**body, "pre_check_stage": precheck} if precheck else body

    def _stage(self, stage: Stage) -> Body:
        members = [s for s in self._services if s.stage_id == stage.id]
        shown = self._running or self._newest
        part = [t for t in self._targets[shown.id] if t.stage_id == stage.id] if shown else []
        return {
            "stage": {
                "id": stage.id,
                "name": stage.name,
                "description": stage.description or "",
                "status": stage_status([t.phase for t in part]),
                "steps": _stage_metrics(stage.id, part),
            },
            **self.services_of(members),
        }

    def _precheck(self) -> Body | None:
        found = [s for s in self._steps if s.name == StepName.PRECHECK]
        if not found:
            return None
        return {"status": _metric_status(found[0]), "total_duration_sec": _seconds(found[0])}


def status_details(target: Target | None) -> Body:
    """`StatusDetails` of a service."""
    if target is None:
        return {"action": "UNKNOWN", "status": ActionStatus.NEVER, "sub_action": "NONE"}
    return {
        "action": target.action.upper(),
        "status": action_status(target.phase),
        "sub_action": "NONE",
    }


_METRIC_NAMES = {
    StepName.BUILD: "BUILD",
    StepName.EXECUTE: "DEPLOYMENT",
    StepName.PREPARE: "DEPLOYMENT",
    StepName.READY: "DEPLOYMENT",
    StepName.SWITCH: "ROUTER_DEPLOYMENT",
    StepName.VERIFY: "ROUTER_DEPLOYMENT",
}
"""EXECUTING is left out: clients from before September 2025 refuse every status that names it, for ever."""


def service_metrics(target: Target, steps: Iterable[Step]) -> Body:
    """`ServiceStepMetrics`: whole seconds of each published step name; the total is null while it runs."""
    sums: dict[str, tuple[str, float]] = {}
    for step in steps:
        name = _METRIC_NAMES.get(StepName(step.name))
        if name and step.finished_at:
            status, before = sums.get(name, ("SUCCESS", 0.0))
            worst = _metric_status(step) if status == "SUCCESS" else status
            sums[name] = worst, before + (step.finished_at - step.started_at).total_seconds()
    details = [{"step_name": n, "status": s, "duration_sec": round(d)} for n, (s, d) in sums.items()]
    return {
        "total_duration_sec": _between(target.started_at, target.finished_at),
        "total_computing_duration_sec": round(sum(d for _, d in sums.values())),
        "details": details,
    }


def _stage_metrics(stage_id: str, members: Sequence[Target]) -> Body:
    """`StageStepMetrics`. No detail is TOTAL, which is there already, and which older clients refuse."""
    ends = [t.finished_at for t in members]
    starts = [t.started_at for t in members if t.started_at]
    over = bool(members) and all(t.phase in TERMINAL for t in members)
    total = None
    if over and starts:
        total = round((max(e for e in ends if e) - min(starts)).total_seconds())
    return {"stage_id": stage_id, "total_duration_sec": total, "details": []}


def _metric_status(step: Step) -> str:
    return {"done": "SUCCESS", "failed": "ERROR", "canceled": "CANCEL"}.get(step.outcome or "", "SUCCESS")


def _seconds(step: Step) -> int | None:
    return _between(step.started_at, step.finished_at)


def _between(start: datetime | None, end: datetime | None) -> int | None:
    return round((end - start).total_seconds()) if start and end else None


async def view(context: Context, environment: Environment) -> EnvironmentView:
    """Read an environment's status; all of it at one instant."""
    addresses = await addresses_of(
        context.database.read, context.platforms, environment, context.settings.domain
    )
    async with context.database.snapshot() as read:
        return await _view(read, context.sealer, environment, addresses)


async def _view(
    read: Reader, sealer: Sealer, environment: Environment, addresses: Addresses
) -> EnvironmentView:
    configuration = await read_configuration(read, environment)
    services = configuration.services
    stages = sorted(configuration.stages, key=lambda s: s.position)
    waiting = await store.open_deployments(read, environment.id)
    running = waiting[0] if waiting and waiting[0].owner else None
    newest = await store.latest(read, environment.id)
    claimed = await store.latest_claimed(read, environment.id)
    known = {d.id: d for d in (newest, running, claimed) if d}
    targets = {i: await store.targets(read, i) for i in known}
    latest: dict[str, Target] = {}
    counts = await store.open_target_counts(read, environment.id)
    for service in services:
        history = await store.target_history(read, service.id, 20)
        if history:
            latest[service.id] = _shown_target(history, running)
    for target in latest.values():
        if target.deployment_id not in known:
            found = await store.find_deployment(read, target.deployment_id)
            if found:
                known[found.id] = found
    shown = running or newest
    return EnvironmentView(
        environment,
        services,
        stages,
        newest,
        running,
        targets,
        latest,
        counts,
        {i: d.number for i, d in known.items()},
        await store.steps(read, shown.id) if shown else (),
        await freshness(read, sealer, environment, configuration, addresses),
    )


def _shown_target(history: Sequence[Target], running: Deployment | None) -> Target:
    """A running deployment hides requests that wait behind it."""
    for target in history:
        if running and target.deployment_id == running.id:
            return target
    return history[0]


async def freshness(
    read: Reader,
    sealer: Sealer,
    environment: Environment,
    configuration: Configuration,
    addresses: Addresses,
) -> dict[str, str]:
    """NEVER_DEPLOYED, UP_TO_DATE or OUT_OF_DATE for each service, by comparing fingerprints."""
    try:
        compiled = await compile_environment(read, sealer, environment, addresses, configuration)
    except Invalid:  # a variable that cannot be resolved: what runs is surely not that
        compiled = None
    services = configuration.services
    if compiled is None:
        applied = await applied_store.applied_documents(read, environment.id)
        return {s.id: _STALE if s.id in applied else _NEVER for s in services}
    before = compiled.snapshot.before
    found = {}
    for service in services:
        known = before.get(service.id)
        if known is None:
            found[service.id] = _NEVER
        else:
            same = fingerprint(known.fields) == fingerprint(compiled.snapshot.fields[service.id])
            found[service.id] = _CURRENT if same else _STALE
    return found


def overlaid(body: Body) -> Body:
    """One object that satisfies both published schemas of `POST /environment/{id}/deploy`: clients
    decode a service status there, and find an environment's."""
    return {
        "service_deployment_status": body["deployment_status"],
        "is_part_last_deployment": True,
        "status_details": {"action": "DEPLOY", "status": ActionStatus.QUEUED, "sub_action": "NONE"},
        "deployment_requests_count": 1,
        **body,
    }
