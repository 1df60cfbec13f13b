"""What is asked and expected once everything goes well: at the end of a history, and before a warm one."""

from typing import Any

from tests.simulation.seeded.clients import Reader
from tests.simulation.seeded.loop import VirtualClock
from tests.simulation.seeded.monitor import Monitor
from tests.simulation.seeded.scenario import BENIGN, Environment, Scenario, Service, script
from tests.simulation.seeded.trace import Trace

_STRIKES_SECONDS = 12
"""After which the runs of a minute are written down: jobs are looked at each five of them."""


class Healing:
    """Leads every environment to what is wanted of it."""

    def __init__(
        self, scenario: Scenario, reader: Reader, monitor: Monitor, trace: Trace, clock: VirtualClock
    ) -> None:
        self._environments = scenario.environments
        self._admin = scenario.admin
        self._ask = scenario.ask
        self._draw = scenario.draw
        self._calm = scenario.calm
        self._reader = reader
        self._monitor = monitor
        self._trace = trace
        self._clock = clock

    async def warm(self) -> None:
        """Everything runs already when the history begins."""
        for environment in self._environments:
            for service in environment.services:
                await self._behave(service, BENIGN)
            await self._ask("POST", f"/environment/{environment.id}/redeploy")
        await self.all_ended()
        for environment in self._environments:
            for service in environment.services:
                await self._behave(service, self._later_script())

    def _later_script(self) -> str:
        """What runs and is started again after its end goes on to answer; only what is new may not."""
        words = script(self._draw, self._calm).split("&")
        return "&".join(word for word in words if not word.startswith("answer")) or BENIGN

    async def _behave(self, service: Service, text: str) -> None:
        await self._ask("PUT", f"/refloat/service/{service.id}/simulation", {"script": text})

    async def all_ended(self) -> None:
        """The watch breaks the run when something takes longer than its deadlines. What is shown is what is
        stored: it is read again when something was."""
        pause, seen = 0.2, -1
        while self._monitor.open:
            if seen != self._monitor.commits:
                seen = self._monitor.commits
                for environment in self._environments:
                    await self._reader.statuses(self._admin, environment)
            await self._clock.sleep(pause)
            pause = min(pause * 2, 60)

    async def behave_well(self, environment: Environment) -> list[Any]:
        """All of its services do from now on; none where it is gone."""
        if await self._reader.statuses(self._admin, environment) is None:
            return []
        services: list[Any] = (await self._ask("GET", f"/environment/{environment.id}/services"))["results"]
        for service in services:
            await self._ask("PUT", f"/refloat/service/{service['id']}/simulation", {"script": BENIGN})
        return services

    async def heal(self, environment: Environment) -> None:
        """A redeploy of well-behaved services succeeds, and then there is nothing left to do."""
        ask, services = self._ask, await self.behave_well(environment)
        if not services:
            return
        await self._lead_back(environment, services)
        await ask("POST", f"/environment/{environment.id}/redeploy")
        await self.all_ended()
        found = await self._reader.statuses(self._admin, environment)
        state = found["environment"]["state"]
        self._trace.require(state == "DEPLOYED", "a healthy environment deploys", state)
        plan = await ask("GET", f"/refloat/environment/{environment.id}/plan")
        changes = {s["name"]: s["change"] for stage in plan["stages"] for s in stage["services"]}
        left = {name: change for name, change in changes.items() if change not in ("skip", "run")}
        self._trace.require(not left, "an untouched environment has nothing to do", str(left))

    async def the_clock_strikes(self) -> None:
        """Every job by the clock that is applied runs at the next minute, unless its clock went back."""
        await self._clock.sleep(60 - self._clock.now().second)
        looks = _STRIKES_SECONDS
        while (missing := self._missing()) and looks:
            looks -= 1
            await self._clock.sleep(1)
        self._trace.require(not missing, "an instant runs once", f"{missing} does not")

    def _missing(self) -> list[str]:
        timed = {
            job: it["timetable"] for job, it in self._monitor.recorded.applied.items() if it.get("timetable")
        }
        missing = [(job, self._monitor.instants.missing(job, it)) for job, it in timed.items()]
        return [f"{instant} of {job[-4:]}" for job, instant in missing if instant]

    async def _lead_back(self, environment: Environment, services: list[Any]) -> None:
        """A route that a replaced owner switched last is led back by a new revision, as by a restart; and so
        is one to what was started again after its end, and does not answer since. What was started while it
        behaved badly is started anew."""
        recorded = self._monitor.recorded
        meant = set(recorded.misled()) & (self._monitor.late | recorded.silent()) | recorded.unwell()
        for service in (s for s in environment.services if s.id in meant & {s["id"] for s in services}):
            path = f"/environment/{environment.id}/service/restart-service"
            await self._ask("POST", path, {f"{service.kind}_ids": [service.id]})
            await self.all_ended()
