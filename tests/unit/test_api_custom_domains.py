"""Custom domains: whose they can be, how they are shown, and where they lead."""

import dataclasses
from typing import Any

import pytest
from api_support import ADMIN, UNKNOWN, Api

from refloat.api.asgi import create_app
from refloat.domain.errors import Unavailable

REGISTRY = {"name": "hub", "kind": "DOCKER_HUB", "config": {}}


async def made(api: Api, application: str, domain: str, **more: Any) -> dict[str, Any]:
    body = {"domain": domain, "generate_certificate": True, **more}
    answer = await api("POST", f"/application/{application}/customDomain", body, expect=201)
    return dict(answer)


async def containers(api: Api) -> str:
    """The path of a new container."""
    place = f"/organization/{api.organization}/containerRegistry"
    registry = (await api("POST", place, REGISTRY))["id"]
    body = {"name": "box", "registry_id": registry, "image_name": "nginx", "tag": "1", "healthchecks": {}}
    path = f"/environment/{api.environment}/container"
    return f"/container/{(await api('POST', path, body, expect=201))['id']}"


async def test_a_domain_is_made_shown_changed_and_removed_for_both_kinds(api: Api) -> None:
    application = f"/application/{(await api.make_application('web'))['id']}"
    for number, service in enumerate((application, await containers(api))):
        path, name = f"{service}/customDomain", f"shop{number}.example.org"
        assert await api.results(path) == []
        given = {"domain": f" {name.upper()}. ", "generate_certificate": True, "use_cdn": True}
        domain = await api("POST", path, given, expect=201)
        assert (domain["domain"], domain["use_cdn"], domain["status"]) == (name, True, "VALIDATION_PENDING")
        assert await api.results(path) == [domain]
        one = f"{path}/{domain['id']}"
        assert await api("GET", f"{one}/status", expect=200) == domain
        other = {"domain": name, "generate_certificate": False}
        edited = await api("PUT", one, other, expect=200)
        assert (edited["generate_certificate"], edited["use_cdn"]) == (False, True)
        assert edited["created_at"] == domain["created_at"]
        await api("DELETE", one, expect=204)
        assert await api.results(path) == []
        await api.refused("DELETE", one, status=404)


async def test_the_target_is_the_name_that_the_services_link_has(api: Api) -> None:
    ports = {"ports": [{"internal_port": 80, "publicly_accessible": True}]}
    application = (await api.make_application("web", changes=ports))["id"]
    domain = await made(api, application, "shop.example.org")
    [link] = await api.results(f"/application/{application}/link")
    assert link["url"] == f"http://{domain['validation_domain']}"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "shop",
        "*.example.org",
        "shop.example.org/x",
        "https://shop.example.org",
        "a b.example.org",
        "203.0.113.7",
        "-a.example.org",
        "münchen.example.org",
        "{file./etc/passwd}.org",
        "a" * 64 + ".org",
    ],
)
async def test_what_is_no_domain_name_is_refused(api: Api, name: str) -> None:
    application = (await api.make_application("web"))["id"]
    path = f"/application/{application}/customDomain"
    await api.refused("POST", path, {"domain": name}, words="is not a domain name")


@pytest.mark.parametrize(
    "name", ["web.localhost", "api.localhost", "a.b.localhost", "canary.refloat.internal"]
)
async def test_the_installations_own_names_are_nobodys(api: Api, name: str) -> None:
    application = (await api.make_application("web"))["id"]
    path = f"/application/{application}/customDomain"
    await api.refused("POST", path, {"domain": name}, words="installation's own")
    domain = await made(api, application, "shop.example.org")
    await api.refused("PUT", f"{path}/{domain['id']}", {"domain": name}, words="installation's own")


async def test_a_name_is_one_services_in_the_whole_installation(api: Api) -> None:
    elsewhere = await api.make_environment("other")
    first = (await api.make_application("web"))["id"]
    second = (await api.make_application("web", elsewhere))["id"]
    domain = await made(api, first, "shop.example.org")
    other = await made(api, second, "other.example.org")
    for service in (first, second):
        path = f"/application/{service}/customDomain"
        await api.refused("POST", path, {"domain": "Shop.example.org"}, words="already a custom domain")
    path = f"/application/{second}/customDomain/{other['id']}"
    await api.refused("PUT", path, {"domain": "shop.example.org"}, words="already a custom domain")
    await api("PUT", f"/application/{first}/customDomain/{domain['id']}", {"domain": "SHOP.example.org"})
    await api("DELETE", f"/application/{first}/customDomain/{domain['id']}", expect=204)
    await api("PUT", path, {"domain": "shop.example.org"}, expect=200)


