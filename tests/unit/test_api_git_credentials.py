"""Credentials in the address of a repository: kept for git, shown to nobody, and not lost by a round trip."""

from typing import Any

import pytest
from api_support import Api

from refloat.domain.services import Application, Job
from refloat.store import resources as store

SECRET = "https://user:s3cret@git.example/team/app.git"
SHOWN = "https://***@git.example/team/app.git"


async def stored(api: Api, kind: type[Application] | type[Job], id: str) -> str:
    async with api.context.database.transaction() as tx:
        git = (await store.get(tx, kind, id)).git
    assert git is not None
    return git.url


async def test_no_answer_shows_the_credentials_of_an_address(api: Api) -> None:
    made = await api.make_application("web", changes={"git_repository": {"url": SECRET}})
    id, environment = made["id"], api.environment
    for path in (f"/application/{id}", f"/environment/{environment}/application", "/openapi.json"):
        assert "s3cret" not in str(await api("GET", path))
    assert made["git_repository"]["url"] == SHOWN
    assert (made["git_repository"]["owner"], made["git_repository"]["name"]) == ("team", "app")
    assert await stored(api, Application, id) == SECRET


async def test_an_address_that_is_sent_back_as_it_was_shown_keeps_its_credentials(api: Api) -> None:
    made = await api.make_application("web", changes={"git_repository": {"url": SECRET}})
    body: dict[str, Any] = {**made, "git_repository": {"url": SHOWN, "branch": "next"}}
    changed = await api("PUT", f"/application/{made['id']}", body, expect=200)
    assert changed["git_repository"]["branch"] == "next"
    assert await stored(api, Application, made["id"]) == SECRET


async def test_a_shown_address_means_nothing_elsewhere(api: Api) -> None:
    body = {
        "name": "web", "git_repository": {"url": SHOWN}, "healthchecks": {}, "ports": [],
    }  # fmt: skip
    words = "credentials left out"
    await api.refused("POST", f"/environment/{api.environment}/application", body, words=words)
    made = await api.make_application("other", changes={"git_repository": {"url": SECRET}})
    moved = {**made, "git_repository": {"url": SHOWN.replace("app.git", "else.git")}}
    await api.refused("PUT", f"/application/{made['id']}", moved, words=words)


async def test_a_refused_address_is_named_without_its_credentials(api: Api) -> None:
    body = {"name": "web", "git_repository": {"url": f"-{SECRET}"}, "healthchecks": {}, "ports": []}
    message = await api.refused("POST", f"/environment/{api.environment}/application", body)
    assert "s3cret" not in message
    assert "git.example" in message


@pytest.mark.parametrize(
    "url", ["https://git.example/a/b", "ssh://git@git.example/a/b", "git@git.example:a/b", "file:///srv/a"]
)
async def test_an_address_without_credentials_reads_back_as_it_was_written(api: Api, url: str) -> None:
    made = await api.make_application("web", changes={"git_repository": {"url": url}})
    assert made["git_repository"]["url"] == url


async def test_tokens_in_the_query_and_passwords_of_ssh_are_hidden_too(api: Api) -> None:
    for number, url in enumerate(
        ("https://h.example/a/b?private_token=s3cret", "ssh://git:s3cret@h.example/a")
    ):
        made = await api.make_application(f"web{number}", changes={"git_repository": {"url": url}})
        assert "s3cret" not in str(made)


async def test_a_job_keeps_and_hides_them_like_an_application(api: Api) -> None:
    source = {"docker": {"git_repository": {"url": SECRET}}}
    body = {
        "name": "job", "source": source, "healthchecks": {}, "schedule": {"on_start": {"arguments": ["x"]}},
    }  # fmt: skip
    made = await api("POST", f"/environment/{api.environment}/job", body)
    assert "s3cret" not in str(made)
    body["source"] = {"docker": {"git_repository": {"url": SHOWN}}}
    await api("PUT", f"/job/{made['id']}", body, expect=200)
    assert await stored(api, Job, made["id"]) == SECRET
