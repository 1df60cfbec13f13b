"""A clone is configured as its source, shares nothing with it, and runs nothing."""

from typing import Any

from api_support import UNKNOWN, Api

PORTS = {"ports": [{"internal_port": 8000, "publicly_accessible": True}, {"internal_port": 9000}]}
MOUNT = {"storage": [{"size": 1, "mount_point": "/data"}]}


async def variable(api: Api, scope: str, parent: str, key: str, value: str, **more: Any) -> str:
    place = {"variable_scope": scope, "variable_parent_id": parent}
    made = await api("POST", "/variable", {"key": key, "value": value, "is_secret": False, **place, **more})
    return str(made["id"])


async def visible(api: Api, scope: str, parent: str) -> dict[str, dict[str, Any]]:
    found = await api.results(f"/variable?parent_id={parent}&scope={scope}")
    return {it["key"]: it for it in found}


async def cloned(api: Api, name: str = "copy", **more: Any) -> dict[str, Any]:
    path = f"/environment/{api.environment}/clone"
    made: dict[str, Any] = await api("POST", path, {"name": name, **more}, expect=202)
    return made


def without_ids(body: Any) -> Any:
    """The configuration alone."""
    dropped = ("id", "created_at", "updated_at", "environment")
    if isinstance(body, dict):
        return {key: without_ids(value) for key, value in body.items() if key not in dropped}
    return [without_ids(it) for it in body] if isinstance(body, list) else body


def ids_in(body: Any) -> set[str]:
    if isinstance(body, dict):
        own = {body["id"]} if "id" in body else set()
        return own.union(*(ids_in(v) for k, v in body.items() if k != "environment"))
    return set().union(*(ids_in(it) for it in body)) if isinstance(body, list) else set()


async def test_services_are_equal_but_for_their_ids_and_never_deployed(api: Api) -> None:
    await api.make_application("api", changes={**PORTS, **MOUNT})
    await api.make_application("web", changes={"arguments": ["--fast"], "cpu": 750})
    copy = await cloned(api)
    before = await api.results(f"/environment/{api.environment}/application")
    after = await api.results(f"/environment/{copy['id']}/application")
    assert without_ids(after) == without_ids(before)
    assert ids_in(after).isdisjoint(ids_in(before)) and len(ids_in(after)) == len(ids_in(before))
    status = await api("GET", f"/environment/{copy['id']}/status")
    assert (status["state"], status["deployment_status"]) == ("READY", "NEVER_DEPLOYED")


async def test_services_of_every_kind_are_copied_and_a_database_gets_a_password_of_its_own(api: Api) -> None:
    registry = {"name": "hub", "kind": "DOCKER_HUB", "url": "https://docker.io", "config": {}}
    made = await api("POST", f"/organization/{api.organization}/containerRegistry", registry)
    path = f"/environment/{api.environment}"
    image = {"registry_id": made["id"], "image_name": "nginx", "tag": "1"}
    await api("POST", f"{path}/container", {"name": "cache", "healthchecks": {}, **image})
    job = {"name": "job", "healthchecks": {}, "source": {"image": image}, "schedule": {"on_start": {}}}
    await api("POST", f"{path}/job", job)
    kind = {"type": "POSTGRESQL", "version": "15", "mode": "CONTAINER"}
    await api("POST", f"{path}/database", {"name": "db", **kind})
    copy = await cloned(api)
    before = {s["name"]: s for s in await api.results(f"{path}/services")}
    after = {s["name"]: s for s in await api.results(f"/environment/{copy['id']}/services")}
    assert after.keys() == before.keys() == {"cache", "job", "db"}
    assert {s["id"] for s in after.values()}.isdisjoint({s["id"] for s in before.values()})
    words = [
        (await api("GET", f"/database/{s['db']['id']}/masterCredentials"))["password"]
        for s in (before, after)
    ]
    assert words[0] != words[1]


