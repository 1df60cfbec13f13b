"""The API behind the edge, like a service of its own."""

from refloat.routers.base import Router

API = "refloat-api"
"""The service that the API is to the router; no id of a service looks like it."""


async def publish(router: Router, hosts: tuple[str, ...], endpoint: str) -> None:
    """Have these hosts lead to the API, and no others; none: it is not behind the edge."""
    if not hosts:
        await router.forget(API)
        return
    await router.reserve(API, hosts)
    await router.switch(API, API, (endpoint,))
