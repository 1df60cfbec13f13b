"""Applications: what was sent reads back unchanged, and what breaks a rule changes nothing."""

from typing import Any

import pytest
from api_support import UNKNOWN, Api, application

PROBE = {
    "type": {"tcp": None, "http": {"path": "/up", "scheme": "HTTP", "port": 80}, "exec": None, "grpc": None},
    "initial_delay_seconds": 1,
    "period_seconds": 2,
    "timeout_seconds": 3,
    "success_threshold": 4,
    "failure_threshold": 5,
}
FULL: dict[str, Any] = {
    "name": "web",
    "description": "the shop",
    "icon_uri": "app://mine",
    "git_repository": {
        "url": "https://gitlab.example/team/sub/shop.git",
        "branch": "release",
        "root_path": "/apps/web/",
        "provider": "GITLAB",
        "git_token_id": None,
    },
    "build_mode": "DOCKER",
    "dockerfile_path": "Dockerfile.prod",
    "cpu": 250,
    "memory": 256,
    "min_running_instances": 2,
    "max_running_instances": -1,
    "healthchecks": {"readiness_probe": PROBE, "liveness_probe": None},
    "auto_preview": False,
    "auto_deploy": False,
    "ports": [
        {
            "internal_port": 80,
            "external_port": 443,
            "name": "web",
            "publicly_accessible": True,
            "is_default": True,
            "protocol": "HTTP",
        },
        {
            "internal_port": 81,
            "name": "metrics",
            "publicly_accessible": False,
            "is_default": False,
            "protocol": "TCP",
        },
    ],
    "storage": [{"type": "FAST_SSD", "size": 4, "mount_point": "/data"}],
    "arguments": ["--port", "$PORT"],
    "entrypoint": "serve",
}


def _contains(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return all(_contains(whole.get(key), value) for key, value in part.items())
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(_contains, whole, part))
    return bool(whole == part)


async def test_every_field_reads_back_unchanged(api: Api) -> None:
    made = await api(
        "POST", f"/environment/{api.environment}/application", {**FULL, "future_field": {"x": 1}}, expect=201
    )
    assert _contains(made, FULL)
    assert "future_field" not in made
    assert made["service_type"] == "APPLICATION"
    assert (made["git_repository"]["owner"], made["git_repository"]["name"]) == ("team/sub", "shop")
    for read in (
        await api("GET", f"/application/{made['id']}"),
        *await api.results(f"/environment/{api.environment}/application"),
        *await api.results(f"/environment/{api.environment}/services"),
        {**await api("PUT", f"/application/{made['id']}", made), "updated_at": made["updated_at"]},
    ):
        assert read == made


async def test_what_is_left_out_has_the_published_defaults(api: Api) -> None:
    made = await api.make_application("web", changes={"ports": [{"internal_port": 80}]})
    expected = {
        "cpu": 500,
        "memory": 512,
        "gpu": 0,
        "min_running_instances": 1,
        "max_running_instances": 1,
        "build_mode": "DOCKER",
        "auto_preview": True,
        "auto_deploy": True,
        "maximun_gpu": 0,
        "healthchecks": {"readiness_probe": None, "liveness_probe": None},
        "ports": [{"name": "p80", "protocol": "HTTP", "publicly_accessible": False}],
        "git_repository": {"root_path": "/", "has_access": True},
    }
    assert _contains(made, expected)
    assert {"maximum_cpu", "maximum_memory", "icon_uri", "environment"} <= set(made)
    assert "deployed_commit_id" not in made["git_repository"]


async def test_a_null_where_none_has_a_meaning_is_the_default(api: Api) -> None:
    nulls = dict.fromkeys(("icon_uri", "auto_preview", "auto_deploy", "ports", "storage", "arguments"))
    made = await api.make_application("web", changes=nulls)
    plain = await api.make_application("plain")
    for field in nulls:
        assert made[field] == plain[field]


def _probe(**changes: Any) -> dict[str, Any]:
    return {"healthchecks": {"readiness_probe": {**PROBE, **changes}}}