async def test_stages_keep_their_order_their_services_and_who_is_skipped(api: Api) -> None:
    web = await api.make_application("web")
    path = f"/environment/{api.environment}/deploymentStage"
    stage = await api("POST", path, {"name": "FRONTEND", "description": "last"})
    await api("PUT", f"/deploymentStage/{stage['id']}/service/{web['id']}", {"is_skipped": True})
    copy = await cloned(api)
    before, after = await api.stages(), await api.stages(copy["id"])
    assert [(s["name"], s["description"]) for s in after] == [(s["name"], s["description"]) for s in before]
    assert {s["id"] for s in after}.isdisjoint({s["id"] for s in before})
    (placed,) = after[-1]["services"]
    assert placed["is_skipped"] and placed["service_id"] != web["id"]


async def test_variables_of_every_type_are_copied_with_references_to_the_copies(api: Api) -> None:
    web = await api.make_application("web")
    shared = await variable(api, "ENVIRONMENT", api.environment, "SHARED", "one")
    await variable(api, "APPLICATION", web["id"], "TOKEN", "hidden", is_secret=True)
    await variable(api, "APPLICATION", web["id"], "CONF", "text", mount_path="/etc/conf")
    place = {"alias_scope": "APPLICATION", "alias_parent_id": web["id"]}
    await api("POST", f"/variable/{shared}/alias", {"key": "OTHER", **place})
    place = {"override_scope": "APPLICATION", "override_parent_id": web["id"]}
    await api("POST", f"/variable/{shared}/override", {"value": "two", **place})
    copy = await cloned(api)
    (application,) = await api.results(f"/environment/{copy['id']}/application")
    own = await visible(api, "APPLICATION", application["id"])
    (copied,) = (
        v for v in await api.results(f"/environment/{copy['id']}/environmentVariable") if v["key"] == "SHARED"
    )
    assert copied["id"] != shared
    assert own["OTHER"]["aliased_variable"]["id"] == copied["id"]
    assert own["SHARED"]["overridden_variable"]["id"] == copied["id"] and own["SHARED"]["value"] == "two"
    assert own["TOKEN"]["is_secret"] and own["CONF"]["mount_path"] == "/etc/conf"
    await api("PUT", f"/variable/{copied['id']}", {"key": "SHARED", "value": "changed"})
    source = await visible(api, "ENVIRONMENT", api.environment)
    assert source["SHARED"]["value"] == "one"


async def test_references_to_a_neighbour_lead_to_its_copy(api: Api) -> None:
    peer = await api.make_application("peer", changes=PORTS)
    web = await api.make_application("web")
    known = await visible(api, "APPLICATION", web["id"])
    key = next(k for k in known if k.endswith("_URL_INTERNAL") and peer["id"][-8:].upper() in k)
    place = {"alias_scope": "APPLICATION", "alias_parent_id": web["id"]}
    await api("POST", f"/variable/{known[key]['id']}/alias", {"key": "PEER", **place})
    await variable(api, "APPLICATION", web["id"], "TEXT", f"at {{{{{key}}}}} not {key}")
    copy = await cloned(api)
    after = {a["name"]: a for a in await api.results(f"/environment/{copy['id']}/application")}
    own = await visible(api, "APPLICATION", after["web"]["id"])
    wanted = key.replace(peer["id"][-8:].upper(), after["peer"]["id"][-8:].upper())
    assert own["PEER"]["aliased_variable"]["key"] == wanted
    assert own["TEXT"]["value"] == f"at {{{{{wanted}}}}} not {key}"


async def test_host_names_are_the_clones_own(api: Api) -> None:
    await api.make_application("web", changes=PORTS)
    copy = await cloned(api)
    (before,) = await api.results(f"/environment/{api.environment}/link")
    (after,) = await api.results(f"/environment/{copy['id']}/link")
    assert before["url"] != after["url"] and copy["id"][-8:] in after["url"]


async def test_a_clone_may_change_mode_cluster_and_project(api: Api) -> None:
    body = {"name": "other", "refloat_kind": "simulated"}
    cluster = await api("POST", f"/organization/{api.organization}/cluster", body)
    project = await api("POST", f"/organization/{api.organization}/project", {"name": "other"})
    copy = await cloned(api, "shop", mode="PREVIEW", cluster_id=cluster["id"], project_id=project["id"])
    assert copy["mode"] == "PREVIEW" and copy["cluster_id"] == cluster["id"]
    assert copy["project"]["id"] == project["id"]


