"""The data plane needs no server: what `make static` shows for an hour, shown for some seconds."""

from pathlib import Path

from tests.databases import PostgresServer
from tests.e2e.outage import measure

SECONDS = 5.0


async def test_while_every_server_is_dead_nothing_fails_and_what_dies_is_started_again(
    folder: Path, postgres: PostgresServer
) -> None:
    figures = await measure(folder, postgres, SECONDS)
    assert figures.complaints() == [], figures.as_dict()
