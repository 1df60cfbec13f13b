"""One control plane for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.databases import make_store
from tests.simulation.control_plane import ControlPlane


@pytest.fixture
async def plane(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ControlPlane]:
    """On SQLite; a test marked `on_both_stores` runs on PostgreSQL too."""
    store = make_store(request, getattr(request, "param", "sqlite"), tmp_path)
    made = ControlPlane(tmp_path, store=store)
    await made.start()
    yield made
    await made.close()
