"""The first schema."""

from alembic import op
from sqlalchemy import Column, text

from refloat.store.migrations.columns import INTEGER, TEXT

revision = "0001"
down_revision = None

OPEN = text("ended = 0")
RUNNING = text("owner IS NOT NULL AND ended = 0")


def upgrade() -> None:
    _resources()
    _deployments()
    _steps()
    _events()
    op.create_table(
        "applied",
        Column("service_id", TEXT, primary_key=True),
        Column("environment_id", TEXT, nullable=False),
        Column("document", TEXT, nullable=False),
    )
    op.create_index("applied_environment", "applied", ["environment_id"])


def _resources() -> None:
    op.create_table(
        "resource",
        Column("id", TEXT, primary_key=True),
        Column("kind", TEXT, nullable=False),
        Column("parent", TEXT, nullable=False),
        Column("name_key", TEXT),
        Column("version", INTEGER, nullable=False),
        Column("document", TEXT, nullable=False),
    )
    op.create_index("resource_name", "resource", ["parent", "name_key"], unique=True)
    op.create_index("resource_children", "resource", ["parent", "kind"])
    op.create_index("resource_kind", "resource", ["kind"])


def _deployments() -> None:
    op.create_table(
        "deployment",
        Column("id", TEXT, primary_key=True),
        Column("environment_id", TEXT, nullable=False),
        Column("number", INTEGER),
        Column("request", TEXT, nullable=False),
        Column("phase", TEXT, nullable=False),
        Column("ended", INTEGER, nullable=False),
        Column("owner", TEXT),
        Column("fence", INTEGER, nullable=False),
        Column("cancel_requested", INTEGER, nullable=False),
        Column("plan", TEXT),
        Column("plan_hash", TEXT),
        Column("snapshot", TEXT),
        Column("reason", TEXT, nullable=False),
        Column("created_at", INTEGER, nullable=False),
        Column("started_at", INTEGER),
        Column("finished_at", INTEGER),
    )
    op.create_index("deployment_history", "deployment", ["environment_id", "id"])
    op.create_index(
        "deployment_open", "deployment", ["environment_id", "id"], sqlite_where=OPEN, postgresql_where=OPEN
    )
    op.create_index(
        "deployment_one_running",
        "deployment",
        ["environment_id"],
        unique=True,
        sqlite_where=RUNNING,
        postgresql_where=RUNNING,
    )


def _steps() -> None:
    op.create_table(
        "target",
        Column("deployment_id", TEXT, primary_key=True),
        Column("service_id", TEXT, primary_key=True),
        Column("stage_position", INTEGER, nullable=False),
        Column("phase", TEXT, nullable=False),
        Column("document", TEXT, nullable=False),
    )
    op.create_index("target_service", "target", ["service_id", "deployment_id"])
    op.create_table(
        "step",
        Column("deployment_id", TEXT, primary_key=True),
        Column("service_id", TEXT, primary_key=True),
        Column("name", TEXT, primary_key=True),
        Column("ordinal", INTEGER, nullable=False),
        Column("attempt", INTEGER, nullable=False),
        Column("fence", INTEGER, nullable=False),
        Column("outcome", TEXT),
        Column("output", TEXT, nullable=False),
        Column("started_at", INTEGER, nullable=False),
        Column("finished_at", INTEGER),
    )


def _events() -> None:
    op.create_table(
        "event",
        Column("sequence", INTEGER, primary_key=True, autoincrement=True),
        Column("deployment_id", TEXT, nullable=False),
        Column("environment_id", TEXT, nullable=False),
        Column("service_id", TEXT, nullable=False),
        Column("at", INTEGER, nullable=False),
        Column("level", TEXT, nullable=False),
        Column("step", TEXT, nullable=False),
        Column("message", TEXT, nullable=False),
        Column("action", TEXT),
        Column("phase", TEXT),
    )
    op.create_index("event_environment", "event", ["environment_id", "sequence"])
    op.create_index("event_deployment", "event", ["deployment_id", "sequence"])