async def test_a_domain_is_reached_through_its_own_service_only(api: Api) -> None:
    first, second = [(await api.make_application(name))["id"] for name in ("one", "two")]
    domain = await made(api, first, "shop.example.org")
    for path in (
        f"/application/{second}/customDomain/{domain['id']}",
        f"/application/{first}/customDomain/{UNKNOWN}",
        f"/container/{first}/customDomain/{domain['id']}",
    ):
        await api.refused("GET", f"{path}/status", status=404)
        await api.refused("DELETE", path, status=404)
        await api.refused("PUT", path, {"domain": "a.example.org"}, status=404)


async def test_only_who_may_manage_a_service_gives_it_domains(api: Api) -> None:
    application = (await api.make_application("web"))["id"]
    path = f"/application/{application}/customDomain"
    domain = await made(api, application, "shop.example.org")
    api.client = api.as_(await api.make_token("deployer", "Deployer"))
    assert await api.results(path) == [domain]
    await api.refused("POST", path, {"domain": "b.example.org"}, status=403)
    await api.refused("PUT", f"{path}/{domain['id']}", {"domain": "b.example.org"}, status=403)
    await api.refused("DELETE", f"{path}/{domain['id']}", status=403)


async def test_a_clone_has_none_of_them(api: Api) -> None:
    await made(api, (await api.make_application("web"))["id"], "shop.example.org")
    clone = await api("POST", f"/environment/{api.environment}/clone", {"name": "copy"})
    [copied] = await api.results(f"/environment/{clone['id']}/application")
    assert await api.results(f"/application/{copied['id']}/customDomain") == []


HERE, THERE = frozenset({"198.51.100.1", "2001:db8::1"}), frozenset({"203.0.113.9"})


@pytest.mark.parametrize(
    ("use_cdn", "found", "ours", "status", "words"),
    [
        (False, HERE, HERE, "MATCHES_LOAD_BALANCER_HOST", None),
        (False, frozenset({"198.51.100.1"}), HERE, "MATCHES_LOAD_BALANCER_HOST", None),
        (False, THERE, HERE, "DOMAIN_LINKED_TO_WRONG_HOST", "203.0.113.9"),
        (False, frozenset(), HERE, "DOMAIN_NOT_CONFIGURED", "CNAME record that leads to"),
        (False, THERE, frozenset(), "GENERIC_FAILURE", "make a DNS record for *.localhost"),
        (False, None, HERE, "GENERIC_FAILURE", "could not be looked up"),
        (True, THERE, HERE, "RESOLVES_TO_IP", None),
        (True, frozenset(), HERE, "DOMAIN_NOT_CONFIGURED", "give it an address"),
    ],
)
async def test_a_check_says_where_the_domain_leads(
    api: Api,
    use_cdn: bool,
    found: frozenset[str] | None,
    ours: frozenset[str],
    status: str,
    words: str | None,
) -> None:
    async def resolve(name: str) -> frozenset[str]:
        if name == "shop.example.org" and found is None:
            raise Unavailable(f"{name} could not be looked up: no nameserver answers")
        return (found or frozenset()) if name == "shop.example.org" else ours

    api.app = create_app(dataclasses.replace(api.context, resolve=resolve))
    api.client = api.as_(ADMIN)
    application = (await api.make_application("web"))["id"]
    assert await api.results(f"/application/{application}/checkCustomDomain") == []
    await made(api, application, "shop.example.org", use_cdn=use_cdn)
    [checked] = await api.results(f"/application/{application}/checkCustomDomain")
    assert (checked["domain_name"], checked["status"]) == ("shop.example.org", status)
    assert (words or "") in (checked["error_details"] or "")
    assert (checked["error_details"] is None) == (words is None)


async def test_names_of_this_machine_need_no_dns() -> None:
    from refloat.control.resolving import resolve

    assert await resolve("anything.localhost") == {"127.0.0.1", "::1"}
    assert await resolve("127.0.0.1") == {"127.0.0.1"}
