"""What a running deployment takes of its cluster."""

from alembic import op
from sqlalchemy import Column

from refloat.store.migrations.columns import INTEGER, TEXT

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("deployment", Column("cluster_id", TEXT, nullable=False, server_default=""))
    op.add_column("deployment", Column("builds", INTEGER, nullable=False, server_default="0"))
