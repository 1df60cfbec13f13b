"""The simulated router: routes in a dictionary, answers by script, traffic only if a test adds it."""

from refloat.clock import Clock
from refloat.domain.errors import Conflict, NotFound
from refloat.routers.base import Address, Answer, Counts, Domain, Serving
from refloat.simulated.world import World

_FIRST_PORT = 30000


class SimulatedRouter:
    """Implements the router port on a `World`."""

    def __init__(self, world: World, clock: Clock) -> None:
        self._world = world
        self._clock = clock

    async def start(self) -> None:
        """Nothing to bring up."""

    async def reserve(self, service_id: str, hosts: tuple[str, ...]) -> Address:
        number = self._world.reserved.setdefault(service_id, len(self._world.reserved))
        self._world.hosts[service_id] = hosts
        return Address(
            internal=f"127.0.0.1:{_FIRST_PORT + number}",
            hosts=hosts,
            url=f"http://{hosts[0]}" if hosts else "",
            domain_urls=tuple(f"http://{it.name}" for it in self._world.domains.get(service_id, ())),
        )

    async def attach(self, service_id: str, domains: tuple[Domain, ...]) -> None:
        names = {domain.name for domain in domains}
        for other, attached in self._world.domains.items() if names else ():
            if other != service_id and names & {domain.name for domain in attached}:
                raise Conflict(f"one of {', '.join(sorted(names))} already belongs to another service")
        self._world.domains[service_id] = domains

    async def switch(self, service_id: str, revision_key: str, endpoints: tuple[str, ...]) -> None:
        if service_id not in self._world.hosts:
            raise NotFound(f"the edge has no address for {service_id}")
        running = self._world.running.get(revision_key)
        if running and running.script.word("answer") == "old":
            return
        self._world.routes[service_id] = (revision_key, endpoints)

    async def serving(self, service_id: str) -> Serving | None:
        key, endpoints = self._world.routes.get(service_id, ("", ()))
        return Serving(revision_key=key, endpoints=endpoints) if endpoints else None

    async def ask(self, service_id: str, path: str, timeout: float) -> Answer:
        key, endpoints = self._world.routes.get(service_id, ("", ()))
        running = self._world.running.get(key)
        if not endpoints or running is None or running.stopped or running.boot == "exit":
            return Answer(status=503, endpoint="", reason="nothing runs behind the route")
        word = running.script.word("answer")
        if word == "none":
            return Answer(status=0, endpoint="", reason="no answer in time")
        return Answer(status=500 if word == "error" else 200, endpoint=endpoints[0])

    async def drain(self, endpoints: tuple[str, ...], deadline_seconds: float) -> int:
        keys = {endpoint.rpartition("/")[0] for endpoint in endpoints}
        known = [self._world.running[key] for key in keys if key in self._world.running]
        seconds = [running.script.seconds("drain_seconds") for running in known]
        wanted = max(seconds, default=0.0)
        await self._clock.sleep(min(wanted, deadline_seconds))
        return int(wanted > deadline_seconds)

    async def mark(self, service_id: str) -> str:
        return ""

    async def counts(self, service_id: str, since: str) -> Counts | None:
        return None

    async def forget(self, service_id: str) -> None:
        self._world.routes.pop(service_id, None)
        self._world.hosts.pop(service_id, None)
        self._world.domains.pop(service_id, None)
