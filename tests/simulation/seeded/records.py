"""What the database says at one instant, read beside the product, and what changed since the last look."""

import sqlite3
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from tests.simulation.seeded.remembered import Tables


@dataclass
class DeploymentRow:
    """One deployment as stored; `place` is its place in the order of acceptance."""

    id: str
    place: int
    environment: str
    number: int | None
    phase: str
    ended: bool
    owner: str | None
    fence: int
    reason: str
    planned: dict[str, dict[str, Any]]
    """The planned services by id; none before it is claimed."""
    verb: str
    builds: int
    """How many are reserved for it."""
    cancel_requested: bool
    request: dict[str, Any]


class StepRow(NamedTuple):
    attempt: int
    outcome: str | None
    fence: int


Key = tuple[str, str]
"""Of a service in a deployment."""


@dataclass(frozen=True)
class Records:
    """Everything about deployments that checks need, and what became different since the last look."""

    deployments: dict[str, DeploymentRow] = field(default_factory=dict)
    targets: dict[Key, dict[str, Any]] = field(default_factory=dict)
    steps: dict[tuple[str, str, str], StepRow] = field(default_factory=dict)
    texts: dict[Key, str] = field(default_factory=dict)
    """The documents of targets as stored: one that did not change is not opened again."""


_DEPLOYMENTS = (
    "SELECT rowid, id, environment_id, number, phase, ended, owner, fence, builds, cancel_requested, request"
    " FROM deployment"
    " WHERE ended = 0 OR rowid > ? OR id IN ({}) ORDER BY rowid"
)
_REASON = "SELECT reason FROM deployment WHERE id = ?"  # behind large columns: read when it is there
_PLAN = "SELECT plan FROM deployment WHERE id = ?"
_TARGETS = "SELECT deployment_id, service_id, document FROM target WHERE deployment_id IN ({})"
_STEPS = (
    "SELECT deployment_id, service_id, name, attempt, outcome, fence FROM step WHERE deployment_id IN ({})"
)


def read(look: sqlite3.Connection, before: Records, newest: int, written: Tables) -> Records:
    """The deployments that are open, were so at the last look, or are newer than the newest place known
    (one may be accepted and canceled in one commit), with all that belongs to them. Of tables that were not
    written to, what was known is still so."""
    look.execute("BEGIN")
    try:
        if "deployment" not in written and all(not it.ended for it in before.deployments.values()):
            deployments = before.deployments
        else:
            deployments = _deployments(look, before, newest)
        same = deployments.keys() == before.deployments.keys()
        ids = list(deployments)
        targets, texts = before.targets, before.texts
        if "target" in written or not same:
            targets, texts = _targets(look, before, ids)
        steps = before.steps
        if "step" in written or not same:
            steps = _steps(look, ids)
        return Records(deployments, targets, steps, texts)
    finally:
        look.execute("COMMIT")


def _deployments(look: sqlite3.Connection, before: Records, newest: int) -> dict[str, DeploymentRow]:
    were_open = [it.id for it in before.deployments.values() if not it.ended]
    rows = look.execute(_DEPLOYMENTS.format(_marks(were_open)), (newest, *were_open))
    return {row["id"]: _deployment(look, row, before.deployments.get(row["id"])) for row in rows}


def _targets(
    look: sqlite3.Connection, before: Records, ids: list[str]
) -> tuple[dict[Key, dict[str, Any]], dict[Key, str]]:
    targets, texts = {}, {}
    for deployment, service, document in look.execute(_TARGETS.format(_marks(ids)), ids):
        key = deployment, service
        same = before.texts.get(key) == document
        targets[key] = before.targets[key] if same else msgspec.json.decode(document)
        texts[key] = document
    return targets, texts


def _steps(look: sqlite3.Connection, ids: list[str]) -> dict[tuple[str, str, str], StepRow]:
    rows = look.execute(_STEPS.format(_marks(ids)), ids)
    return {
        (deployment, service, name): StepRow(*rest) for deployment, service, name, *rest in map(tuple, rows)
    }


def _deployment(look: sqlite3.Connection, row: sqlite3.Row, before: DeploymentRow | None) -> DeploymentRow:
    """A plan is written once, by the claim."""
    if before is not None and before.number == row["number"]:
        planned = before.planned
    else:
        planned = _planned(look.execute(_PLAN, (row["id"],)).fetchone()["plan"])
    request = before.request if before else msgspec.json.decode(row["request"])  # who asked stays the same
    return DeploymentRow(
        id=row["id"],
        place=row["rowid"],
        environment=row["environment_id"],
        number=row["number"],
        phase=row["phase"],
        ended=bool(row["ended"]),
        owner=row["owner"],
        fence=row["fence"],
        reason=look.execute(_REASON, (row["id"],)).fetchone()["reason"] if row["ended"] else "",
        planned=planned,
        verb=request["verb"],
        builds=row["builds"],
        cancel_requested=bool(row["cancel_requested"]),
        request=request,
    )


def _planned(plan: str | None) -> dict[str, dict[str, Any]]:
    stages = msgspec.json.decode(plan)["stages"] if plan else ()
    return {s["service_id"]: s for stage in stages for s in stage["services"]}


def _marks(ids: list[str]) -> str:
    return ",".join("?" * len(ids))


def open_step(known: Records, service: str, names: tuple[str, ...], owner: str) -> bool:
    """Whether one of these steps of the service is written down as begun by this owner, and not ended."""
    for (deployment, of, name), step in known.steps.items():
        if of == service and step.outcome is None and name in names:
            it = known.deployments[deployment]
            if not it.ended and it.owner == owner and it.fence == step.fence:
                return True
    return False


def applied(look: sqlite3.Connection) -> dict[str, dict[str, Any]]:
    """What is recorded as serving, by service."""
    return {
        row["service_id"]: msgspec.json.decode(row["document"])
        for row in look.execute("SELECT * FROM applied")
    }
