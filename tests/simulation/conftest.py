"""One control plane for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.simulation.control_plane import ControlPlane


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    made = ControlPlane(tmp_path)
    await made.start()
    yield made
    await made.close()
