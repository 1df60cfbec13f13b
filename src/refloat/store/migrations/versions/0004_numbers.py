"""The number of an execution leads to it, however long the history of its environment is."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_index("deployment_number", "deployment", ["environment_id", "number"])
