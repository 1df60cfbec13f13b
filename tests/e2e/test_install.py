"""Installed from a clone as the README says, it is whole: what the package leaves out would show here."""

import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.installation import free_port
from tests.programs import needs

ROOT = Path(__file__).parents[2]


def run(*argv: str | Path, **environ: str) -> str:
    done = subprocess.run(argv, env=environ or None, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs("curl")
def test_an_installed_copy_serves_without_the_clone_it_came_from(tmp_path: Path) -> None:
    clone, programs = tmp_path / "clone", tmp_path / "bin"
    run("git", "clone", "--quiet", ROOT, clone)
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("REFLOAT_", "PYTHON", "VIRTUAL_ENV"))}
    environ |= {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(programs)}
    uv = Path(sys.executable).with_name("uv")
    run(uv, "tool", "install", "--quiet", "--python", sys.executable, clone, **environ)
    clone.rename(tmp_path / "gone")
    environ |= {"PATH": f"{programs}:{os.environ['PATH']}", "PORT": str(free_port())}
    told = run("sh", ROOT / "examples" / "emulator.sh", **environ)
    assert told.count("deployment ended: DEPLOYED") == 2
