"""Several servers on one database, and what they must know of each other."""

from alembic import op
from sqlalchemy import Column

from refloat.store.migrations.columns import INTEGER, TEXT

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "replica",
        Column("id", TEXT, primary_key=True),
        Column("node", TEXT, nullable=False),
        Column("beat", INTEGER, nullable=False),
    )
    op.create_table(
        "node",
        Column("id", TEXT, primary_key=True),
        Column("leader", TEXT, nullable=False),
        Column("term", INTEGER, nullable=False),
    )
    op.create_table(
        "fact",
        Column("name", TEXT, primary_key=True),
        Column("value", TEXT, nullable=False),
    )
    op.create_table(
        "address",
        Column("service_id", TEXT, primary_key=True),
        Column("environment_id", TEXT, nullable=False),
        Column("document", TEXT, nullable=False),
    )
    op.create_index("address_environment", "address", ["environment_id"])
