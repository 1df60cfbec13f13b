"""How long things take, medians beside the floor of the same run.

Measures the 202, a redeploy with nothing changed, the deploy of a new commit beyond the application's own
boot, the CPU a start costs, and the CPU of an idle server with many environments.

    python benchmarks/speed.py [--rounds N] [--environments N]
"""

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.e2e.installation import APP, Installation, Repository, free_port

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def median_ms(what: Callable[[int], None], rounds: int) -> float:
    seconds = []
    for number in range(rounds):
        began = time.perf_counter()
        what(number)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds) * 1000


def boot(folder: Path) -> Callable[[int], None]:
    """The floor: the application alone, from its start to its first answer."""

    def once(_: int) -> None:
        port = free_port()
        environ = {**os.environ, "PORT": str(port)}
        process = subprocess.Popen(["/usr/bin/env", "python3", "app.py"], cwd=folder, env=environ)
        try:
            wait_for(port)
        finally:
            process.kill()
            process.wait()

    return once


def wait_for(port: int) -> None:
    import socket

    while True:
        try:
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                if connection.recv(16):
                    return
        except OSError:
            time.sleep(0.002)


def until_done(installation: Installation, environment: str) -> None:
    """Poll as quickly as the API answers."""
    while True:
        state = installation.status(environment)["last_deployment_state"]
        if state == "DEPLOYED":
            return
        assert not state.endswith("ERROR"), installation.log_text(environment)


def until_verified(installation: Installation, application: str) -> None:
    """Until the service is DEPLOYED; the old revision may still drain."""
    while installation.call("GET", f"/application/{application}/status")["state"] != "DEPLOYED":
        pass


def measure(folder: Path, rounds: int, environments: int) -> list[tuple[str, str, str]]:
    installation = Installation(folder)
    repository = Repository(folder / "git")
    installation.start()
    assert installation.process is not None
    rows = [("start of the server, CPU", f"{cpu_seconds(installation.process.pid):.2f} s", "target 2 s")]
    try:
        environment = installation.environment()
        application = installation.application(environment, "api", repository.url)
        installation.roll(environment)
        redeploy = f"/environment/{environment}/redeploy"

        accepted: list[float] = []

        def nothing_changed(_: int) -> None:
            began = time.perf_counter()
            installation.call("POST", redeploy, expect=202)
            accepted.append(time.perf_counter() - began)
            until_done(installation, environment)

        whole = median_ms(nothing_changed, rounds)
        rows.append(("202 of a redeploy", f"{statistics.median(accepted) * 1000:.1f} ms", "target 15 ms"))
        rows.append(("redeploy, nothing changed", f"{whole:.0f} ms", "target 100 ms"))
        floor = median_ms(boot(repository.folder), rounds)
        rows.append(("the application's own boot (floor)", f"{floor:.0f} ms", ""))

        def new_commit(number: int) -> None:
            began = time.perf_counter()
            body = {"applications": [{"application_id": application, "git_commit_id": commits[number]}]}
            installation.call("POST", f"/environment/{environment}/service/deploy", body, expect=202)
            until_verified(installation, application)
            verified.append(time.perf_counter() - began)
            until_done(installation, environment)

        verified: list[float] = []
        commits = [repository.commit({"app.py": f"# {n}\n{APP}"}) for n in range(rounds)]
        median_ms(new_commit, rounds)
        beyond = statistics.median(verified) * 1000 - floor
        rows.append(("new commit, same dependencies, beyond the boot", f"{beyond:.0f} ms", "target 150 ms"))
        for number in range(environments):
            other = installation.environment(f"idle-{number}")
            installation.application(other, "api", repository.url)
        time.sleep(3)
        before = cpu_seconds(installation.process.pid)
        time.sleep(10)
        share = (cpu_seconds(installation.process.pid) - before) / 10 * 100
        rows.append((f"idle with {environments} environments, CPU", f"{share:.1f} %", "target 1 %"))
        return rows
    finally:
        asyncio.run(installation.remove())


def main() -> int:
    words = argparse.ArgumentParser()
    words.add_argument("--rounds", type=int, default=15)
    words.add_argument("--environments", type=int, default=100)
    given = words.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="refloat-speed-"))
    folder.chmod(0o755)
    try:
        rows = measure(folder, given.rounds, given.environments)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for name, value, target in rows:
        print(f"| {name} | {value} | {target} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
