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
    plan: dict[str, Any]
    verb: str

    def services(self) -> dict[str, dict[str, Any]]:
        """The planned services by id."""
        return {s["service_id"]: s for stage in self.plan.get("stages", ()) for s in stage["services"]}


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


_DEPLOYMENTS = "SELECT rowid, * FROM deployment WHERE ended = 0 OR rowid > ? OR id IN ({}) ORDER BY rowid"
_TARGETS = "SELECT deployment_id, service_id, document FROM target WHERE deployment_id IN ({})"
_STEPS = "SELECT * FROM step WHERE deployment_id IN ({})"


def read(look: sqlite3.Connection, open_before: list[str], newest: int) -> Records:
    """The deployments that are open, were so at the last look, or are newer than the newest place known
    (one may be accepted and canceled in one commit), with all that belongs to them."""
    found = Records()
    for row in look.execute(_DEPLOYMENTS.format(_marks(open_before)), (newest, *open_before)):
        found.deployments[row["id"]] = DeploymentRow(
            id=row["id"],
            place=row["rowid"],
            environment=row["environment_id"],
            number=row["number"],
            phase=row["phase"],
            ended=bool(row["ended"]),
            owner=row["owner"],
            fence=row["fence"],
            reason=row["reason"],
            plan=msgspec.json.decode(row["plan"]) if row["plan"] else {},
            verb=msgspec.json.decode(row["request"])["verb"],
        )
    ids = list(found.deployments)
    for row in look.execute(_TARGETS.format(_marks(ids)), ids):
        found.targets[row["deployment_id"], row["service_id"]] = msgspec.json.decode(row["document"])
    for row in look.execute(_STEPS.format(_marks(ids)), ids):
        key = row["deployment_id"], row["service_id"], row["name"]
        found.steps[key] = StepRow(row["attempt"], row["outcome"], row["fence"])
    return found


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
