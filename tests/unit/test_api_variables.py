"""Variables and secrets through both families of endpoints."""

from typing import Any

import pytest
from api_support import UNKNOWN, Api

FAMILIES = ["environmentVariable", "secret"]


async def _places(api: Api) -> dict[str, str]:
    """One owner of each scope, each inside the one before."""
    service = (await api.make_application("web"))["id"]
    return {"project": api.project, "environment": api.environment, "application": service}


async def _make(api: Api, noun: str, owner: str, key: str, value: str = "1", **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = await api(
        "POST", f"/{noun}/{owner}/environmentVariable", {"key": key, "value": value, **more}, expect=201
    )
    return made


async def _own(api: Api, noun: str, owner: str, family: str = "environmentVariable") -> dict[str, Any]:
    """What is seen from a scope by key, without what is built in."""
    found = await api.results(f"/{noun}/{owner}/{family}")
    return {v["key"]: v["value"] for v in found if v["scope"] != "BUILT_IN"}


@pytest.mark.parametrize("family", FAMILIES)
async def test_each_scope_has_its_own_and_inherits_the_wider_ones(family: str, api: Api) -> None:
    places = await _places(api)
    for noun, owner in places.items():
        body = {"key": noun.upper(), "value": "v", "description": "d"}
        made = await api("POST", f"/{noun}/{owner}/{family}", body, expect=201)
        assert (made["scope"], made["variable_type"], made["description"]) == (noun.upper(), "VALUE", "d")
        assert made["value"] == (None if family == "secret" else "v")
    seen = {noun: set(await _own(api, noun, owner, family)) for noun, owner in places.items()}
    assert seen == {
        "project": {"PROJECT"},
        "environment": {"PROJECT", "ENVIRONMENT"},
        "application": {"PROJECT", "ENVIRONMENT", "APPLICATION"},
    }
    other = FAMILIES[1 - FAMILIES.index(family)]
    assert await _own(api, "application", places["application"], other) == {}


@pytest.mark.parametrize("family", FAMILIES)
async def test_a_variable_is_edited_and_deleted_only_where_it_belongs(family: str, api: Api) -> None:
    places = await _places(api)
    made = await api("POST", f"/project/{api.project}/{family}", {"key": "A", "value": "1"})
    path = f"/project/{api.project}/{family}/{made['id']}"
    wrong = f"/application/{places['application']}/{family}/{made['id']}"
    await api.refused("PUT", wrong, {"key": "B", "value": "2"}, status=404)
    await api.refused("DELETE", wrong, status=404)
    edited = await api("PUT", path, {"key": "B", "value": "2"}, expect=200)
    assert (edited["key"], edited["id"]) == ("B", made["id"])
    await api("DELETE", path, expect=204)
    await api.refused("DELETE", path, status=404)


async def test_a_secret_never_reads_back(api: Api) -> None:
    places = await _places(api)
    service = places["application"]
    body = {
        "key": "PASSWORD",
        "value": "hunter2",
        "is_secret": True,
        "variable_scope": "PROJECT",
        "variable_parent_id": api.project,
    }
    made = await api("POST", "/variable", body, expect=201)
    alias = await api(
        "POST", f"/application/{service}/secret/{made['id']}/alias", {"key": "PASS"}, expect=201
    )
    override = await api(
        "POST", f"/environment/{api.environment}/secret/{made['id']}/override", {"value": "hunter3"}
    )
    texts = [made, alias, override, await api("PUT", f"/variable/{made['id']}", {"key": "PASSWORD"})]
    for scope, owner in (("PROJECT", api.project), ("APPLICATION", service)):
        texts += await api.results(f"/variable?parent_id={owner}&scope={scope}")
        texts += await api.results(f"/{scope.lower()}/{owner}/secret")
    assert "hunter" not in str(texts)
    assert {t["key"]: t["value"] for t in texts if t["is_secret"]} == {"PASSWORD": None, "PASS": None}


async def test_the_list_can_be_limited_to_secrets_or_the_rest(api: Api) -> None:
    base = {"variable_scope": "ENVIRONMENT", "variable_parent_id": api.environment, "value": "v"}
    await api("POST", "/variable", {**base, "key": "PLAIN", "is_secret": False})
    await api("POST", "/variable", {**base, "key": "HIDDEN", "is_secret": True})
    path = f"/variable?scope=ENVIRONMENT&parent_id={api.environment}"
    everything = {v["key"] for v in await api.results(path)}
    secrets = {v["key"] for v in await api.results(f"{path}&is_secret=true")}
    rest = {v["key"] for v in await api.results(f"{path}&is_secret=false")}
    assert secrets == {"HIDDEN"}
    assert "PLAIN" in rest
    assert rest | secrets == everything


@pytest.mark.parametrize("key", ["", "1A", "A-B", "A B", "A\n", "Ä", "QOVERY_X", "__A", "A=B"])
async def test_keys_that_no_process_can_have_or_that_are_ours_are_refused(key: str, api: Api) -> None:
    path = f"/environment/{api.environment}/environmentVariable"
    await api.refused("POST", path, {"key": key, "value": "1"}, words="key")
    made = await _make(api, "environment", api.environment, "GOOD")
    if key:
        await api.refused("PUT", f"{path}/{made['id']}", {"key": key, "value": "1"}, words="key")
        await api.refused("POST", f"{path}/{made['id']}/alias", {"key": key}, words="key")
    assert await _own(api, "environment", api.environment) == {"GOOD": "1"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"description": "x" * 256}, "description: at most 255"),
        ({"value": "a\0b"}, "NUL"),
        ({"value": "x" * 200_000}, "at most"),
        ({"mount_path": "etc/x"}, "mount_path"),
        ({"mount_path": "/etc/../x"}, "mount_path"),
        ({"mount_path": "/etc/"}, "mount_path"),
        ({"value": 1}, "value: text or null is expected"),
    ],
)
async def test_values_that_no_process_can_be_given_are_refused(
    body: dict[str, Any], words: str, api: Api
) -> None:
    path = f"/environment/{api.environment}/environmentVariable"
    await api.refused("POST", path, {"key": "A", "value": "1", **body}, words=words)
    assert await _own(api, "environment", api.environment) == {}


