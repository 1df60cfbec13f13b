"""Custom domains as the router has them: those of the configuration that serves."""

from refloat.execution.applied import Applied
from refloat.planning.wanted import Fields, domains_in
from refloat.routers.base import Domain, Router


async def attach(router: Router, service_id: str, fields: Fields) -> None:
    """Have exactly the domains that the fields name lead to the service."""
    domains = tuple(Domain(name=name, certificate=wanted) for name, wanted in domains_in(fields))
    await router.attach(service_id, domains)


async def reattach(router: Router, service_id: str, before: Applied | None) -> None:
    """Those of what was applied before, also when it does not run; none if there was nothing."""
    await attach(router, service_id, before.fields if before else {})
