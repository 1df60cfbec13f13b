"""Real installations: one for a module that does not break it, one of its own for a test that does."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.e2e.installation import Installation, eventually


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the users of services can pass through, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="refloat-", ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture
async def breakable(folder: Path) -> AsyncIterator[Installation]:
    """A started server on an empty data directory, for one test alone."""
    made = Installation(folder)
    made.start()
    yield made
    await made.remove()


@pytest.fixture
def installation(breakable: Installation) -> Installation:
    """The server of a test; modules that share one say so by a fixture of this name."""
    return breakable


@pytest.fixture(scope="module")
def shared() -> Iterator[Installation]:
    """One server for the tests of a module that do not break it; `cleared` empties it between them."""
    with tempfile.TemporaryDirectory(prefix="refloat-", ignore_cleanup_errors=True) as name:
        made = Installation(Path(name))
        made.start()
        yield made
        asyncio.run(made.remove())


@pytest.fixture
def cleared(shared: Installation) -> Iterator[Installation]:
    """The module's server; the environments that a test made are deleted after it."""
    yield shared
    projects = [
        project
        for organization in shared.call("GET", "/organization")["results"]
        for project in shared.call("GET", f"/organization/{organization['id']}/project")["results"]
    ]
    for project in projects:
        for environment in shared.call("GET", f"/project/{project['id']}/environment")["results"]:
            shared.api.post(f"/environment/{environment['id']}/cancelDeployment")
            shared.call("DELETE", f"/environment/{environment['id']}", expect=204)
            eventually(
                lambda path=f"/environment/{environment['id']}": shared.api.get(path).status_code == 404
            )
