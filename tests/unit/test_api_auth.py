"""Who asks is known before anything else is looked at, and may do what the role allows."""

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest
from api_support import ADMIN, UNKNOWN, Api, application, running

from refloat.api.auth import Authenticator, origin_of
from refloat.control.access import Operation, permit
from refloat.domain.deployment import Origin, Principal
from refloat.domain.errors import Forbidden
from refloat.domain.resources import Role


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (None, "no Authorization header"),
        ("", "no Authorization header"),
        ("Token", "no Authorization header"),
        ("Bearer ", "no Authorization header"),
        ("Token <token>", "'<token>' is a placeholder"),
        ("Token YOUR_TOKEN", "'YOUR_TOKEN' is a placeholder"),
        ("Token your-api-token-here", "is a placeholder"),
        ("Token $TOKEN", "'$TOKEN' is a placeholder"),
        ("Token your token", "'your token' is a placeholder"),
        ("Bearer {token}", "'{token}' is a placeholder"),
        ("Bearer xxxx", "'xxxx' is a placeholder"),
        ("Token rf_wrong", "unknown or was deleted"),
        ("Basic cmZfYWRtaW46", "is a placeholder"),
    ],
)
@pytest.mark.parametrize(
    "path", ["/organization", "/nothing/here", f"/environment/{UNKNOWN}", "/environment/{environmentId}"]
)
async def test_without_a_valid_token_the_answer_is_401_and_says_how_to_get_one(
    header: str | None, words: str, path: str, api: Api
) -> None:
    async with api.as_("") as client:
        answer = await client.post(
            path, headers={} if header is None else {"Authorization": header}, content=b"{broken"
        )
    body = answer.json()
    assert answer.status_code == 401
    assert words in body["message"]
    assert "Authorization: Token" in body["hint"]
    assert "admin.token" in body["hint"]
    assert answer.headers["content-type"] == "application/json"
    assert "www-authenticate" in answer.headers


@pytest.mark.parametrize("header", [f"Token {ADMIN}", f"bearer {ADMIN}", f"TOKEN  {ADMIN}", ADMIN])
async def test_every_scheme_is_taken(header: str, api: Api) -> None:
    async with api.as_("") as client:
        answer = await client.get("/organization", headers={"Authorization": header})
    assert answer.status_code == 200


async def test_an_admin_token_that_reads_like_a_placeholder_is_still_the_admin_token(tmp_path: Path) -> None:
    async with running(tmp_path) as api:
        settings = msgspec.structs.replace(api.context.settings, admin_token="my-token")
        context = dataclasses.replace(api.context, settings=settings)
        assert (await Authenticator(context).principal("Token my-token", "")).role is Role.ADMIN


async def test_a_token_is_shown_once_survives_a_restart_and_ends_with_its_deletion(tmp_path: Path) -> None:
    async with running(tmp_path) as api:
        path = f"/organization/{api.organization}/apiToken"
        made = await api("POST", path, {"name": "ci", "role_id": None, "description": "d"}, expect=201)
        assert made["token"].startswith("rf_")
        assert "_" in made["token"]
        listed = await api.results(path)
        assert [(t["name"], t["description"], t["role_name"]) for t in listed] == [("ci", "d", "Admin")]
        assert "token" not in listed[0]
        await api.refused("POST", path, {"name": "CI"}, status=409, words="CI")
        await api.refused("POST", path, {"name": "x", "role_id": UNKNOWN}, words="role_id")
        document = (tmp_path / "refloat.db").read_bytes() + (tmp_path / "refloat.db-wal").read_bytes()
        assert made["token"].encode() not in document
    async with running(tmp_path) as again, again.as_(made["token"]) as client:
        assert (await client.get("/organization")).status_code == 200
        await again("DELETE", f"{path}/{made['id']}", expect=204)
        assert (await client.get("/organization")).status_code == 401
        await again.refused("DELETE", f"{path}/{made['id']}", status=404)


