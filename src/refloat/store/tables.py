"""The schema. Only text and 64-bit integers, so that SQLite and PostgreSQL hold the same values.

A column exists only for what is queried; everything else is in the JSON document beside it.
Times are microseconds since 1970 in UTC. The migrations let text sort by its bytes on both.
"""

import sqlalchemy
from sqlalchemy import BigInteger, Column, Index, MetaData, Table, Text, text

metadata = MetaData()

Integer = sqlalchemy.Integer().with_variant(BigInteger(), "postgresql")

resource = Table(
    "resource",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("parent", Text, nullable=False),
    Column("name_key", Text),  # "<namespace>:<lower-case name>", unique among siblings
    Column("version", Integer, nullable=False),
    Column("document", Text, nullable=False),
    Index("resource_name", "parent", "name_key", unique=True),
    Index("resource_children", "parent", "kind"),
    Index("resource_kind", "kind"),
)

deployment = Table(
    "deployment",
    metadata,
    Column("id", Text, primary_key=True),
    Column("environment_id", Text, nullable=False),
    Column("cluster_id", Text, nullable=False, server_default=""),
    Column("number", Integer),
    Column("request", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("ended", Integer, nullable=False),
    Column("owner", Text),
    Column("fence", Integer, nullable=False),
    Column("cancel_requested", Integer, nullable=False),
    Column("builds", Integer, nullable=False, server_default="0"),
    Column("plan", Text),
    Column("plan_hash", Text),
    Column("snapshot", Text),  # sealed: it holds values
    Column("reason", Text, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("started_at", Integer),
    Column("finished_at", Integer),
    Index("deployment_history", "environment_id", "id"),
    Index("deployment_number", "environment_id", "number"),
    Index(
        "deployment_open",
        "environment_id",
        "id",
        sqlite_where=text("ended = 0"),
        postgresql_where=text("ended = 0"),
    ),
    # The database itself forbids two deployments of one environment at once.
    Index(
        "deployment_one_running",
        "environment_id",
        unique=True,
        sqlite_where=text("owner IS NOT NULL AND ended = 0"),
        postgresql_where=text("owner IS NOT NULL AND ended = 0"),
    ),
)

target = Table(
    "target",
    metadata,
    Column("deployment_id", Text, primary_key=True),
    Column("service_id", Text, primary_key=True),
    Column("stage_position", Integer, nullable=False),
    Column("phase", Text, nullable=False),
    Column("document", Text, nullable=False),
    Index("target_service", "service_id", "deployment_id"),
)

step = Table(
    "step",
    metadata,
    Column("deployment_id", Text, primary_key=True),
    Column("service_id", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("ordinal", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("outcome", Text),
    Column("output", Text, nullable=False),
    Column("started_at", Integer, nullable=False),
    Column("finished_at", Integer),
)

event = Table(
    "event",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("deployment_id", Text, nullable=False),
    Column("environment_id", Text, nullable=False),
    Column("service_id", Text, nullable=False),
    Column("at", Integer, nullable=False),
    Column("level", Text, nullable=False),
    Column("step", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("action", Text),
    Column("phase", Text),
    Index("event_environment", "environment_id", "sequence"),
    Index("event_deployment", "deployment_id", "sequence"),
)

applied = Table(
    "applied",
    metadata,
    Column("service_id", Text, primary_key=True),
    Column("environment_id", Text, nullable=False),
    Column("document", Text, nullable=False),  # what serves now; its values sealed
    Index("applied_environment", "environment_id"),
)

replica = Table(
    "replica",
    metadata,
    Column("id", Text, primary_key=True),
    Column("node", Text, nullable=False),
    Column("beat", Integer, nullable=False),  # by the database's clock
)

node = Table(
    "node",
    metadata,
    Column("id", Text, primary_key=True),
    Column("leader", Text, nullable=False),  # the replica that works here
    Column("term", Integer, nullable=False),  # grows with every new leader
)

fact = Table(
    "fact",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

address = Table(
    "address",
    metadata,
    Column("service_id", Text, primary_key=True),
    Column("environment_id", Text, nullable=False),
    Column("document", Text, nullable=False),  # as the node of its cluster gave it out
    Index("address_environment", "environment_id"),
)
