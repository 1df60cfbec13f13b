"""Whatever is wrong with a request is said in the error body, and nothing is half-done."""

from typing import Any

import pytest

from tests.databases import on_both_stores
from tests.simulation.control_plane import ControlPlane

KEYS = {"status", "error", "message", "detail", "timestamp", "path"}
UNKNOWN = "00000000-0000-4000-8000-00000000abcd"


async def _refused(plane: ControlPlane, method: str, path: str, status: int, words: str, **more: Any) -> None:
    answer = await plane.api.request(method, path, **more)
    body = answer.json()
    assert answer.status_code == status, body
    assert answer.headers["content-type"].startswith("application/json")
    assert set(body) >= KEYS
    assert body["status"] == status
    assert words in body["detail"], body
    if status == 400:
        assert "exist" not in body["detail"]  # clients take such a 400 for "not found"


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (None, "no Authorization header"),
        ("Token", "no Authorization header"),
        ("Token <token>", "'<token>' is a placeholder"),
        ("Token YOUR_TOKEN", "'YOUR_TOKEN' is a placeholder"),
        ("Bearer {token}", "'{token}' is a placeholder"),
        ("Token $TOKEN", "'$TOKEN' is a placeholder"),
        ("Token rf_wrong", "unknown or was deleted"),
    ],
)
async def test_a_credential_that_is_none_is_401_before_anything_else(
    header: str | None, words: str, plane: ControlPlane
) -> None:
    headers = {"Authorization": header} if header else {}
    del plane.api.headers["Authorization"]
    for path in (f"/environment/{UNKNOWN}/redeploy", "/environment/{environmentId}/redeploy", "/no/path"):
        await _refused(plane, "POST", path, 401, words, headers=headers, content=b"{broken")


@pytest.mark.parametrize("scheme", ["Token ", "Bearer ", "token ", "bearer ", ""])
async def test_every_way_to_send_a_token_is_taken(scheme: str, plane: ControlPlane) -> None:
    plane.api.headers["Authorization"] = f"{scheme}rf_admin"
    assert (await plane.api.get("/organization")).status_code == 200


async def test_ids_unknown_and_foreign_get_the_same_answer(plane: ControlPlane) -> None:
    environment = await plane.environment()
    other = await plane.call("POST", "/organization", {"name": "other"})
    path = f"/organization/{other['id']}/apiToken"
    foreign = (await plane.call("POST", path, {"name": "ci"}, expect=201))["token"]
    async with plane.client(foreign) as api:
        answers = [await api.get(f"/environment/{i}/status") for i in (environment, UNKNOWN)]
        shown = await api.get("/organization")
    assert [a.status_code for a in answers] == [404, 404]
    texts = [a.json()["message"].replace(environment, "X").replace(UNKNOWN, "X") for a in answers]
    assert texts[0] == texts[1]
    assert [o["id"] for o in shown.json()["results"]] == [other["id"]]


async def test_a_role_that_is_too_small_is_403(plane: ControlPlane) -> None:
    environment = await plane.environment()
    organization = await plane.organization()
    roles = (await plane.call("GET", f"/organization/{organization}/availableRole"))["results"]
    viewer = next(r["id"] for r in roles if r["name"] == "Viewer")
    body = {"name": "look", "role_id": viewer}
    token = (await plane.call("POST", f"/organization/{organization}/apiToken", body))["token"]
    async with plane.client(token) as api:
        assert (await api.get(f"/environment/{environment}")).status_code == 200
        assert (await api.post(f"/environment/{environment}/redeploy")).status_code == 403
        assert (await api.put(f"/environment/{environment}", json={"name": "x"})).status_code == 403


async def test_a_deleted_token_is_refused_at_once(plane: ControlPlane) -> None:
    organization = await plane.organization()
    path = f"/organization/{organization}/apiToken"
    made = await plane.call("POST", path, {"name": "ci"})
    assert "token" not in (await plane.call("GET", path))["results"][0]
    async with plane.client(made["token"]) as api:
        assert (await api.get("/organization")).status_code == 200
        await plane.call("DELETE", f"{path}/{made['id']}", expect=204)
        assert (await api.get("/organization")).status_code == 401


