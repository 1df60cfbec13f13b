"""Credentials in the address of a repository: kept for git, shown to nobody, and not lost by a round trip."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from api_support import Api

from refloat.domain.resources import Environment
from refloat.domain.services import Application, Job
from refloat.execution.snapshot import compile_environment, opened_source
from refloat.store import resources as store

SECRET = "https://user:s3cret@git.example/team/app.git"
SHOWN = "https://***@git.example/team/app.git"


async def opened(api: Api, kind: type[Application] | type[Job], id: str) -> str:
    """The address that a builder is given."""
    git = (await store.get(api.context.database.read, kind, id)).git
    assert git is not None
    return opened_source(git, api.context.sealer).url


async def test_no_answer_shows_the_credentials_of_an_address(api: Api) -> None:
    made = await api.make_application("web", changes={"git_repository": {"url": SECRET}})
    id, environment = made["id"], api.environment
    for path in (f"/application/{id}", f"/environment/{environment}/application", "/openapi.json"):
        assert "s3cret" not in str(await api("GET", path))
    assert made["git_repository"]["url"] == SHOWN
    assert (made["git_repository"]["owner"], made["git_repository"]["name"]) == ("team", "app")
    assert await opened(api, Application, id) == SECRET


async def test_an_address_that_is_sent_back_as_it_was_shown_keeps_its_credentials(api: Api) -> None:
    made = await api.make_application("web", changes={"git_repository": {"url": SECRET}})
    body: dict[str, Any] = {**made, "git_repository": {"url": SHOWN, "branch": "next"}}
    changed = await api("PUT", f"/application/{made['id']}", body, expect=200)
    assert changed["git_repository"]["branch"] == "next"
    assert await opened(api, Application, made["id"]) == SECRET


async def test_a_shown_address_means_nothing_elsewhere(api: Api) -> None:
    body = {
        "name": "web", "git_repository": {"url": SHOWN}, "healthchecks": {}, "ports": [],
    }  # fmt: skip
    words = "credentials left out"
    await api.refused("POST", f"/environment/{api.environment}/application", body, words=words)
    made = await api.make_application("other", changes={"git_repository": {"url": SECRET}})
    moved = {**made, "git_repository": {"url": SHOWN.replace("app.git", "else.git")}}
    await api.refused("PUT", f"/application/{made['id']}", moved, words=words)


async def test_a_copy_of_the_database_reveals_no_credentials(api: Api, tmp_path: Path) -> None:
    await api.make_application("web", changes={"git_repository": {"url": SECRET}})
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert any(b"git.example" in data for data in kept)
    assert not any(b"s3cret" in data for data in kept)


async def test_a_deployment_is_given_the_credentials_and_its_plan_is_not(api: Api) -> None:
    made = await api.make_application("web", changes={"git_repository": {"url": SECRET}})
    read = api.context.database.read
    environment = await store.get(read, Environment, api.environment)
    compiled = await compile_environment(read, api.context.sealer, environment, {})
    source = compiled.snapshot.services[made["id"]].service.git
    assert source is not None and source.url == SECRET
    assert "s3cret" not in f"{compiled.wanted} {compiled.snapshot.fields}"


async def test_an_address_that_was_stored_before_they_were_sealed_is_hidden_and_works(api: Api) -> None:
    """And the next edit seals it."""
    made = await api.make_application("web")
    id = made["id"]
    async with api.context.database.transaction() as tx:
        old = await store.get(tx, Application, id)
        assert old.git is not None
        git = msgspec.structs.replace(old.git, url=SECRET)
        await store.replace_resource(tx, msgspec.structs.replace(old, git=git))
    assert await opened(api, Application, id) == SECRET
    shown = (await api("GET", f"/application/{id}"))["git_repository"]
    assert shown["url"] == SHOWN
    await api("PUT", f"/application/{id}", {"healthchecks": {}, "git_repository": shown}, expect=200)
    git_after = (await store.get(api.context.database.read, Application, id)).git
    assert git_after is not None and git_after.url == SHOWN
    assert await opened(api, Application, id) == SECRET


@pytest.mark.parametrize("word", ["s3c'ret", 's3c"ret', "a@s3cret", "s3cret%40", "s3c:ret"])
async def test_whatever_a_password_is_made_of_it_is_hidden(api: Api, word: str) -> None:
    url = f"https://user:{word}@git.example/team/app.git"
    made = await api.make_application("web", changes={"git_repository": {"url": url}})
    assert made["git_repository"]["url"] == SHOWN
    assert await opened(api, Application, made["id"]) == url


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
    assert await opened(api, Job, made["id"]) == SECRET
