"""For every test: the server log is its own; `store` runs it on both stores, `interruptible` obeys Ctrl-C."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

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


@pytest.fixture(autouse=True)
def _server_log() -> Iterator[None]:
    """A server that a test began in this process goes on to write to the test's output, which is closed."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C reaches the programs of this test: a script that runs the tests with & had it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
