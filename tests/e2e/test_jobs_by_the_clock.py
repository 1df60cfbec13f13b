"""A job by the clock on this machine: asked for, it runs at once, as a real process, and once."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.installation import TOKEN, Installation, Repository, eventually

REPORT = """
import os, time
with open(os.environ["LEDGER"], "a") as ledger:
    ledger.write("begun\\n")
while not os.path.exists(os.environ["GATE"]):
    time.sleep(0.02)
print("the report is written", flush=True)
with open(os.environ["LEDGER"], "a") as ledger:
    ledger.write("ended\\n")
"""


def shell(installation: Installation, *words: str) -> str:
    """What `refloat` prints."""
    environ = {
        "REFLOAT_URL": f"http://127.0.0.1:{installation.port}",
        "REFLOAT_TOKEN": TOKEN,
        "PATH": os.environ["PATH"],
        "HOME": str(installation.data.parent),
    }
    program = Path(sys.executable).parent / "refloat"
    done = subprocess.run([program, *words], env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_job_that_is_asked_for_runs_at_once_and_once_though_the_server_is_killed(
    breakable: Installation, folder: Path
) -> None:
    ledger, gate = folder / "ledger", folder / "gate"
    ledger.touch()
    ledger.chmod(0o666)
    environment = breakable.environment()
    body = {
        "name": "report",
        "source": {"docker": {"git_repository": {"url": Repository(folder / "git", {"r.py": REPORT}).url}}},
        "schedule": {"cronjob": {"scheduled_at": "0 0 29 2 *", "entrypoint": "python r.py"}},
        "healthchecks": {},
    }
    job = breakable.call("POST", f"/environment/{environment}/job", body, expect=201)["id"]
    breakable.variable(job, "JOB", "LEDGER", str(ledger))
    breakable.variable(job, "JOB", "GATE", str(gate))
    assert breakable.roll(environment)["state"] == "DEPLOYED"
    assert ledger.read_text() == ""  # installed, not run
    shell(breakable, "job", "run", "shop", "report")
    eventually(lambda: ledger.read_text() == "begun\n")
    breakable.kill()
    gate.touch()
    eventually(lambda: ledger.read_text() == "begun\nended\n")
    breakable.start()
    assert breakable.ended(environment)["state"] == "DEPLOYED", breakable.log_text(environment)
    assert "the report is written" in breakable.log_text(environment)
    assert shell(breakable, "job", "run", "shop", "report", "--event", "cron", "--watch")
    assert ledger.read_text() == "begun\nended\n" * 2
    assert shell(breakable, "job", "runs", "shop", "report") == "no run by the clock yet\n"
    assert json.loads(shell(breakable, "job", "runs", "shop", "report", "--json")) == {"results": []}
