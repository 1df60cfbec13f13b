"""What a deployment may take at most, all deadlines written down a second time, and how services progress."""

from refloat.domain.progress import ARROWS, Phase
from tests.simulation.seeded.records import DeploymentRow

JOB_SECONDS = 60
HURRIED_SECONDS = 1
"""Of jobs whose attempts are often ended for taking too long."""
JOB_REPEATS = 1
_SECONDS = {
    "build": 1830,
    "execute": 600,
    "prepare": 60,
    "ready": 150,
    "switch": 15,
    "verify": 60,
    "withdraw": 15,
    "drain": 45,
    "stop": 80,
    "destroy": 60,
}
_PRECHECK, _REVERT, _DISCARD = 120, 180, 80


def longest(it: DeploymentRow) -> float:
    """The sum of all deadlines of a claimed deployment: every step one after the other, and undone."""
    steps = sum(_SECONDS[name] for service in it.planned.values() for name in service["steps"])
    return _PRECHECK + steps + len(it.planned) * (_REVERT + 2 * _DISCARD)


def _reachable() -> dict[str, frozenset[str]]:
    """Phases that may be seen after a phase when looks are rarer than steps."""
    found: dict[str, frozenset[str]] = {}
    for phase in Phase:
        seen, border = {phase}, {phase}
        while border := {n for p in border for n in ARROWS[p]} - seen:
            seen |= border
        found[str(phase)] = frozenset(str(p) for p in seen)
    return found


AFTER = _reachable()
