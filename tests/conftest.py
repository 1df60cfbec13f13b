"""Stores for every test: `store` runs a test on both."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import STORES, PostgresServer, Store, make_store, start_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One private PostgreSQL for all tests; each takes a database of its own."""
    server = start_postgres()
    yield server
    server.remove()


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A migrated, empty database on each of the two stores."""
    return make_store(request, str(request.param), tmp_path)