async def test_another_organization_sees_nothing_and_unknown_reads_the_same(api: Api) -> None:
    other = await api("POST", "/organization", {"name": "other"}, expect=201)
    token = await api.make_token("spy", "Admin", other["id"])
    service = (await api.make_application("web"))["id"]
    stage = (await api.stages())[0]["id"]
    paths = [
        ("GET", "/organization/{id}", api.organization),
        ("GET", "/organization/{id}/apiToken", api.organization),
        ("GET", "/project/{id}", api.project),
        ("GET", "/environment/{id}/status", api.environment),
        ("POST", "/environment/{id}/redeploy", api.environment),
        ("DELETE", "/environment/{id}", api.environment),
        ("GET", "/application/{id}", service),
        ("GET", "/service/{id}/deploymentStage", service),
        ("GET", "/deploymentStage/{id}", stage),
        ("GET", "/variable?scope=ENVIRONMENT&parent_id={id}", api.environment),
    ]
    async with api.as_(token) as spy:
        for method, path, known in paths:
            answers = [await spy.request(method, path.replace("{id}", i)) for i in (known, UNKNOWN)]
            assert [a.status_code for a in answers] == [404, 404], path
            texts = [a.json()["message"].replace(known, "X").replace(UNKNOWN, "X") for a in answers]
            assert texts[0] == texts[1]
        assert [o["id"] for o in (await spy.get("/organization")).json()["results"]] == [other["id"]]
        refused = await spy.post("/organization", json={"name": "third"})
        assert refused.status_code == 403


_SMALLEST: list[tuple[str, str, Any, Role]] = [
    ("GET", "/environment/{e}", None, Role.VIEWER),
    ("GET", "/environment/{e}/statuses", None, Role.VIEWER),
    ("GET", "/environment/{e}/logs", None, Role.VIEWER),
    ("GET", "/variable?scope=ENVIRONMENT&parent_id={e}", None, Role.VIEWER),
    ("POST", "/environment/{e}/redeploy", None, Role.DEPLOYER),
    ("POST", "/environment/{e}/stop", None, Role.DEPLOYER),
    ("POST", "/environment/{e}/cancelDeployment", None, Role.DEPLOYER),
    ("PUT", "/environment/{e}", {"name": "renamed"}, Role.MANAGER),
    ("POST", "/environment/{e}/application", application("more"), Role.MANAGER),
    ("POST", "/environment/{e}/deploymentStage", {"name": "more"}, Role.MANAGER),
    ("POST", "/environment/{e}/environmentVariable", {"key": "A", "value": "1"}, Role.MANAGER),
    ("POST", "/project/{p}/environment", {"name": "more"}, Role.MANAGER),
    ("GET", "/organization/{o}/apiToken", None, Role.ADMIN),
    ("POST", "/organization/{o}/cluster", {"name": "s", "refloat_kind": "simulated"}, Role.ADMIN),
    ("PUT", "/organization/{o}", {"name": "renamed"}, Role.ADMIN),
]


@pytest.mark.parametrize("role", list(Role))
async def test_each_role_may_do_its_own_and_less(role: Role, api: Api) -> None:
    token = await api.make_token("t", role.capitalize())
    rank = list(Role).index
    async with api.as_(token) as client:
        for method, path, body, smallest in _SMALLEST:
            real = path.format(e=api.environment, p=api.project, o=api.organization)
            answer = await client.request(method, real, json=body)
            assert (answer.status_code != 403) == (rank(role) >= rank(smallest)), (path, answer.text)
            if answer.status_code == 403:
                assert smallest in answer.json()["message"]


async def test_nobody_is_told_of_a_foreign_id_by_a_403(api: Api) -> None:
    other = await api("POST", "/organization", {"name": "other"}, expect=201)
    async with api.as_(await api.make_token("spy", "Viewer", other["id"])) as spy:
        assert (await spy.post(f"/environment/{api.environment}/redeploy")).status_code == 404


def test_the_table_of_roles_is_total() -> None:
    for role in Role:
        who = Principal(id="x", name="x", role=role, organization_id="o")
        allowed = []
        for operation in Operation:
            try:
                permit(who, operation)
            except Forbidden:
                continue
            allowed.append(operation)
        assert allowed == list(Operation)[: list(Role).index(role) + 1]


@pytest.mark.parametrize(
    ("agent", "authorization", "origin"),
    [
        ("CLI 1.2.3", "Token t", Origin.CLI),
        ("refloat-cli/0.1", "Token t", Origin.CLI),
        ("Terraform provider 0.50.0", "Token t", Origin.TERRAFORM_PROVIDER),
        ("Mozilla/5.0 (X11)", "Bearer t", Origin.CONSOLE),
        ("Mozilla/5.0 (X11)", "Token t", Origin.API),
        ("curl/8", "Bearer t", Origin.API),
        ("", "", Origin.API),
    ],
)
def test_the_client_is_told_by_its_user_agent(agent: str, authorization: str, origin: Origin) -> None:
    assert origin_of(agent, authorization) is origin
