"""The demo behind `make demo`: roll an environment of three stages under load, and kill the server meanwhile.

Everything goes through the public API; the environment lives in a temporary directory and is removed at the
end, unless KEEP=1 is set.
"""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from refloat.supervisor.processes import LocalSupervisor

HERE = Path(__file__).parent
APPS = ("catalog", "api", "web")
RATE = 200
TOKEN = "rf_demo_token"
ENDED = ("DEPLOYED", "CANCELED")
TOLD = ("DEPLOYING", "DEPLOYED", "BUILD_ERROR", "DEPLOYMENT_ERROR")

Json = dict[str, Any]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A Refloat server of its own data directory."""

    def __init__(self, folder: Path) -> None:
        self.node = folder / "data" / "node"
        self.port, self.http_port = free_port(), free_port()
        self.environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith("REFLOAT_")},
            "REFLOAT_DATA_DIR": str(folder / "data"),
            "REFLOAT_PORT": str(self.port),
            "REFLOAT_HTTP_PORT": str(self.http_port),
            "REFLOAT_ADMIN_TOKEN": TOKEN,
        }
        self.log = (folder / "server.log").open("ab")
        self.process: subprocess.Popen[bytes] | None = None
        self.api = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"Authorization": f"Token {TOKEN}"},
            timeout=30,
        )

    def start(self) -> float:
        """Seconds until it answers."""
        began = time.monotonic()
        self.process = subprocess.Popen(
            [Path(sys.executable).parent / "refloat", "serve"],
            env=self.environ,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        while True:
            if self.process.poll() is not None:
                raise SystemExit(Path(self.log.name).read_text())
            try:
                self.api.get("/healthz")
                return time.monotonic() - began
            except httpx.TransportError:
                time.sleep(0.02)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def call(self, method: str, path: str, body: Json | None = None) -> Any:
        answer = self.api.request(method, path, json=body)
        if answer.status_code >= 400:
            raise SystemExit(f"{method} {path}: {answer.text}")
        return answer.json() if answer.content else None

    async def remove_everything(self) -> None:
        """End the server, then the applications and the edge, which go on without it."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait()
        supervisor = LocalSupervisor(self.node)
        for state in await supervisor.states():
            await supervisor.stop(state.id, 1)


def make_repository(folder: Path, name: str) -> str:
    """A git repository of one of the example applications."""
    place = folder / "git" / name
    shutil.copytree(HERE / "apps" / name, place)
    identity = ("-c", "user.name=demo", "-c", "user.email=demo@example.org")
    for words in (("init", "-q", "-b", "main"), ("add", "."), (*identity, "commit", "-qm", "first")):
        subprocess.run(["git", *words], cwd=place, check=True)
    return place.as_uri()


def make_environment(server: Server, folder: Path) -> tuple[str, dict[str, str]]:
    """An environment of three stages with one application each; its id and the applications'."""
    organization = server.call("GET", "/organization")["results"][0]["id"]
    project = server.call("GET", f"/organization/{organization}/project")["results"][0]["id"]
    environment = server.call("POST", f"/project/{project}/environment", {"name": "shop"})["id"]
    default = server.call("GET", f"/environment/{environment}/deploymentStage")["results"]
    services = {}
    for name in APPS:
        body = {
            "name": name,
            "git_repository": {"url": make_repository(folder, name)},
            "ports": [{"internal_port": 8000, "publicly_accessible": True}],
            "healthchecks": {},
        }
        services[name] = server.call("POST", f"/environment/{environment}/application", body)["id"]
        stage = server.call("POST", f"/environment/{environment}/deploymentStage", {"name": name})["id"]
        server.call("PUT", f"/deploymentStage/{stage}/service/{services[name]}")
    for stage in default:
        server.call("DELETE", f"/deploymentStage/{stage['id']}")
    short = services["catalog"].replace("-", "")[-8:].upper()
    set_variable(server, environment, "GREETING", "Good morning")
    set_variable(server, environment, "CATALOG_URL", f"{{{{QOVERY_APPLICATION_Z{short}_URL_INTERNAL}}}}")
    return environment, services


def set_variable(server: Server, environment: str, key: str, value: str) -> str:
    body = {
        "key": key,
        "value": value,
        "is_secret": False,
        "variable_scope": "ENVIRONMENT",
        "variable_parent_id": environment,
    }
    return str(server.call("POST", "/variable", body)["id"])


def watch(server: Server, environment: str, began: float, shown: dict[str, str], until: str = "") -> Json:
    """Print what is under way and what is done, until the deployment ended or a service reached a state."""
    while True:
        statuses = server.call("GET", f"/environment/{environment}/statusesWithStages")
        for stage in statuses["stages"]:
            for status in stage["applications"]:
                name = stage["stage"]["name"]
                if shown.get(name) != status["state"] and status["state"] in TOLD:
                    shown[name] = status["state"]
                    print(f"  {time.monotonic() - began:5.1f} s  {name:8} {status['state']}", flush=True)
        state = statuses["environment"]["last_deployment_state"]
        if state in ENDED or state.endswith("ERROR"):
            return statuses["environment"]
        if until and shown.get(until.split()[0]) == until.split()[1]:
            return statuses["environment"]
        time.sleep(0.03)