async def test_malformed_requests_are_400_and_name_what_is_wrong(plane: ControlPlane) -> None:
    environment = await plane.environment()
    project = await plane.project()
    make = f"/project/{project}/environment"
    await _refused(plane, "GET", "/environment/abc", 400, "'abc'")
    await _refused(plane, "GET", "/environment/{environmentId}", 400, "placeholder")
    await _refused(plane, "POST", make, 400, "not valid JSON", content=b"{bad")
    await _refused(plane, "POST", make, 400, "name", json={"name": 3})
    await _refused(plane, "POST", make, 400, "name", json={})
    await _refused(plane, "POST", make, 400, "mode", json={"name": "x", "mode": "SOMETHING"})
    await _refused(plane, "POST", make, 400, "name", json={"name": "   "})
    await _refused(
        plane, "GET", f"/environment/{environment}/deploymentHistoryV2?pageSize=0", 400, "page_size"
    )
    await _refused(plane, "POST", f"/environment/{environment}/redeploy", 400, "no service")
    await _refused(plane, "POST", f"/environment/{environment}/cancelDeployment", 400, "nothing to cancel")
    await _refused(plane, "GET", "/no/such/path", 404, "no such path")
    await _refused(plane, "PATCH", f"/environment/{environment}", 405, "method")
    await _refused(plane, "GET", f"/environment/{environment}/logs?version={UNKNOWN}", 404, UNKNOWN)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cpu": 1}, "cpu"),
        ({"cpu": "many"}, "cpu"),
        ({"memory": 0}, "memory"),
        ({"min_running_instances": 3, "max_running_instances": 2}, "max_running_instances"),
        ({"build_mode": "BUILDPACKS"}, "build_mode"),
        ({"ports": [{"internal_port": 0}]}, "internal_port"),
        ({"ports": [{"internal_port": 80}, {"internal_port": 80}]}, "internal_port"),
        ({"ports": [{"internal_port": 80, "protocol": "SMTP"}]}, "protocol"),
        ({"storage": [{"size": 4, "mount_point": "data"}]}, "mount_point"),
        ({"healthchecks": {"readiness_probe": {"type": {}}}}, "exactly one"),
        (
            {"healthchecks": {"readiness_probe": {"type": {"tcp": {"port": 1}}, "period_seconds": 0}}},
            "period",
        ),
        ({"git_repository": {"url": "--upload-pack=x"}}, "url"),
        ({"git_repository": {"url": "https://x/y", "root_path": "/../.."}}, "root_path"),
    ],
)
async def test_an_application_that_breaks_a_rule_is_refused_whole(
    change: dict[str, Any], words: str, plane: ControlPlane
) -> None:
    environment = await plane.environment()
    body = {"name": "api", "git_repository": {"url": "https://x/y"}, "healthchecks": {}, **change}
    path = f"/environment/{environment}/application"
    await _refused(plane, "POST", path, 400, words, json=body)
    assert (await plane.call("GET", path))["results"] == []


async def test_taken_names_are_409_and_oversized_bodies_413(plane: ControlPlane) -> None:
    environment = await plane.environment("shop")
    make = f"/project/{await plane.project()}/environment"
    await _refused(plane, "POST", make, 409, "SHOP", json={"name": "SHOP"})
    await plane.application(environment, "api")
    body = {"name": "API", "git_repository": {"url": "https://x/y"}, "healthchecks": {}}
    await _refused(plane, "POST", f"/environment/{environment}/application", 409, "API", json=body)
    await _refused(plane, "POST", make, 413, "larger", content=b"x" * (2 * 1024 * 1024))


async def test_variables_keep_their_rules(plane: ControlPlane) -> None:
    environment = await plane.environment()
    service = await plane.application(environment, "api")
    base = {"is_secret": False, "variable_scope": "ENVIRONMENT", "variable_parent_id": environment}
    for key in ("QOVERY_X", "__X", "1X", "A-B", ""):
        await _refused(plane, "POST", "/variable", 400, "key", json={**base, "key": key, "value": "1"})
    wide = await plane.call("POST", "/variable", {**base, "key": "A", "value": "1"}, expect=201)
    own = {**base, "variable_scope": "APPLICATION", "variable_parent_id": service}
    narrow = await plane.call("POST", "/variable", {**own, "key": "B", "value": "2"})
    upwards = {"key": "C", "alias_scope": "ENVIRONMENT", "alias_parent_id": environment}
    await _refused(plane, "POST", f"/variable/{narrow['id']}/alias", 400, "narrower", json=upwards)
    down = {"key": "C", "alias_scope": "APPLICATION", "alias_parent_id": service}
    alias = await plane.call("POST", f"/variable/{wide['id']}/alias", down, expect=201)
    assert (alias["value"], alias["aliased_variable"]["key"]) == ("1", "A")
    await _refused(plane, "POST", f"/variable/{alias['id']}/alias", 400, "itself", json={**down, "key": "D"})
    await plane.call("DELETE", f"/variable/{wide['id']}", expect=204)
    left = await plane.call("GET", f"/variable?parent_id={service}&scope=APPLICATION")
    assert [v["key"] for v in left["results"] if v["scope"] != "BUILT_IN"] == ["B"]


