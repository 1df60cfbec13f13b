"""What is in the environments of a seed, and how its services behave."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.simulation.seeded.api import Client
from tests.simulation.seeded.doors import Door
from tests.simulation.seeded.limits import HURRIED_SECONDS, JOB_REPEATS, JOB_SECONDS
from tests.simulation.seeded.trace import Trace, stream

KINDS = ("application", "application", "application", "container", "job", "database")
_SCHEDULES = ("* * * * *", "* * * * *", "*/2 * * * *", "45 * * * *")
_PORTS = [{"internal_port": 8000, "publicly_accessible": True}]
BENIGN = "build=ok"
"""A script that wins over the configured one, for when everything shall go well."""

_OFTEN_TRIED_AGAIN = "&release=hang,ok,hang,ok,hang,hang,ok&release_seconds=0.5"
"""Of a job in a hurry: at its first two deployments the second attempt ends well, at the third none does."""


@dataclass
class Service:
    id: str
    kind: str
    name: str


@dataclass
class Environment:
    id: str
    services: list[Service]
    gone: bool = False
    goes_back: bool = False
    """Whether it asks for a rollback when a deployment fails."""


def script(draw: random.Random, calm: bool) -> str:
    """How a service behaves: mostly well, sometimes slow, now and then not at all."""
    words: list[str] = []

    def maybe(chance: float, *choices: str) -> None:
        if draw.random() < chance:
            words.append(draw.choice(choices))

    for key, most in (("build", 20), ("boot", 10), ("release", 10), ("drain", 40), ("stop", 12)):
        maybe(0.3, f"{key}_seconds={draw.choice((0.05, 0.5, 2, most))}")
    maybe(0.25, "release=ok")
    if not calm:
        maybe(0.08, "build=fail", "build=ok,fail", "resolve=fail")
        maybe(0.12, "boot=exit", "boot=ok,exit", "boot=hang", "boot=exit,ok")
        maybe(0.08, "answer=error", "answer=none", "answer=old")
        maybe(0.08, "stop=fail", "stop=hang", "stop=fail,ok")
        maybe(0.06, "release=fail", "release=ok,fail", "release=hang")
        maybe(0.01, "build=hang")
        maybe(0.04, "destroy=fail", "destroy=fail,ok")
    return "&".join(words)


class Scenario:
    """Makes the environments of a seed through the API."""

    def __init__(self, seed: int, door: Door, trace: Trace) -> None:
        self.draw = stream(seed, "scenario")
        self._trace = trace
        self.admin = Client(door, "rf_admin")
        self.calm = self.draw.random() < 0.3
        self.warm = self.draw.random() < 0.4
        """Whether everything was deployed before anything goes wrong."""
        self.environments: list[Environment] = []
        self.tokens: list[str] = ["rf_admin"]
        self.timed: list[str] = []
        """Names of the jobs by the clock."""
        self.attempts: dict[str, int] = {}
        """How often each job may be tried."""
        self._hurry = stream(seed, "hurry")
        self._registry = ""
        self._count = 0

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self.admin.call(method, path, body)
        assert answer.status < 400, f"{method} {path}: {answer}"
        return answer.body

    async def make(self) -> None:
        """Everything that is there before time begins."""
        organization = (await self.ask("GET", "/organization"))["results"][0]["id"]
        project = (await self.ask("GET", f"/organization/{organization}/project"))["results"][0]["id"]
        for name in ("ci", "operator"):
            made = await self.ask("POST", f"/organization/{organization}/apiToken", {"name": name})
            self.tokens.append(made["token"])
        config = {"name": "hub", "kind": "DOCKER_HUB", "config": {"username": "u", "password": "sesame"}}
        registry = await self.ask("POST", f"/organization/{organization}/containerRegistry", config)
        self._registry = registry["id"]
        for number in range(self.draw.choice((1, 1, 2, 3))):
            path = f"/project/{project}/environment"
            made = await self.ask("POST", path, {"name": f"environment-{number}"})
            environment = Environment(made["id"], [], goes_back=self.draw.random() < 0.4)
            if environment.goes_back:
                await self.ask("PUT", f"/refloat/environment/{environment.id}", {"rollback_on_failure": True})
            await self._fill(environment)

    async def _fill(self, environment: Environment) -> None:
        found = await self.ask("GET", f"/environment/{environment.id}/deploymentStage")
        stages = [s["id"] for s in found["results"]][: self.draw.randint(1, 4)]
        for _ in range(self.draw.randint(3 if environment.goes_back else 1, 6)):
            await self.add(environment, stages)
        self.environments.append(environment)

    async def add(self, environment: Environment, stages: Sequence[str]) -> None:
        kind = self.draw.choice(KINDS)
        self._count += 1
        name = f"{kind[:3]}{self._count}"
        path = f"/environment/{environment.id}/{kind}"
        body = self._body(kind, name)
        made = str((await self.ask("POST", path, body))["id"])
        if kind == "job":
            self.attempts[made] = body["max_nb_restart"] + 1
        if stages and self.draw.random() < 0.8:
            await self.ask("PUT", f"/deploymentStage/{self.draw.choice(stages)}/service/{made}")
        environment.services.append(Service(made, kind, name))
        if kind in ("container", "database"):
            text = script(self.draw, self.calm)
            await self.ask("PUT", f"/refloat/service/{made}/simulation", {"script": text})

    def _body(self, kind: str, name: str) -> dict[str, Any]:
        if kind == "database":
            return {"name": name, "type": "POSTGRESQL", "version": "16", "mode": "CONTAINER"}
        if kind == "container":
            image = {"registry_id": self._registry, "image_name": "library/nginx", "tag": "1.0"}
            return {"name": name, "ports": _PORTS, "healthchecks": {}, **image}
        text = script(self.draw, self.calm)
        hurried = kind == "job" and self._hurry.random() < 0.6
        if hurried and self._hurry.random() < 0.7:
            text += _OFTEN_TRIED_AGAIN
        self._trace.note("scenario", f"{name}: {text}")
        source = {"url": f"https://example.org/{name}.git#{text}"}
        if kind == "application":
            return {"name": name, "ports": _PORTS, "healthchecks": {}, "git_repository": source}
        schedule: dict[str, Any] = {event: {"entrypoint": "run"} for event in ("on_start", "on_stop")}
        if self.draw.random() < 0.4:
            self.timed.append(name)
            schedule = {"cronjob": {"scheduled_at": self.draw.choice(_SCHEDULES), "entrypoint": "report"}}
        return {
            "name": name,
            "source": {"docker": {"git_repository": source}},
            "schedule": schedule,
            "healthchecks": {},
            "max_duration_seconds": HURRIED_SECONDS if hurried else JOB_SECONDS,
            "max_nb_restart": max(int(hurried), self.draw.randint(0, JOB_REPEATS)),
        }
