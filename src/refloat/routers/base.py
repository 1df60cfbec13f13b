"""The port of routers: who answers for a service, changed in one instant, and counted.

A service has one stable address for peers and one or more host names for the public. Both always lead
to the same endpoints. Routes live outside the control plane: they go on working while it is down.
"""

from typing import Protocol

import msgspec


class Domain(msgspec.Struct, frozen=True, kw_only=True):
    """A name of somebody else's that leads to a service. Without `certificate`, whoever stands in front
    of the edge has one, and asks the edge in plain HTTP."""

    name: str
    certificate: bool = True


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a service can be reached, whatever runs. `internal` is `host:port`; `url` the public address,
    `domain_urls` those by the domains that are attached."""

    internal: str
    hosts: tuple[str, ...]
    url: str
    domain_urls: tuple[str, ...] = ()


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """What a route points at now."""

    revision_key: str
    endpoints: tuple[str, ...]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One response through the public route: its status, and the endpoint that gave it ("" when none did)."""

    status: int
    endpoint: str
    reason: str = ""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Requests as the edge saw them: `failed` = 502, 503, 504 or an upstream that broke off."""

    served: int
    failed: int


class Router(Protocol):
    """One edge in front of one cluster."""

    async def start(self) -> None:
        """Bring the edge up or adopt the running one, and prove a switch on a canary route.

        Raises Unavailable with the reason when it cannot serve truthfully.
        """
        ...

    async def reserve(self, service_id: str, hosts: tuple[str, ...]) -> Address:
        """The stable address of a service, the same at every call; hosts may change, domains stay."""
        ...

    async def attach(self, service_id: str, domains: tuple[Domain, ...]) -> None:
        """Have exactly these domains lead to the service besides its hosts. Idempotent.

        Raises Conflict for one that leads to another service.
        """
        ...

    async def switch(self, service_id: str, revision_key: str, endpoints: tuple[str, ...]) -> None:
        """Send every new request to these endpoints, atomically; none = answer 503. Idempotent.

        Raises NotFound for a service that has no address.
        """
        ...

    async def serving(self, service_id: str) -> Serving | None:
        """What the route says now, read from the world; None when it points nowhere."""
        ...

    async def ask(self, service_id: str, path: str, timeout: float) -> Answer:
        """One GET through the public route, telling which endpoint answered. Never raises for a bad answer.

        Requests of this kind are not counted.
        """
        ...

    async def drain(self, endpoints: tuple[str, ...], deadline_seconds: float) -> int:
        """Wait until no request is in flight to these endpoints; how many are left at the deadline."""
        ...

    async def mark(self, service_id: str) -> str:
        """A point in the stream of requests to count from; opaque, survives restarts."""
        ...

    async def counts(self, service_id: str, since: str) -> Counts | None:
        """Requests of the service finished since the mark; None when there were none."""
        ...

    async def forget(self, service_id: str) -> None:
        """Free the address and hosts of a service that is gone."""
        ...