@pytest.mark.parametrize("verb", ["redeploy", "deploy", "stop"])
async def test_an_action_with_a_broken_body_is_refused_and_not_queued(verb: str, plane: ControlPlane) -> None:
    environment = await plane.environment()
    await plane.application(environment, "api")
    path = f"/environment/{environment}/{verb}"
    await _refused(plane, "POST", path, 400, "not valid JSON", content=b'{"a": ')
    found = await plane.call("GET", f"/environment/{environment}/deploymentHistory")
    assert found["results"] == []


@pytest.mark.parametrize("body", [b"", b"  ", b"{}", b"null", b'{"unknown": [1]}'])
async def test_an_action_takes_any_json_and_any_content_type(body: bytes, plane: ControlPlane) -> None:
    environment = await plane.environment()
    await plane.application(environment, "api")
    headers = {"Content-Type": "text/plain"}
    answer = await plane.api.post(f"/environment/{environment}/redeploy", content=body, headers=headers)
    assert answer.status_code == 202, answer.text


async def test_actions_published_without_a_body_answer_none(plane: ControlPlane) -> None:
    environment = await plane.environment()
    application = await plane.application(environment, "api")
    await plane.roll(environment)
    body = {"application_ids": [application]}
    for verb in ("stop", "uninstall", "delete"):
        answer = await plane.api.post(f"/environment/{environment}/service/{verb}", json=body)
        assert (answer.status_code, answer.content) == (200, b"")


@on_both_stores
@pytest.mark.parametrize(
    "name", ["{environment}-" + "9" * 20, "{environment}-" + "9" * 5000, "{environment}-²", "%00", "x"]
)
async def test_a_name_that_no_deployment_can_have_is_404(name: str, plane: ControlPlane) -> None:
    environment = await plane.environment()
    await plane.application(environment, "api")
    await plane.roll(environment)
    name = name.format(environment=environment)
    for method, path in (
        ("GET", f"/environment/{environment}/logs?version="),
        ("GET", f"/refloat/environment/{environment}/journal?version="),
        ("GET", f"/refloat/environment/{environment}/plan?action=rollback&to="),
        ("POST", f"/refloat/environment/{environment}/rollback?to="),
    ):
        await _refused(plane, method, path + name, 404, "no deployment")


@on_both_stores
async def test_history_begins_at_a_deployment_or_nowhere(plane: ControlPlane) -> None:
    environment = await plane.environment()
    path = f"/environment/{environment}/deploymentHistory?startId="
    await _refused(plane, "GET", f"{path}%00", 400, "deployment")
    assert (await plane.call("GET", path))["results"] == []
    assert (await plane.call("GET", path + UNKNOWN))["results"] == []


@pytest.mark.parametrize(
    ("script", "words"),
    [("fail", "unknown word 'fail'"), ("build=", "build cannot be ''"), ("boot_seconds=-1", "a number")],
)
async def test_a_behaviour_that_nothing_has_is_refused(script: str, words: str, plane: ControlPlane) -> None:
    service = await plane.application(await plane.environment(), "api")
    path = f"/refloat/service/{service}/simulation"
    await _refused(plane, "PUT", path, 400, words, json={"script": script})


@on_both_stores
async def test_a_stream_begins_where_a_store_can_look(plane: ControlPlane) -> None:
    environment = await plane.environment()
    await plane.application(environment, "api")
    await plane.roll(environment)
    (ended,) = (await plane.call("GET", f"/environment/{environment}/deploymentHistory"))["results"]
    path = f"/refloat/environment/{environment}/events?deployment={ended['id']}"
    await _refused(plane, "GET", f"{path}&after={2**63}", 400, "after")
    for cursor in ("9" * 20, "9" * 5000, "-1", "x"):
        answer = await plane.api.get(path, headers={"Last-Event-ID": cursor})
        assert (answer.status_code, "event:" in answer.text) == (200, True), cursor