async def test_a_taken_key_is_409(api: Api) -> None:
    await _make(api, "environment", api.environment, "A")
    path = f"/environment/{api.environment}"
    await api.refused("POST", f"{path}/environmentVariable", {"key": "A"}, status=409, words="A")
    await api.refused("POST", f"{path}/secret", {"key": "A"}, status=409, words="A")


async def test_an_edit_without_a_value_keeps_it(api: Api) -> None:
    made = await _make(api, "environment", api.environment, "A", "kept")
    for body in ({"key": "A"}, {"key": "A", "value": None}):
        edited = await api("PUT", f"/variable/{made['id']}", body)
        assert edited["value"] == "kept"
    assert (await api("PUT", f"/variable/{made['id']}", {"key": "A", "value": ""}))["value"] == ""


async def test_a_variable_with_a_path_is_a_file(api: Api) -> None:
    made = await _make(api, "environment", api.environment, "CONF", "x={{A}}", mount_path="/etc/app.conf")
    assert (made["variable_type"], made["mount_path"]) == ("FILE", "/etc/app.conf")
    assert not made["enable_interpolation_in_file"]
    edited = await api(
        "PUT", f"/variable/{made['id']}", {"key": "CONF", "enable_interpolation_in_file": True}
    )
    assert edited["enable_interpolation_in_file"]


async def test_an_alias_follows_its_target_and_an_override_has_its_own_value(api: Api) -> None:
    service = (await _places(api))["application"]
    wide = await _make(api, "project", api.project, "A", "wide", description="the target")
    alias = await api("POST", f"/application/{service}/environmentVariable/{wide['id']}/alias", {"key": "B"})
    override = await api(
        "POST", f"/environment/{api.environment}/environmentVariable/{wide['id']}/override", {"value": "own"}
    )
    assert (alias["key"], alias["value"], alias["variable_type"]) == ("B", "wide", "ALIAS")
    assert (alias["aliased_variable"]["id"], alias["aliased_variable"]["key"]) == (wide["id"], "A")
    assert (override["key"], override["value"], override["variable_type"]) == ("A", "own", "OVERRIDE")
    assert override["overridden_variable"]["value"] == "wide"
    await api("PUT", f"/variable/{wide['id']}", {"key": "A", "value": "new"})
    seen = {v["id"]: v["value"] for v in await api.results(f"/application/{service}/environmentVariable")}
    assert (seen[alias["id"]], seen[override["id"]], seen[wide["id"]]) == ("new", "own", "new")