def print_plan(plan: Json) -> None:
    print(f"plan {plan['hash']}")
    for stage in plan["stages"]:
        for service in stage["services"]:
            causes = ", ".join(service["causes"]) or "nothing differs"
            gap = service["interruption"]
            print(
                f"  stage {stage['name']:8} {service['name']:8} {service['change']:8} because: {causes};"
                f" {'interrupts: ' + gap['reason'] if gap else 'no interruption'}"
            )


def journal(server: Server, environment: str) -> dict[tuple[str, str], Json]:
    steps = server.call("GET", f"/refloat/environment/{environment}/journal")["results"]
    return {(s["service_id"], s["step"]): s for s in steps}


def redone(before: dict[tuple[str, str], Json], after: dict[tuple[str, str], Json]) -> int:
    """Steps that were finished when the server died and were begun again all the same."""
    return sum(after[key]["attempt"] > 1 for key, step in before.items() if step["outcome"] == "done")


def hosts(server: Server, environment: str) -> list[str]:
    links = server.call("GET", f"/environment/{environment}/link")["results"]
    return [link["url"].removeprefix("http://") for link in links]


def roll_under_load(server: Server, environment: str) -> tuple[Json, list[str], int]:
    """The redeploy, with the server killed in the middle: status, report of the load, steps redone."""
    load = subprocess.Popen(
        [
            sys.executable,
            HERE / "load.py",
            f"127.0.0.1:{server.http_port}",
            str(RATE),
            *hosts(server, environment),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    time.sleep(1)
    print(f"POST /environment/{environment}/redeploy under {RATE} requests a second")
    began = time.monotonic()
    server.call("POST", f"/environment/{environment}/redeploy")
    shown: dict[str, str] = {}
    watch(server, environment, began, shown, until="api DEPLOYING")
    before = journal(server, environment)
    server.kill()
    print(f"  {time.monotonic() - began:5.1f} s  kill -9 of the server; it is started again", flush=True)
    server.start()
    status = watch(server, environment, began, shown)
    time.sleep(1)
    report = load.communicate("end\n", timeout=60)[0].split("\n")
    return status, report, redone(before, journal(server, environment))


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="refloat-demo-"))
    folder.chmod(0o711)
    server = Server(folder)
    keep = os.environ.get("KEEP") == "1"
    try:
        server.start()
        print(f"server answers at http://127.0.0.1:{server.port}, applications at port {server.http_port}")
        environment, _ = make_environment(server, folder)
        print("first deployment: three applications from git, in three stages")
        server.call("POST", f"/environment/{environment}/deploy")
        first = watch(server, environment, time.monotonic(), {})
        if first["state"] != "DEPLOYED":
            raise SystemExit(json.dumps(server.call("GET", f"/environment/{environment}/logs"), indent=1))
        change_greeting(server, environment)
        print_plan(server.call("GET", f"/refloat/environment/{environment}/plan?action=redeploy"))
        status, report, again = roll_under_load(server, environment)
        print(f"requests sent: {report[0]}, failed: {report[1]}; steps redone: {again}")
        print_status(status)
        print_how_to_go_on(server, environment, keep)
        return int(status["state"] != "DEPLOYED" or report[1] != "0" or again != 0)
    finally:
        if not keep:
            asyncio.run(server.remove_everything())
            shutil.rmtree(folder, ignore_errors=True)


def change_greeting(server: Server, environment: str) -> None:
    variables = server.call("GET", f"/variable?parent_id={environment}&scope=ENVIRONMENT")["results"]
    greeting = next(v for v in variables if v["key"] == "GREETING")
    server.call("PUT", f"/variable/{greeting['id']}", {"key": "GREETING", "value": "Good evening"})
    print("GREETING is changed from 'Good morning' to 'Good evening'")


def print_status(status: Json) -> None:
    """A key a line."""
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in status.items() if key != "metrics"]
    print("{\n" + ",\n".join(lines) + "\n}")


def print_how_to_go_on(server: Server, environment: str, keep: bool) -> None:
    if not keep:
        print("everything is stopped and removed; KEEP=1 make demo leaves it running")
        return
    print(f"it goes on running: export REFLOAT_URL=http://127.0.0.1:{server.port} REFLOAT_TOKEN={TOKEN}")
    print(f"  .venv/bin/refloat status {environment}")
    print(f"  .venv/bin/refloat redeploy {environment} --watch")
    web = next(h for h in hosts(server, environment) if h.startswith("web"))
    print(f"  curl -H 'Host: {web}' http://127.0.0.1:{server.http_port}")


if __name__ == "__main__":
    sys.exit(main())