async def test_a_clone_that_cannot_be_is_refused(api: Api) -> None:
    path = f"/environment/{api.environment}/clone"
    await api.refused("POST", path, {"name": "SHOP"}, status=409, words="is taken")
    await api.refused("POST", path, {"name": " "}, words="name")
    await api.refused("POST", path, {}, words="name")
    await api.refused("POST", path, {"name": "x", "project_id": UNKNOWN}, status=404)
    await api.refused("POST", path, {"name": "x", "cluster_id": UNKNOWN}, status=404)
    await api.refused("POST", path, {"name": "x", "apply_deployment_rule": True}, words="rules")
    await api.refused("POST", f"/environment/{UNKNOWN}/clone", {"name": "x"}, status=404)
    api.client = api.as_(await api.make_token("d", "Deployer"))
    await api.refused("POST", path, {"name": "x"}, status=403)


async def test_a_clone_never_leads_out_of_its_organization(api: Api) -> None:
    other = await api("POST", "/organization", {"name": "other"}, expect=201)
    project = await api("POST", f"/organization/{other['id']}/project", {"name": "p"})
    (cluster,) = await api.results(f"/organization/{other['id']}/cluster")
    path = f"/environment/{api.environment}/clone"
    await api.refused("POST", path, {"name": "x", "project_id": project["id"]}, words="organization")
    await api.refused("POST", path, {"name": "x", "cluster_id": cluster["id"]}, words="organization")


async def test_a_clone_that_fails_leaves_nothing(api: Api) -> None:
    await api.make_application("web")
    await api.make_environment("taken")
    count = len(await api.results(f"/project/{api.project}/environment"))
    path = f"/environment/{api.environment}/clone"
    await api.refused("POST", path, {"name": "taken"}, status=409, words="taken")
    assert len(await api.results(f"/project/{api.project}/environment")) == count


async def test_a_service_is_cloned_with_its_variables_into_the_stage_of_the_same_name(api: Api) -> None:
    source = await api.make_application("api", changes=PORTS)
    path = f"/environment/{api.environment}/environmentVariable"
    shared = await api("POST", path, {"key": "SHARED", "value": "1"}, expect=201)
    own = f"/application/{source['id']}"
    await api("POST", f"{own}/secret", {"key": "TOKEN", "value": "sesame"}, expect=201)
    await api("POST", f"{own}/environmentVariable/{shared['id']}/alias", {"key": "ALIAS"}, expect=201)
    body = {"name": "api-2", "environment_id": api.environment}
    made = await api("POST", f"{own}/clone", body, expect=202)
    assert without_ids({**made, "name": "api"}) == without_ids(source)
    stages = [await api("GET", f"/service/{s['id']}/deploymentStage") for s in (source, made)]
    assert stages[0]["id"] == stages[1]["id"]
    listed = await api.results(f"/application/{made['id']}/environmentVariable")
    alias = next(v for v in listed if v["key"] == "ALIAS")
    assert alias["aliased_variable"]["id"] == shared["id"]
    assert "TOKEN" in {v["key"] for v in await api.results(f"/application/{made['id']}/secret")}
    await api.refused("POST", f"{own}/clone", body, status=409, words="'api-2' is taken")


async def test_a_service_cloned_elsewhere_keeps_its_own_variables_and_refers_to_nothing(api: Api) -> None:
    source = await api.make_application("api")
    path = f"/environment/{api.environment}/environmentVariable"
    shared = await api("POST", path, {"key": "SHARED", "value": "1"}, expect=201)
    own = f"/application/{source['id']}"
    await api("POST", f"{own}/environmentVariable", {"key": "OWN", "value": "2"}, expect=201)
    await api("POST", f"{own}/environmentVariable/{shared['id']}/alias", {"key": "ALIAS"}, expect=201)
    other = await api.make_environment("other")
    made = await api("POST", f"{own}/clone", {"name": "api", "environment_id": other}, expect=202)
    stage = await api("GET", f"/service/{made['id']}/deploymentStage")
    assert stage["name"] == "DEFAULT APPLICATION" and stage["environment"]["id"] == other
    listed = await api.results(f"/application/{made['id']}/environmentVariable")
    assert {v["key"] for v in listed if v["scope"] != "BUILT_IN"} == {"OWN"}
