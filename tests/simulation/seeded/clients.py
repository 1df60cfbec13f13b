"""Principals that ask for things at drawn times, and what each answer has to say."""

import random
from collections.abc import Awaitable, Callable
from typing import Any

from refloat.api.states import State
from refloat.clock import Clock
from tests.simulation.seeded.api import Answer, Client
from tests.simulation.seeded.monitor import Monitor
from tests.simulation.seeded.scenario import Environment, Service, script
from tests.simulation.seeded.trace import Trace

_ONLY_OF_SERVICES = {State.EXECUTING, State.RECAP} | {s for s in State if s.startswith("WAITING_")}
OF_SERVICES = frozenset(str(s) for s in State) - {"RECAP"}
OF_ENVIRONMENTS = frozenset(str(s) for s in State) - {str(s) for s in _ONLY_OF_SERVICES}
_ENDED = frozenset({"DEPLOYED", "RESTARTED", "STOPPED", "CANCELED", "DELETED"})
_ACTIONS = ("redeploy", "deploy", "rollback", "stop", "uninstall")
_BAD = ("boot=exit", "boot=exit", "answer=error", "build=fail")
_REFUSALS = (400, 404, 409, 503, 507)
_LISTS = {"application": "applications", "container": "containers", "job": "jobs", "database": "databases"}


def terminal(state: str) -> bool:
    return state in _ENDED or state.endswith("_ERROR")


class Reader:
    """Reads statuses, and compares them with what is stored."""

    def __init__(self, monitor: Monitor, trace: Trace, calm: Callable[[], bool]) -> None:
        self._monitor = monitor
        self._trace = trace
        self._calm = calm
        self._shown: dict[str, str] = {}

    async def statuses(self, client: Client, environment: Environment) -> Any:
        """One read; None when there is nothing to read any more."""
        known = self._monitor.accepted(environment.id)
        ended = set(self._monitor.ended)
        answer = await client.call("GET", f"/environment/{environment.id}/statuses")
        if answer.status != 200:
            environment.gone = environment.gone or answer.status == 404
            self._trace.require(answer.status in (404, 503), "reads are answered", str(answer))
            return None
        own = answer.body["environment"]
        self._environment(own, known, ended, self._monitor.accepted(environment.id))
        for kind in _LISTS.values():
            for service in answer.body[kind]:
                self._trace.require(service["state"] in OF_SERVICES, "one of the 28 states", service["state"])
        return answer.body

    def _environment(self, own: Any, known: list[str], ended: set[str], now: list[str]) -> None:
        require, last, newest = (
            self._trace.require,
            own["last_deployment_state"],
            own["deployment_request_id"],
        )
        for state in (own["state"], last):
            require(state in OF_ENVIRONMENTS, "G21 closed environment states", state)
        if known:
            visible = newest in now and now.index(newest) >= len(known) - 1
            require(visible, "G21 read your writes", f"{newest} is shown as newest, {known[-1]} was accepted")
        if newest is None:
            return
        if terminal(last):
            require(newest in self._monitor.ended, "no false terminal state", f"{newest} is shown as {last}")
            before = self._shown.setdefault(newest, last)
            require(before == last, "no false terminal state", f"{newest} was {before} and is {last}")
        else:
            require(newest not in ended, "the end is visible", f"{newest} has ended and is shown as {last}")