async def test_an_alias_keeps_its_value_and_an_override_its_key(api: Api) -> None:
    service = (await _places(api))["application"]
    wide = await _make(api, "project", api.project, "A", "wide")
    base = {"alias_scope": "APPLICATION", "alias_parent_id": service}
    alias = await api("POST", f"/variable/{wide['id']}/alias", {"key": "B", **base}, expect=201)
    body = {"value": "own", "override_scope": "APPLICATION", "override_parent_id": service}
    override = await api("POST", f"/variable/{wide['id']}/override", body, expect=201)
    renamed = await api("PUT", f"/variable/{alias['id']}", {"key": "C", "value": "other"})
    assert (renamed["key"], renamed["value"]) == ("C", "wide")
    await api.refused("PUT", f"/variable/{override['id']}", {"key": "Z", "value": "x"}, words="key")
    assert (await api("PUT", f"/variable/{override['id']}", {"key": "A", "value": "x"}))["value"] == "x"


async def test_references_lead_down_and_never_from_another_reference(api: Api) -> None:
    places = await _places(api)
    service = places["application"]
    narrow = await _make(api, "application", service, "N")
    wide = await _make(api, "project", api.project, "W")
    up = f"/environment/{api.environment}/environmentVariable/{narrow['id']}"
    await api.refused("POST", f"{up}/alias", {"key": "X"}, words="narrower scope")
    await api.refused("POST", f"{up}/override", {"value": "X"}, words="narrower scope")
    same = f"/project/{api.project}/environmentVariable/{wide['id']}"
    await api.refused("POST", f"{same}/override", {"value": "X"}, words="narrower scope")
    beside = await api("POST", f"{same}/alias", {"key": "BESIDE"}, expect=201)
    for kind, body in (("alias", {"key": "Y"}), ("override", {"value": "Y"})):
        path = f"/application/{service}/environmentVariable/{beside['id']}/{kind}"
        await api.refused("POST", path, body, words="is an alias itself")


async def test_what_is_out_of_scope_cannot_be_referred_to(api: Api) -> None:
    other = await api("POST", f"/organization/{api.organization}/project", {"name": "other"})
    foreign = await _make(api, "project", other["id"], "A")
    path = f"/environment/{api.environment}/environmentVariable"
    await api.refused("POST", f"{path}/{foreign['id']}/alias", {"key": "B"}, words="not in the scope")
    await api.refused("POST", f"{path}/{UNKNOWN}/alias", {"key": "B"}, status=404)
    await api.refused("POST", f"/variable/{foreign['id']}/alias", {"key": "B"}, words="alias_scope")
    await api.refused("POST", f"/variable/{foreign['id']}/override", {"value": "B"}, words="override_scope")


async def test_deleting_a_variable_deletes_its_aliases_and_overrides(api: Api) -> None:
    service = (await _places(api))["application"]
    wide = await _make(api, "project", api.project, "A")
    await _make(api, "project", api.project, "STAYS")
    path = f"/application/{service}/environmentVariable/{wide['id']}"
    await api("POST", f"{path}/alias", {"key": "B"})
    await api("POST", f"{path}/override", {"value": "2"})
    await api("DELETE", f"/variable/{wide['id']}", expect=204)
    assert await _own(api, "application", service) == {"STAYS": "1"}


async def test_built_in_variables_are_listed_and_never_changed(api: Api) -> None:
    service = (await _places(api))["application"]
    path = f"/application/{service}/environmentVariable"
    found = {v["key"]: v for v in await api.results(path) if v["scope"] == "BUILT_IN"}
    assert {"QOVERY_ENVIRONMENT_ID", "QOVERY_ENVIRONMENT_NAME", "QOVERY_PROJECT_ID"} <= set(found)
    assert found["QOVERY_ENVIRONMENT_ID"]["value"] == api.environment
    internal = next(v["value"] for k, v in found.items() if k.endswith("_HOST_INTERNAL"))
    assert internal.startswith("127.0.0.1:")
    assert all(k.startswith("QOVERY_") and v["variable_type"] == "BUILT_IN" for k, v in found.items())
    again = {v["key"]: v["id"] for v in await api.results(path) if v["scope"] == "BUILT_IN"}
    assert again == {key: v["id"] for key, v in found.items()}
    one = found["QOVERY_PROJECT_ID"]["id"]
    for place in (f"/variable/{one}", f"{path}/{one}"):
        await api.refused("PUT", place, {"key": "X", "value": "1"}, words="built-in")
        await api.refused("DELETE", place, words="built-in")


