"""Real installations: one for a module that does not break it, one of its own for a test that does."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.e2e.installation import Installation


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the users of services can pass through, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="refloat-", ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture
async def installation(folder: Path) -> AsyncIterator[Installation]:
    """A started server on an empty data directory."""
    made = Installation(folder)
    made.start()
    yield made
    await made.remove()