RULES: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "name"),
    ({"name": "a\nb"}, "name"),
    ({"cpu": 9}, "cpu: 10 (millicores)"),
    ({"cpu": 2**31}, "cpu"),
    ({"memory": 0}, "memory: 1 (MB)"),
    ({"min_running_instances": -1}, "min_running_instances"),
    ({"max_running_instances": -2}, "max_running_instances"),
    ({"min_running_instances": 3, "max_running_instances": 2}, "max_running_instances"),
    ({"min_running_instances": 0, "max_running_instances": 0}, "max_running_instances"),
    ({"build_mode": "BUILDPACKS"}, "build_mode: only DOCKER"),
    ({"ports": [{"internal_port": 0}]}, "ports: internal_port is a number from 1 to 65535"),
    ({"ports": [{"internal_port": 65536}]}, "ports: internal_port"),
    ({"ports": [{"internal_port": 80, "external_port": -1}]}, "ports: external_port"),
    ({"ports": [{"internal_port": 80}, {"internal_port": 80}]}, "ports: each internal_port once"),
    (
        {"ports": [{"internal_port": 80, "name": "a"}, {"internal_port": 81, "name": "a"}]},
        "ports: each name once",
    ),
    ({"ports": [{"internal_port": 80, "id": UNKNOWN}]}, "ports"),
    ({"storage": [{"size": 1, "mount_point": "data"}]}, "storage: mount_point is an absolute path"),
    ({"storage": [{"size": 1, "mount_point": "/a/../b"}]}, "storage: mount_point"),
    (
        {"storage": [{"size": 1, "mount_point": "/a"}, {"size": 1, "mount_point": "/a/"}]},
        "storage: each mount_point once",
    ),
    ({"storage": [{"size": 0, "mount_point": "/a"}]}, "storage: size"),
    ({"storage": [{"size": 1, "mount_point": "/a", "type": "SLOW"}]}, "storage[0].type"),
    ({"storage": [{"size": 1, "mount_point": "/a", "id": UNKNOWN}]}, "storage"),
    (_probe(type={}), "exactly one of tcp, http, exec, grpc"),
    (_probe(type={"tcp": {"port": 1}, "http": {"port": 1}}), "exactly one"),
    (_probe(type={"tcp": {"port": 0}}), "port is a number from 1 to 65535"),
    (_probe(type={"exec": {"command": []}}), "command: at least one word"),
    (_probe(initial_delay_seconds=-1), "initial_delay_seconds: 0"),
    (_probe(period_seconds=0), "period_seconds: 1"),
    (_probe(timeout_seconds=0), "timeout_seconds: 1"),
    (_probe(success_threshold=0), "success_threshold: 1"),
    (_probe(failure_threshold=0), "failure_threshold: 1"),
    ({"git_repository": {"url": " "}}, "git_repository.url"),
    ({"git_repository": {"url": "--upload-pack=x"}}, "git_repository.url"),
    ({"git_repository": {"url": "https://x/y", "branch": "-x"}}, "git_repository.branch"),
    ({"git_repository": {"url": "https://x/y", "branch": " "}}, "git_repository.branch"),
    ({"git_repository": {"url": "https://x/y", "root_path": "../x"}}, "git_repository.root_path"),
    ({"git_repository": {"url": "https://x/y", "provider": "SVN"}}, "git_repository.provider"),
    ({"git_repository": {}}, "git_repository.url: it is required"),
    ({"entrypoint": "a\0b"}, "entrypoint"),
    ({"arguments": ["a\0b"]}, "arguments"),
]


@pytest.mark.parametrize(("change", "words"), RULES)
async def test_a_broken_rule_is_named_and_nothing_changes(
    change: dict[str, Any], words: str, api: Api
) -> None:
    path = f"/environment/{api.environment}/application"
    made = await api.make_application("web")
    await api.refused("POST", path, {**application("other"), **change}, words=words)
    await api.refused("PUT", f"/application/{made['id']}", {**made, **change}, words=words)
    assert await api.results(path) == [made]


@pytest.mark.parametrize("field", ["name", "git_repository", "healthchecks"])
async def test_required_fields_are_named(field: str, api: Api) -> None:
    body = {key: value for key, value in application("web").items() if key != field}
    path = f"/environment/{api.environment}/application"
    await api.refused("POST", path, body, words=f"{field}: it is required")


