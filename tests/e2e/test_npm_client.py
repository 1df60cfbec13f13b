"""The published TypeScript client drives a server, and every body conforms to the published document."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.installation import TOKEN, Installation

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "tests" / "clients" / "npm"
SPEC = Path(os.environ.get("REFLOAT_SPEC") or ROOT.parent / "shared" / "reference" / "qovery-openapi.yaml")
MUST_RUN = os.environ.get("REFLOAT_TESTS_MUST_NOT_SKIP") == "1"


def _require_npm() -> None:
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            assert not MUST_RUN, f"{tool} is not installed"
            pytest.skip(f"{tool} is not installed")


def test_the_typescript_client_works_and_every_body_conforms(
    installation: Installation, folder: Path
) -> None:
    _require_npm()
    client = folder / "client"
    shutil.copytree(CLIENT, client, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=client, check=True, timeout=300)
    recording = folder / "recording.jsonl"
    server = {
        "REFLOAT_URL": f"http://127.0.0.1:{installation.port}",
        "REFLOAT_TOKEN": TOKEN,
        "REFLOAT_RECORDING": str(recording),
    }
    done = subprocess.run(
        ["node", "scenario.mjs"],
        env=os.environ | server,
        cwd=client,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(recording.read_text().splitlines()) > 50
    if not SPEC.exists():
        pytest.skip(f"the scenario passed; bodies were not validated: no document at {SPEC.name}")
    checked = subprocess.run(
        [sys.executable, "-m", "tools.conformance", SPEC, recording],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
