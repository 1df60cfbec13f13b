"""The emulator: a stand-in that is started, scripted, and leaves nothing."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.e2e.installation import free_port
from tests.programs import needs

ROOT = Path(__file__).parents[2]


@needs("curl")
def test_the_example_of_a_ci_job_runs_as_it_stands_and_leaves_nothing() -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environ = {k: v for k, v in os.environ.items() if not k.startswith("REFLOAT_")}
    done = subprocess.run(
        ["sh", "examples/emulator.sh"],
        cwd=ROOT,
        env={**environ, "PATH": path, "PORT": str(free_port())},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ended = [line for line in done.stdout.splitlines() if line.startswith("deployment ended")]
    assert [line.rpartition(" ")[2] for line in ended] == ["DEPLOYED", "RESTART_ERROR", "DEPLOYED"]
    (kept,) = re.findall(r"data=(/\S+refloat-emulator-\w+)", done.stdout + done.stderr)
    assert not Path(kept).exists()