async def test_an_edit_needs_healthchecks_and_keeps_what_it_leaves_out(api: Api) -> None:
    made = await api.make_application("web", changes=FULL)
    path = f"/application/{made['id']}"
    await api.refused("PUT", path, {"cpu": 300}, words="healthchecks: it is required")
    edited = await api("PUT", path, {"healthchecks": {}, "cpu": 300})
    assert edited["cpu"] == 300
    changed = {key for key in made if made[key] != edited[key]}
    assert changed == {"cpu", "healthchecks", "updated_at"}


async def test_items_with_an_id_are_updated_without_one_made_and_absent_ones_deleted(api: Api) -> None:
    ports = [{"internal_port": 80, "name": "web"}, {"internal_port": 81, "name": "old"}]
    disks = [{"size": 4, "mount_point": "/a"}, {"size": 4, "mount_point": "/b"}]
    made = await api.make_application("web", changes={"ports": ports, "storage": disks})
    path = f"/application/{made['id']}"
    first, disk = made["ports"][0]["id"], made["storage"][0]["id"]
    edited = await api(
        "PUT",
        path,
        {
            "healthchecks": {},
            "ports": [{"id": first, "internal_port": 8080}, {"internal_port": 82}],
            "storage": [{"id": disk, "size": 8, "mount_point": "/a"}],
        },
    )
    assert [(p["internal_port"], p["name"]) for p in edited["ports"]] == [(8080, "web"), (82, "p82")]
    assert edited["ports"][0]["id"] == first
    assert edited["ports"][1]["id"] not in {p["id"] for p in made["ports"]}
    assert [(s["id"], s["size"]) for s in edited["storage"]] == [(disk, 8)]
    smaller = {"healthchecks": {}, "storage": [{"id": disk, "size": 7, "mount_point": "/a"}]}
    await api.refused("PUT", path, smaller, words="/a cannot shrink below 8 GB")
    emptied = await api("PUT", path, {"healthchecks": {}, "ports": [], "storage": []})
    assert (emptied["ports"], emptied["storage"]) == ([], [])


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({}, True),
        ({"root_path": "/other"}, True),
        ({"branch": "other"}, False),
        ({"url": "https://example.org/team/other.git"}, False),
    ],
)
async def test_a_pinned_commit_is_forgotten_with_the_source_it_was_chosen_from(
    change: dict[str, str], kept: bool, api: Api
) -> None:
    made = await api.make_application("web")
    source = {"url": made["git_repository"]["url"]}
    await api("POST", f"/application/{made['id']}/deploy", {"git_commit_id": "c" * 40}, expect=202)
    path = f"/application/{made['id']}"
    assert (await api("GET", path))["git_repository"]["deployed_commit_id"] == "c" * 40
    edited = await api("PUT", path, {"healthchecks": {}, "git_repository": {**source, **change}})
    assert ("deployed_commit_id" in edited["git_repository"]) == kept


@pytest.mark.parametrize("kind", ["helm", "terraform"])
async def test_other_kinds_are_empty_lists_and_say_that_they_are_not_there_yet(kind: str, api: Api) -> None:
    path = f"/environment/{api.environment}/{kind}"
    assert await api("GET", path, expect=200) == {"results": []}
    await api.refused("POST", path, {"name": "x"}, words="not available in this version")
    await api.refused("GET", f"/environment/{UNKNOWN}/{kind}", status=404)


async def test_links_are_there_before_any_deployment_and_only_for_what_is_reached_by_http(api: Api) -> None:
    web = await api.make_application("My Web", changes={"ports": [{"internal_port": 80}]})
    await api.make_application("worker")
    links = await api.results(f"/application/{web['id']}/link")
    assert links == await api.results(f"/environment/{api.environment}/link")
    assert links[0]["url"].startswith("http://my-web-")
    assert (links[0]["service_id"], links[0]["internal_port"]) == (web["id"], 80)


async def test_commits_are_read_from_the_source(api: Api) -> None:
    made = await api.make_application("web")
    found = await api.results(f"/application/{made['id']}/commit")
    assert {"git_commit_id", "created_at", "message", "author_name", "tag"} <= set(found[0])