class Caller:
    """One principal and its drawn habits."""

    def __init__(
        self,
        name: str,
        client: Client,
        draw: random.Random,
        environments: list[Environment],
        reader: Reader,
        monitor: Monitor,
        trace: Trace,
        clock: Clock,
        calm: bool,
    ) -> None:
        self._name = name
        self._client = client
        self._draw = draw
        self._environments = environments
        self._reader = reader
        self._monitor = monitor
        self._trace = trace
        self._clock = clock
        self._calm = calm
        self._count = 0

    async def live(self, requests: int) -> None:
        """Ask for some things, with pauses between them."""
        for _ in range(requests):
            await self._clock.sleep(self._draw.choice((0.0, 0.2, 1.0, 5.0, 15.0)) * self._draw.random())
            environment = self._draw.choice(self._environments)
            await self._choose()(environment)
            if not environment.gone:
                await self._reader.statuses(self._client, environment)

    def _choose(self) -> Callable[[Environment], Awaitable[None]]:
        chances: list[tuple[float, Callable[[Environment], Awaitable[None]]]] = [
            (6, self._redeploy),
            (3, self._deploy_some),
            (3, self._cancel),
            (2, self._variable),
            (2, self._edit),
            (2, self._on_some),
            (2, self._roll_back),
            (0 if self._calm else 2, self._bad_version),
            (1, self._stop),
            (1, self._script),
            (1, self._plan),
            (0.4, self._uninstall),
            (0.3, self._delete),
        ]
        return self._draw.choices([act for _, act in chances], [weight for weight, _ in chances])[0]

    async def _ask(self, method: str, path: str, body: Any = None) -> Answer:
        answer = await self._client.call(method, path, body)
        self._trace.note(self._name, f"{method} {path} {answer.status}")
        good = answer.status < 300 or answer.status in _REFUSALS
        self._trace.require(good, "no internal error", f"{method} {path}: {answer}")
        return answer

    async def _accepted(self, environment: Environment, path: str, body: Any = None) -> None:
        """An action of the environment; its 202 tells of a request that had not begun: a new one, or one
        at the end of the queue that it joined."""
        begun = self._monitor.begun(environment.id)
        ours = "/refloat" if path.startswith("rollback") else ""
        answer = await self._ask("POST", f"{ours}/environment/{environment.id}/{path}", body)
        if answer.status == 202 and path.partition("?")[0] in _ACTIONS:
            request = answer.body["deployment_request_id"]
            self._trace.require(
                request not in begun, "a 202 is a request that had not begun", f"{path}: {request}"
            )

    async def _redeploy(self, environment: Environment) -> None:
        await self._accepted(environment, self._draw.choice(("redeploy", "redeploy", "deploy")))

    async def _roll_back(self, environment: Environment) -> None:
        """To one that can be gone back to, now and then to none."""
        good = self._monitor.returns.good(environment.id)
        if good or self._draw.random() < 0.1:
            to = self._draw.choice(good or [9])
            await self._accepted(environment, f"rollback?to={environment.id}-{to}")
        else:
            await self._redeploy(environment)

    async def _stop(self, environment: Environment) -> None:
        await self._accepted(environment, "stop")

    async def _uninstall(self, environment: Environment) -> None:
        await self._accepted(environment, "uninstall")

    async def _cancel(self, environment: Environment) -> None:
        await self._accepted(environment, "cancelDeployment", {"force_cancel": True})

    async def _delete(self, environment: Environment) -> None:
        if self._draw.random() < 0.3:
            await self._ask("DELETE", f"/environment/{environment.id}")
        else:
            service = self._some(environment)
            await self._ask("DELETE", f"/{service.kind}/{service.id}")

    def _some(self, environment: Environment) -> Service:
        return self._draw.choice(environment.services)

    async def _bad_version(self, environment: Environment) -> None:
        """New versions of all, one of which does not work."""
        path = f"/refloat/service/{self._some(environment).id}/simulation"
        await self._ask("PUT", path, {"script": self._draw.choice(_BAD)})
        await self._deploy(environment, environment.services)

    async def _deploy_some(self, environment: Environment) -> None:
        number = self._draw.randint(1, len(environment.services))
        await self._deploy(environment, self._draw.sample(environment.services, number))

    async def _deploy(self, environment: Environment, chosen: list[Service]) -> None:
        body: dict[str, Any] = {"applications": [], "containers": [], "databases": [], "jobs": []}
        commit = f"{self._draw.randrange(16**8):08x}" * 5
        for service in chosen:
            if service.kind == "application":
                body["applications"].append({"application_id": service.id, "git_commit_id": commit})
            elif service.kind == "container":
                body["containers"].append({"id": service.id, "image_tag": f"{self._draw.randint(1, 9)}.0"})
            elif service.kind == "job":
                body["jobs"].append({"id": service.id, "git_commit_id": commit})
            else:
                body["databases"].append(service.id)
        await self._accepted(environment, "service/deploy", body)

    async def _on_some(self, environment: Environment) -> None:
        verb = self._draw.choice(("restart-service", "restart-service", "stop", "uninstall"))
        service = self._some(environment)
        await self._accepted(environment, f"service/{verb}", {f"{service.kind}_ids": [service.id]})

    async def _variable(self, environment: Environment) -> None:
        self._count += 1
        body = {"key": f"{self._name.upper().replace('-', '_')}_{self._count}", "value": "1"}
        service = self._some(environment)
        place = f"environment/{environment.id}"
        if service.kind in ("application", "container") and self._draw.random() < 0.5:
            place = f"{service.kind}/{service.id}"
        await self._ask("POST", f"/{place}/environmentVariable", body)

    async def _edit(self, environment: Environment) -> None:
        service = self._some(environment)
        body: dict[str, Any] = {"cpu": 10 * self._draw.randint(1, 50)}
        if service.kind == "application":
            await self._ask("PUT", f"/application/{service.id}", {"healthchecks": {}, **body})
        elif service.kind == "database":
            await self._ask("PUT", f"/database/{service.id}", body)

    async def _script(self, environment: Environment) -> None:
        text = script(self._draw, self._calm)
        await self._ask("PUT", f"/refloat/service/{self._some(environment).id}/simulation", {"script": text})

    async def _plan(self, environment: Environment) -> None:
        await self._ask("GET", f"/refloat/environment/{environment.id}/plan?action=redeploy")
