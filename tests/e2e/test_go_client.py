"""The published Go client, on which the CLI and the Terraform provider stand, drives a server.

It decodes strictly: a name that it does not know, or a field that it misses, fails the scenario.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.installation import TOKEN, Installation

CLIENT = Path(__file__).parents[1] / "clients" / "go"


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, built."""
    if shutil.which("go") is None:
        pytest.skip("go is not installed")
    program = tmp_path_factory.mktemp("go") / "scenario"
    fetched = _go("mod", "download")
    if fetched.returncode:
        pytest.skip(f"the Go module of the client cannot be had: {fetched.stderr.strip()[-300:]}")
    built = _go("build", "-o", str(program), ".")
    assert built.returncode == 0, built.stderr
    return program


def _go(*words: str) -> subprocess.CompletedProcess[str]:
    alone = {"GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local"}
    return subprocess.run(
        ["go", *words], cwd=CLIENT, env=os.environ | alone, capture_output=True, text=True, timeout=600
    )


def test_the_go_client_works(installation: Installation, scenario: Path) -> None:
    server = {"REFLOAT_URL": f"http://127.0.0.1:{installation.port}", "REFLOAT_TOKEN": TOKEN}
    done = subprocess.run([scenario], env=os.environ | server, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
