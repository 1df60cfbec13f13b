"""A person's machine: a home, a shell, and `refloat` on it as they would type it."""

import asyncio
import hashlib
import os
import subprocess
import sys
from pathlib import Path

from refloat.supervisor.occupancy import occupant
from refloat.supervisor.processes import LocalSupervisor
from tests.e2e.installation import free_port

REFLOAT = str(Path(sys.executable).parent / "refloat")


class Machine:
    """Runs commands with a home and a data directory of its own; ends what they leave running."""

    def __init__(self, folder: Path, *, named: bool = True) -> None:
        self.home = folder / "home"
        self.data = folder / "machine dä"
        self.home.mkdir()
        self.port, self.http_port = free_port(), free_port()
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("REFLOAT_", "XDG_", "GIT_"))}
        self.environ = {**kept, "HOME": str(self.home), "REFLOAT_DRAIN_SECONDS": "2"}
        if named:
            self.environ |= self.settings

    @property
    def settings(self) -> dict[str, str]:
        return {
            "REFLOAT_DATA_DIR": str(self.data),
            "REFLOAT_PORT": str(self.port),
            "REFLOAT_HTTP_PORT": str(self.http_port),
        }

    def __call__(self, *words: str, expect: int = 0, cwd: Path | None = None, **more: str) -> str:
        """What it prints; on stderr when it is to fail."""
        done = subprocess.run(
            [REFLOAT, *words],
            env=self.environ | more,
            cwd=cwd or self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == expect, done.stdout + done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout if expect == 0 else done.stderr

    def start(self, *words: str, cwd: Path) -> "subprocess.Popen[str]":
        """One that goes on; the caller waits for its end."""
        pipe = subprocess.PIPE
        command = [REFLOAT, *words]
        return subprocess.Popen(command, env=self.environ, cwd=cwd, stdout=pipe, stderr=pipe, text=True)

    def clean(self) -> None:
        """End what is left, by what was recorded of it."""
        if pid := occupant(self.data):
            os.kill(pid, 9)

        async def end() -> None:
            supervisor = LocalSupervisor(self.data / "node")
            for state in await supervisor.states():
                await supervisor.stop(state.id, 0.5)

        asyncio.run(end())


def footprint(folder: Path) -> dict[str, str]:
    """Every file below a folder with what it holds and when it was written."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        digest = hashlib.sha256(content).hexdigest()
        found[str(path.relative_to(folder))] = f"{digest} {status.st_mode:o} {status.st_mtime_ns}"
    return found
