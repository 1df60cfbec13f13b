"""What unit tests share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from api_support import Api, running


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    """The HTTP interface of a fresh installation."""
    async with running(tmp_path) as made:
        yield made
