"""The 28 published state names: a rendering of (action, phase), stored nowhere.

Three of them are not a pair: READY (nothing was ever asked), and RECAP (the last log line of a deployment);
QUEUED is whatever waits behind another deployment. Values published later are left out, because
clients that know only these 28 fail on others.
"""

from collections.abc import Collection, Iterable
from enum import StrEnum

from refloat.domain.deployment import Deployment, Target
from refloat.domain.progress import TERMINAL, Action, Phase


class State(StrEnum):
    BUILDING = "BUILDING"
    BUILD_ERROR = "BUILD_ERROR"
    CANCELED = "CANCELED"
    CANCELING = "CANCELING"
    DELETED = "DELETED"
    DELETE_ERROR = "DELETE_ERROR"
    DELETE_QUEUED = "DELETE_QUEUED"
    DELETING = "DELETING"
    DEPLOYED = "DEPLOYED"
    DEPLOYING = "DEPLOYING"
    DEPLOYMENT_ERROR = "DEPLOYMENT_ERROR"
    DEPLOYMENT_QUEUED = "DEPLOYMENT_QUEUED"
    EXECUTING = "EXECUTING"
    QUEUED = "QUEUED"
    READY = "READY"
    RECAP = "RECAP"
    RESTARTED = "RESTARTED"
    RESTARTING = "RESTARTING"
    RESTART_ERROR = "RESTART_ERROR"
    RESTART_QUEUED = "RESTART_QUEUED"
    STOPPED = "STOPPED"
    STOPPING = "STOPPING"
    STOP_ERROR = "STOP_ERROR"
    STOP_QUEUED = "STOP_QUEUED"
    WAITING_DELETING = "WAITING_DELETING"
    WAITING_RESTARTING = "WAITING_RESTARTING"
    WAITING_RUNNING = "WAITING_RUNNING"
    WAITING_STOPPING = "WAITING_STOPPING"


_SAME_FOR_ALL = {
    Phase.ACCEPTED: State.QUEUED,
    Phase.CANCELING: State.CANCELING,
    Phase.CANCELED: State.CANCELED,
}
_BY_ACTION = {
    Action.DEPLOY: {
        Phase.QUEUED: State.DEPLOYMENT_QUEUED,
        Phase.WAITING: State.WAITING_RUNNING,
        Phase.BUILDING: State.BUILDING,
        Phase.RUNNING: State.DEPLOYING,
        Phase.EXECUTING: State.EXECUTING,
        Phase.DONE: State.DEPLOYED,
        Phase.FAILED: State.DEPLOYMENT_ERROR,
        Phase.BUILD_FAILED: State.BUILD_ERROR,
    },
    Action.RESTART: {
        Phase.QUEUED: State.RESTART_QUEUED,
        Phase.WAITING: State.WAITING_RESTARTING,
        Phase.RUNNING: State.RESTARTING,
        Phase.DONE: State.RESTARTED,
        Phase.FAILED: State.RESTART_ERROR,
    },
    Action.STOP: {
        Phase.QUEUED: State.STOP_QUEUED,
        Phase.WAITING: State.WAITING_STOPPING,
        Phase.RUNNING: State.STOPPING,
        Phase.DONE: State.STOPPED,
        Phase.FAILED: State.STOP_ERROR,
    },
    Action.DELETE: {
        Phase.QUEUED: State.DELETE_QUEUED,
        Phase.WAITING: State.WAITING_DELETING,
        Phase.RUNNING: State.DELETING,
        Phase.DONE: State.DELETED,
        Phase.FAILED: State.DELETE_ERROR,
    },
}


def service_state(action: Action, phase: Phase) -> State:
    """The state of a service; total over every legal pair."""
    return _SAME_FOR_ALL.get(phase) or _BY_ACTION[action][phase]


_ENVIRONMENT_PHASE = {Phase.WAITING: Phase.QUEUED, Phase.EXECUTING: Phase.RUNNING}
"""Clients that watch an environment fail on WAITING_* and EXECUTING, so it never shows them."""

_STARTED = (Phase.BUILDING, Phase.EXECUTING, Phase.RUNNING)


def environment_state(action: Action, phase: Phase) -> State:
    """The state of an environment whose deployment is as far as `phase`."""
    return service_state(action, _ENVIRONMENT_PHASE.get(phase, phase))


def deployment_state(deployment: Deployment, targets: Collection[Target]) -> State:
    """The state of one deployment as a whole.

    While it runs it is as far as its busiest service; between two stages it does not fall back.
    """
    return environment_state(deployment.action, _overall_phase(deployment, targets))


def _overall_phase(deployment: Deployment, targets: Collection[Target]) -> Phase:
    if deployment.phase is not Phase.RUNNING:
        return deployment.phase
    phases = {target.phase for target in targets}
    for phase in _STARTED:
        if phase in phases:
            return phase
    begun = any(t.started_at or t.phase in TERMINAL for t in targets)
    return Phase.RUNNING if begun else Phase.QUEUED


_WORST_FIRST = (
    State.BUILD_ERROR,
    State.DEPLOYMENT_ERROR,
    State.RESTART_ERROR,
    State.STOP_ERROR,
    State.DELETE_ERROR,
    State.DEPLOYED,
    State.RESTARTED,
    State.STOPPED,
    State.CANCELED,
    State.DELETED,
)


def resting_state(states: Iterable[State]) -> State:
    """The state of an environment at rest, from those of its services."""
    present = set(states)
    return next((state for state in _WORST_FIRST if state in present), State.READY)


class ActionStatus(StrEnum):
    """`status_details.status`, and `action_status` of history."""

    QUEUED = "QUEUED"
    ONGOING = "ONGOING"
    SUCCESS = "SUCCESS"
    ERROR = "ERROR"
    EXECUTING = "EXECUTING"
    CANCELED = "CANCELED"
    CANCELING = "CANCELING"
    NEVER = "NEVER"


_ACTION_STATUS = {
    Phase.ACCEPTED: ActionStatus.QUEUED,
    Phase.QUEUED: ActionStatus.QUEUED,
    Phase.WAITING: ActionStatus.QUEUED,
    Phase.BUILDING: ActionStatus.ONGOING,
    Phase.RUNNING: ActionStatus.ONGOING,
    Phase.EXECUTING: ActionStatus.EXECUTING,
    Phase.DONE: ActionStatus.SUCCESS,
    Phase.FAILED: ActionStatus.ERROR,
    Phase.BUILD_FAILED: ActionStatus.ERROR,
    Phase.CANCELING: ActionStatus.CANCELING,
    Phase.CANCELED: ActionStatus.CANCELED,
}


def action_status(phase: Phase) -> ActionStatus:
    """The same phase in the coarser words of `status_details`."""
    return _ACTION_STATUS[phase]


class StageStatus(StrEnum):
    QUEUED = "QUEUED"
    ONGOING = "ONGOING"
    DONE = "DONE"
    ERROR = "ERROR"
    SKIPPED = "SKIPPED"
    CANCELED = "CANCELED"


def stage_status(phases: Collection[Phase]) -> StageStatus:
    """The status of a stage from the phases of its services; a stage without any is skipped."""
    if not phases:
        return StageStatus.SKIPPED
    if all(p in TERMINAL for p in phases):
        if any(p in (Phase.FAILED, Phase.BUILD_FAILED) for p in phases):
            return StageStatus.ERROR
        return StageStatus.CANCELED if Phase.CANCELED in phases else StageStatus.DONE
    begun = any(p not in (Phase.ACCEPTED, Phase.QUEUED, Phase.WAITING) for p in phases)
    return StageStatus.ONGOING if begun else StageStatus.QUEUED
