"""What a cluster cannot run is refused with the reason, and with what would run it."""

from datetime import UTC, datetime

import pytest

from refloat.control.support import require_runnable
from refloat.domain.errors import Invalid
from refloat.domain.revision import Capabilities
from refloat.domain.services import Database, DatabaseMode, DatabaseType

_DAY = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("type", "version", "mode", "words"),
    [
        (
            "REDIS",
            "7",
            "CONTAINER",
            "there is no REDIS on this cluster; install the Debian package redis-server",
        ),
        ("REDIS", "7", "CONTAINER", "or refloat[databases] and start the server again"),
        ("POSTGRESQL", "14", "CONTAINER", "there is no POSTGRESQL 14 on this cluster, only 15; install"),
        ("POSTGRESQL", "14", "CONTAINER", "the Debian package postgresql-14 and start the server again"),
        ("MYSQL", "8", "CONTAINER", "there is no MYSQL on this cluster; it needs a cluster with Docker"),
        ("REDIS", "7", "MANAGED", "managed databases belong to a cloud provider; use the mode CONTAINER"),
    ],
)
def test_a_database_that_cannot_run_names_what_would_run_it(
    type: str, version: str, mode: str, words: str
) -> None:
    cluster = Capabilities(
        kind="local",
        service_kinds=("application", "database"),
        isolation=False,
        limits=False,
        databases={"POSTGRESQL": ("15",)},
    )
    database = Database(
        id="1",
        parent="2",
        created_at=_DAY,
        updated_at=_DAY,
        name="store",
        stage_id="3",
        type=DatabaseType(type),
        version=version,
        mode=DatabaseMode(mode),
    )
    with pytest.raises(Invalid, match="store cannot be deployed") as refused:
        require_runnable(cluster, database)
    assert words in str(refused.value)
