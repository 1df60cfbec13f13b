"""Every request that is wrong gets an answer in the product's words, and no answer shows internals."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from api_support import ADMIN, UNKNOWN, Api, application

from refloat.api.complaints import of_decoder, sentence
from refloat.domain import errors


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body: it is empty; a JSON object is expected"),
        (b"   ", "not valid JSON"),
        (b"{bad", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b'{"name":"\xff"}', "not valid JSON"),
        (b'{"name":"\\ud800"}', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"name":5, bad', "not valid JSON"),
        (b"1e999", "Number out of range"),
        (b'{"name":1e999}', "name: Number out of range"),
        (b"[]", "the body: an object is expected, not a list"),
        (b"null", "the body: an object is expected, not null"),
        (b'"text"', "the body: an object is expected, not text"),
        (b"{}", "name: it is required"),
        (b'{"name":5}', "name: text is expected, not a whole number"),
        (b'{"name":null}', "name: text is expected, not null"),
        (b'{"name":" \\n "}', "name: 1 to 128 characters"),
        (b'{"name":"a\\u0000b"}', "name: control characters"),
        (b'{"name":"x","mode":"PREVIEW"}', "mode: 'PREVIEW' is none of the published values"),
    ],
)
async def test_a_body_that_cannot_be_read_is_400_in_words(body: bytes, words: str, api: Api) -> None:
    answer = await api.client.post(f"/project/{api.project}/environment", content=body)
    assert answer.status_code == 400
    assert words in answer.json()["message"]
    assert len(await api.results(f"/project/{api.project}/environment")) == 1


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "", "x"])
async def test_a_body_is_json_whatever_its_type_is_called(content_type: str, api: Api) -> None:
    answer = await api.client.post(
        f"/project/{api.project}/environment",
        content=b'{"name":"other","unknown":[1]}',
        headers={"content-type": content_type},
    )
    assert answer.status_code == 201, answer.text


async def _chunks(total: int) -> AsyncIterator[bytes]:
    for _ in range(total // 65536):
        yield b"x" * 65536


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_beyond_the_limit_is_413_announced_or_not(chunked: bool, api: Api) -> None:
    size = 2 * 1024 * 1024
    content: Any = _chunks(size) if chunked else b"x" * size
    answer = await api.client.post(f"/project/{api.project}/environment", content=content)
    assert answer.status_code == 413
    assert answer.json()["message"].startswith("the body is larger")


@pytest.mark.parametrize(
    "path", ["/environment/{id}", "/environment/{id}/status", "/deploymentStage/{id}", "/variable/{id}"]
)
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("abc", "'abc' is not the id of a"),
        ("123", "'123' is not the id of a"),
        ("{environmentId}", "is a placeholder"),
        ("<environment-id>", "is a placeholder"),
        ("$ENVIRONMENT_ID", "is a placeholder"),
        (":environmentId", "is a placeholder"),
    ],
)
async def test_what_is_no_id_is_400_and_a_placeholder_is_called_so(
    path: str, text: str, words: str, api: Api
) -> None:
    method = "DELETE" if path.startswith("/variable") else "GET"
    await api.refused(method, path.replace("{id}", text), words=words)


async def test_an_id_is_found_in_upper_case_too(api: Api) -> None:
    found = await api("GET", f"/environment/{api.environment.upper()}")
    assert found["id"] == api.environment


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?parent_id={e}", "scope: it is required in the query"),
        ("?scope=ENVIRONMENT", "parent_id: it is required in the query"),
        ("?parent_id={e}&scope=HERE", "scope: 'HERE' is none of the published values"),
        ("?parent_id={e}&scope=ENVIRONMENT&is_secret=maybe", "is_secret: true or false"),
        ("?parent_id={e}&scope=BUILT_IN", "BUILT_IN has no parent"),
    ],
)
async def test_a_wrong_query_is_400_and_names_the_parameter(query: str, words: str, api: Api) -> None:
    await api.refused("GET", f"/variable{query.replace('{e}', api.environment)}", words=words)


async def test_unknown_paths_and_methods_are_told_in_json(api: Api) -> None:
    await api.refused("GET", "/nothing/here", status=404, words="no such path")
    await api.refused("PATCH", "/organization", status=405, words="does not take this method")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.StorageFull("nothing can be stored", hint="free disk space"), 507),
        (errors.Unavailable("the edge is gone"), 503),
        (errors.Conflict("taken"), 409),
        (errors.BuildFailed("the source is gone"), 400),
        (RuntimeError("the password is hunter2"), 500),
    ],
)
async def test_every_error_has_its_status_and_none_shows_internals(
    error: Exception,
    status: int,
    api: Api,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("refloat.control.access.reach", fail)
    answer = await api.client.get(f"/environment/{api.environment}")
    body = answer.json()
    assert (answer.status_code, body["status"]) == (status, status)
    assert "hunter2" not in answer.text
    shown = capsys.readouterr().out
    assert ("RuntimeError" in shown) == (status == 500)
    assert ADMIN not in shown  # no traceback prints local variables, which hold the header


async def test_the_same_rules_hold_for_bodies_that_may_be_left_out(api: Api) -> None:
    path = f"/environment/{api.environment}/cancelDeployment"
    for content in (b"", b"  ", b"{}"):
        assert (
            (await api.client.post(path, content=content)).json()["message"].startswith("nothing to cancel")
        )
    wrong = await api.client.post(path, content=b'{"force_cancel":"yes"}')
    assert wrong.json()["message"] == "force_cancel: true or false is expected, not text"
    assert (await api.client.post(path, content=b'{"a":"\xff"}')).status_code == 400


async def test_unknown_ids_are_404_for_every_kind(api: Api) -> None:
    for kind in ("organization", "project", "environment", "deploymentStage", "application"):
        await api.refused("GET", f"/{kind}/{UNKNOWN}", status=404, words=UNKNOWN)
    await api.refused("GET", f"/service/{UNKNOWN}/deploymentStage", status=404, words="no service")
    await api.refused("DELETE", f"/variable/{UNKNOWN}", status=404, words="no variable")


async def test_the_document_of_the_interface_needs_no_token_and_names_every_path(api: Api) -> None:
    async with api.as_("") as anybody:
        found = (await anybody.get("/openapi.json")).json()
    assert found["info"]["title"] == "Refloat"
    assert "/environment/{environment_id}/redeploy" in found["paths"]


def test_complaints_are_sentences_about_a_field() -> None:
    assert of_decoder("Expected `int`, got `str` - at `$.cpu`") == "cpu: a whole number is expected, not text"
    assert of_decoder("Object missing required field `a` - at `$.x[1]`") == "x[1].a: it is required"
    assert of_decoder("Expected `int` >= 1") == "the body: a whole number >= 1 is expected"
    assert of_decoder("Something `new`") == "the body: Something new"
    assert sentence("mode", "Invalid enum value 'X'") == "mode: 'X' is none of the published values"


async def test_a_taken_name_is_409_ignoring_case(api: Api) -> None:
    await api.make_application("web")
    path = f"/environment/{api.environment}/application"
    await api.refused("POST", path, application("WEB"), status=409, words="WEB")
    await api.refused(
        "POST", f"/project/{api.project}/environment", {"name": "Shop"}, status=409, words="taken"
    )
    await api.refused("POST", f"/organization/{api.organization}/project", {"name": "Default"}, status=409)
