"""Progress is a pair (action, phase); this table is the only place that says what may follow what.

The published state names are a rendering of the pair (`api.states`) and are stored nowhere.
"""

from enum import StrEnum

from refloat.domain.errors import IllegalTransition


class Action(StrEnum):
    """What a deployment does to a service. Uninstall and delete share one: both remove."""

    DEPLOY = "deploy"
    RESTART = "restart"
    STOP = "stop"
    DELETE = "delete"


class Phase(StrEnum):
    """How far it is."""

    ACCEPTED = "accepted"
    """Recorded behind another deployment of the same environment that has not ended."""
    QUEUED = "queued"
    """Next in line, or claimed and its stage not begun."""
    WAITING = "waiting"
    """Its stage runs; waiting for a place to work."""
    BUILDING = "building"
    RUNNING = "running"
    """The engine and the router work on it."""
    EXECUTING = "executing"
    """A command of the service runs to its end (a release command, a job)."""
    DONE = "done"
    FAILED = "failed"
    BUILD_FAILED = "build_failed"
    """Failed before anything that runs was touched."""
    CANCELING = "canceling"
    CANCELED = "canceled"


TERMINAL = frozenset({Phase.DONE, Phase.FAILED, Phase.BUILD_FAILED, Phase.CANCELED})

_BEFORE_WORK = frozenset({Phase.FAILED, Phase.CANCELED})
_WORK_ENDS = frozenset({Phase.DONE, Phase.FAILED, Phase.CANCELING})

ARROWS: dict[Phase, frozenset[Phase]] = {
    Phase.ACCEPTED: frozenset({Phase.QUEUED}) | _BEFORE_WORK,
    Phase.QUEUED: frozenset({Phase.WAITING, Phase.BUILD_FAILED}) | _BEFORE_WORK,
    Phase.WAITING: frozenset({Phase.BUILDING, Phase.RUNNING}) | _BEFORE_WORK,
    Phase.BUILDING: frozenset({Phase.RUNNING, Phase.EXECUTING, Phase.BUILD_FAILED, Phase.CANCELING}),
    Phase.RUNNING: frozenset({Phase.EXECUTING}) | _WORK_ENDS,
    Phase.EXECUTING: frozenset({Phase.RUNNING}) | _WORK_ENDS,
    Phase.CANCELING: frozenset({Phase.CANCELED, Phase.DONE, Phase.FAILED, Phase.BUILD_FAILED}),
    Phase.DONE: frozenset(),
    Phase.FAILED: frozenset(),
    Phase.BUILD_FAILED: frozenset(),
    Phase.CANCELED: frozenset(),
}

_DEPLOY_ONLY = frozenset({Phase.BUILDING, Phase.EXECUTING, Phase.BUILD_FAILED})


def legal(action: Action, phase: Phase) -> bool:
    """Whether the pair can occur: only a deploy builds and executes."""
    return action is Action.DEPLOY or phase not in _DEPLOY_ONLY


def advance(action: Action, current: Phase, following: Phase) -> Phase:
    """`following`, if an arrow leads there; staying is always allowed, so that repeats are harmless."""
    if following is current:
        return current
    if following not in ARROWS[current] or not legal(action, following):
        raise IllegalTransition(f"no arrow leads from {action} {current} to {following}")
    return following
