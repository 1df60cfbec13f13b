"""What the database says at one instant, read beside the product, and what changed since the last look."""

import sqlite3
from dataclasses import dataclass, field
from typing import Any

import msgspec


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


@dataclass
class StepRow:
    attempt: int
    outcome: str | None
    fence: int


@dataclass
class Records:
    """Everything about deployments that checks need."""

    deployments: dict[str, DeploymentRow] = field(default_factory=dict)
    targets: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    steps: dict[tuple[str, str, str], StepRow] = field(default_factory=dict)
    texts: dict[tuple[str, str], str] = field(default_factory=dict)
    """The documents of targets as stored: one that did not change is not opened again."""


_DEPLOYMENTS = (
    "SELECT rowid, id, environment_id, number, phase, ended, owner, fence, request FROM deployment"
    " WHERE ended = 0 OR rowid > ? OR id IN ({}) ORDER BY rowid"
)
_REASON = "SELECT reason FROM deployment WHERE id = ?"  # behind large columns: read when it is there
_PLAN = "SELECT plan FROM deployment WHERE id = ?"
_TARGETS = "SELECT deployment_id, service_id, document FROM target WHERE deployment_id IN ({})"
_STEPS = (
    "SELECT deployment_id, service_id, name, attempt, outcome, fence FROM step WHERE deployment_id IN ({})"
)


def read(look: sqlite3.Connection, before: Records, newest: int) -> Records:
    """The deployments that are open, were so at the last look, or are newer than the newest place known
    (one may be accepted and canceled in one commit), with all that belongs to them."""
    look.execute("BEGIN")
    try:
        return _read(look, before, newest)
    finally:
        look.execute("COMMIT")


def _read(look: sqlite3.Connection, before: Records, newest: int) -> Records:
    found = Records()
    were_open = [it.id for it in before.deployments.values() if not it.ended]
    for row in look.execute(_DEPLOYMENTS.format(_marks(were_open)), (newest, *were_open)):
        found.deployments[row["id"]] = _deployment(look, row, before.deployments.get(row["id"]))
    ids = list(found.deployments)
    for deployment, service, document in look.execute(_TARGETS.format(_marks(ids)), ids):
        key = deployment, service
        same = before.texts.get(key) == document
        found.targets[key] = before.targets[key] if same else msgspec.json.decode(document)
        found.texts[key] = document
    for deployment, service, name, *rest in look.execute(_STEPS.format(_marks(ids)), ids):
        found.steps[deployment, service, name] = StepRow(*rest)
    return found


def _deployment(look: sqlite3.Connection, row: sqlite3.Row, before: DeploymentRow | None) -> DeploymentRow:
    """A plan is written once, by the claim."""
    if before is not None and before.number == row["number"]:
        planned = before.planned
    else:
        planned = _planned(look.execute(_PLAN, (row["id"],)).fetchone()["plan"])
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
        verb=before.verb if before else msgspec.json.decode(row["request"])["verb"],
    )


def _planned(plan: str | None) -> dict[str, dict[str, Any]]:
    stages = msgspec.json.decode(plan)["stages"] if plan else ()
    return {s["service_id"]: s for stage in stages for s in stage["services"]}


def _marks(ids: list[str]) -> str:
    return ",".join("?" * len(ids))


def open_step(look: sqlite3.Connection, service: str, names: tuple[str, ...], owner: str) -> bool:
    """Whether one of these steps of the service is written down as begun by this owner, and not ended."""
    row = look.execute(
        "SELECT 1 FROM step JOIN deployment ON deployment.id = step.deployment_id"
        f" WHERE step.service_id = ? AND step.outcome IS NULL AND step.name IN ({_marks(list(names))})"
        " AND deployment.ended = 0 AND deployment.owner = ? AND deployment.fence = step.fence",
        (service, *names, owner),
    ).fetchone()
    return row is not None


def applied(look: sqlite3.Connection) -> dict[str, dict[str, Any]]:
    """What is recorded as serving, by service."""
    return {
        row["service_id"]: msgspec.json.decode(row["document"])
        for row in look.execute("SELECT * FROM applied")
    }
