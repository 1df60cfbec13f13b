"""A revision that is not alive any more is started again, whichever way it is asked."""

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.installation import APP, Installation, Repository, eventually

SICKENING = APP.replace(
    "    def do_GET(self):\n",
    """    sick = False
    def do_GET(self):
        if self.path == "/sicken":
            Handler.sick = True
            open(SICK, "w").close()
        if self.path == "/deafen":
            threading.Thread(target=self.server.shutdown).start()
        if self.path == "/health" and Handler.sick:
            self.send_error(500)
            return
""",
).replace('os.environ.get("GREETING", "hello").encode()', "str(os.getpid()).encode()")
SICKENING = SICKENING.replace(
    'print("app starts", flush=True)',
    'SICK = os.path.expanduser("~/sick")\nos.path.exists(SICK) and os.remove(SICK)',
)
SICKENING = SICKENING.replace(
    'ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()',
    'server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)\n'
    "server.serve_forever()\nserver.server_close()\ntime.sleep(600)",
)
_TIMES = {"initial_delay_seconds": 0, "period_seconds": 1, "timeout_seconds": 1, "failure_threshold": 2}
CHECKS: dict[str, dict[str, Any]] = {
    "http": {"http": {"path": "/health", "port": 8000}},
    "exec": {"exec": {"command": ["sh", "-c", "test ! -e $HOME/sick"]}},
    "tcp": {"tcp": {"port": 8000}},
}


@pytest.mark.parametrize("check", CHECKS)
def test_a_revision_that_fails_its_liveness_probe_is_started_again(
    check: str, installation: Installation, folder: Path
) -> None:
    environment = installation.environment()
    probes = {"liveness_probe": {"type": CHECKS[check], **_TIMES}}
    url = Repository(folder / "git", {"app.py": SICKENING, "Procfile": "web: python app.py\n"}).url
    application = installation.application(environment, "api", url, healthchecks=probes)
    assert installation.roll(environment)["state"] == "DEPLOYED"
    before = installation.get(application).text
    installation.get(application, "/deafen" if check == "tcp" else "/sicken")

    def again() -> bool:
        answer = installation.get(application, "/health")
        return answer.status_code == 200 and installation.get(application).text != before

    eventually(again)
    assert installation.status(environment)["state"] == "DEPLOYED"  # a fact of running, not of deploying


def test_a_revision_that_is_well_is_not_started_again_with_its_neighbour(
    installation: Installation, folder: Path
) -> None:
    environment = installation.environment()
    url = Repository(folder / "git", {"app.py": SICKENING, "Procfile": "web: python app.py\n"}).url
    made = {}
    for name, check in (("well", {"tcp": {"port": 8000}}), ("sick", CHECKS["http"])):
        probes = {"liveness_probe": {"type": check, **_TIMES}}
        made[name] = installation.application(environment, name, url, healthchecks=probes)
    installation.roll(environment)
    before = {name: installation.get(service).text for name, service in made.items()}
    installation.get(made["sick"], "/sicken")

    def again() -> bool:
        answer = installation.get(made["sick"])
        return answer.status_code == 200 and answer.text != before["sick"]

    eventually(again)
    assert installation.get(made["well"]).text == before["well"]
