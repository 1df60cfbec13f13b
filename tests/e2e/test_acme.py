"""A public domain with the default ports, and certificates from an ACME server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import needs

ROOT = Path(__file__).parents[2]
_ALONE = ("unshare", "--net", "--mount")
"""With a network and a name server of its own."""


def _can_be_alone() -> bool:
    try:
        return os.geteuid() == 0 and subprocess.run([*_ALONE, "true"], check=False).returncode == 0
    except FileNotFoundError:
        return False


@needs("curl")
@pytest.mark.skipif(
    not _can_be_alone(), reason="ports 80, 443 and 53 are taken in a network of its own, which needs root"
)
def test_a_public_domain_is_certified_by_acme_its_services_its_domains_and_the_api(folder: Path) -> None:
    done = subprocess.run(
        [*_ALONE, sys.executable, "-m", "tests.e2e.acme_scenario", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    log = folder / "server.log"
    said = log.read_text() if log.exists() else ""
    assert done.returncode == 0, done.stdout + done.stderr + said
