"""When custom domains take effect: with a deployment, and never before."""

from typing import Any

from tests.databases import on_both_stores
from tests.simulation.control_plane import ControlPlane

pytestmark = on_both_stores


async def add(plane: ControlPlane, application: str, name: str) -> str:
    body = {"domain": name, "generate_certificate": True}
    return str((await plane.call("POST", f"/application/{application}/customDomain", body))["id"])


async def urls(plane: ControlPlane, application: str) -> list[tuple[str, bool]]:
    links = (await plane.call("GET", f"/application/{application}/link"))["results"]
    return [(link["url"], link["is_qovery_domain"]) for link in links]


def attached(plane: ControlPlane, application: str) -> list[str]:
    return [domain.name for domain in plane.world.domains.get(application, ())]


def freshness(statuses: dict[str, Any]) -> str:
    return str(statuses["environment"]["deployment_status"])


async def test_a_domain_leads_to_its_service_from_the_next_deployment_on(plane: ControlPlane) -> None:
    environment = await plane.environment()
    application = await plane.application(environment, "web")
    assert freshness(await plane.roll(environment)) == "UP_TO_DATE"
    domain = await add(plane, application, "shop.example.org")
    assert freshness(await plane.statuses(environment)) == "OUT_OF_DATE"
    assert len(await urls(plane, application)) == 1
    assert freshness(await plane.roll(environment)) == "UP_TO_DATE"
    assert (await urls(plane, application))[1:] == [("http://shop.example.org", False)]
    await plane.call("DELETE", f"/application/{application}/customDomain/{domain}")
    assert freshness(await plane.statuses(environment)) == "OUT_OF_DATE"
    assert len(await urls(plane, application)) == 2
    await plane.roll(environment)
    assert len(await urls(plane, application)) == 1


async def test_stop_restart_and_redeploy_keep_it_and_a_delete_frees_it(plane: ControlPlane) -> None:
    environment = await plane.environment()
    application = await plane.application(environment, "web")
    await add(plane, application, "shop.example.org")
    await plane.roll(environment)
    for path in (
        f"/application/{application}/restart-service",
        f"/environment/{environment}/stop",
        f"/environment/{environment}/redeploy",
    ):
        await plane.call("POST", path, expect=202)
        await plane.ended(environment)
        assert attached(plane, application) == ["shop.example.org"], path
    await plane.call("DELETE", f"/application/{application}")
    await plane.eventually(lambda: _gone(plane, application))
    assert attached(plane, application) == []
    other = await plane.application(environment, "other")
    await add(plane, other, "shop.example.org")


async def _gone(plane: ControlPlane, application: str) -> bool:
    return (await plane.api.get(f"/application/{application}")).status_code == 404


async def test_a_name_moves_only_after_its_old_service_was_deployed_without_it(plane: ControlPlane) -> None:
    environment = await plane.environment()
    old = await plane.application(environment, "old")
    new = await plane.application(environment, "new")
    domain = await add(plane, old, "shop.example.org")
    await plane.roll(environment)
    await plane.call("DELETE", f"/application/{old}/customDomain/{domain}")
    body = {"domain": "shop.example.org", "generate_certificate": True}
    refused = await plane.call("POST", f"/application/{new}/customDomain", body, expect=400)
    assert "still leads to the service that had it" in refused["message"]
    await plane.roll(environment)
    await add(plane, new, "shop.example.org")
    await plane.roll(environment)
    assert (attached(plane, old), attached(plane, new)) == ([], ["shop.example.org"])