async def test_an_alias_and_an_override_of_a_built_in_variable_are_possible(api: Api) -> None:
    service = (await _places(api))["application"]
    path = f"/application/{service}/environmentVariable"
    target = next(v for v in await api.results(path) if v["key"] == "QOVERY_ENVIRONMENT_NAME")
    alias = await api("POST", f"{path}/{target['id']}/alias", {"key": "WHERE"}, expect=201)
    assert (alias["value"], alias["aliased_variable"]["key"]) == ("shop", "QOVERY_ENVIRONMENT_NAME")
    override = await api("POST", f"{path}/{target['id']}/override", {"value": "mine"}, expect=201)
    assert (override["key"], override["value"]) == ("QOVERY_ENVIRONMENT_NAME", "mine")
    assert override["overridden_variable"]["scope"] == "BUILT_IN"
    await api("PUT", f"/environment/{api.environment}", {"name": "renamed"})
    shown = {v["key"]: v["value"] for v in await api.results(path) if v["id"] != target["id"]}
    assert (shown["WHERE"], shown["QOVERY_ENVIRONMENT_NAME"]) == ("renamed", "mine")


def _item(name: str, value: str, scope: str = "APPLICATION", *, secret: bool = False) -> dict[str, Any]:
    return {"name": name, "value": value, "scope": scope, "is_secret": secret}


async def test_an_import_stores_each_in_its_scope(api: Api) -> None:
    service = (await _places(api))["application"]
    body = {"overwrite": False, "vars": [_item("A", "1"), _item("S", "2", "ENVIRONMENT", secret=True)]}
    paths = [
        f"/application/{service}/environmentVariable/import",
        f"/variable/import?service_id={service}&service_type=APPLICATION",
    ]
    first = await api("POST", paths[0], body, expect=201)
    assert first["total_variables_to_import"] == 2
    assert [(v["name"], v.get("value")) for v in first["successful_imported_variables"]] == [
        ("A", "1"),
        ("S", None),
    ]
    assert await _own(api, "environment", api.environment, "secret") == {"S": None}
    again = await api("POST", paths[1], {**body, "vars": [_item("A", "9"), _item("B", "3")]}, expect=201)
    assert [v["name"] for v in again["successful_imported_variables"]] == ["B"]
    over = await api("POST", paths[1], {"overwrite": True, "vars": [_item("A", "9")]}, expect=201)
    assert [v["name"] for v in over["successful_imported_variables"]] == ["A"]
    assert await _own(api, "application", service) == {"A": "9", "B": "3"}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (_item("QOVERY_A", "1"), "QOVERY_A"),
        (_item("B", "a\0"), "NUL"),
        (_item("B", "1", "BUILT_IN"), "scope BUILT_IN"),
        (_item("ALIAS", "1"), "it is an alias"),
    ],
)
async def test_an_import_with_one_bad_variable_stores_none(bad: Any, words: str, api: Api) -> None:
    service = (await _places(api))["application"]
    target = await _make(api, "project", api.project, "T")
    await api("POST", f"/application/{service}/environmentVariable/{target['id']}/alias", {"key": "ALIAS"})
    before = await _own(api, "application", service)
    path = f"/application/{service}/environmentVariable/import"
    await api.refused("POST", path, {"overwrite": True, "vars": [_item("GOOD", "1"), bad]}, words=words)
    assert await _own(api, "application", service) == before


async def test_an_import_reaches_every_wider_scope_and_no_other(api: Api) -> None:
    service = (await api.make_application("api"))["id"]
    path = f"/application/{service}/environmentVariable/import"
    await api.refused("POST", path, {"vars": [_item("A", "1", "BUILT_IN")]}, words="scope BUILT_IN")
    await api("POST", path, {"vars": [_item("A", "1", "PROJECT")]}, expect=201)
    assert await _own(api, "project", api.project) == {"A": "1"}


async def test_keys_that_differ_in_case_are_two_variables(api: Api) -> None:
    path = f"/environment/{api.environment}/environmentVariable"
    for key in ("HTTP_PROXY", "http_proxy"):
        await api("POST", path, {"key": key, "value": key}, expect=201)
    assert await _own(api, "environment", api.environment) == {
        "HTTP_PROXY": "HTTP_PROXY",
        "http_proxy": "http_proxy",
    }
    await api.refused("POST", path, {"key": "http_proxy", "value": "x"}, status=409, words="http_proxy")


async def test_values_are_sealed_where_they_are_stored(api: Api) -> None:
    await _make(api, "environment", api.environment, "A", "a-value-that-can-be-found")
    folder = api.context.settings.data_dir
    stored = b"".join(file.read_bytes() for file in folder.glob("refloat.db*"))
    assert b"a-value-that-can-be-found" not in stored
