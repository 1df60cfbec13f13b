"""Organizations, projects, clusters and environments: made, shown, changed, and never half-deleted."""

import re
import uuid
from pathlib import Path

import pytest
from api_support import UNKNOWN, Api, running

from refloat.control.organizations import bootstrap

_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


async def test_the_first_start_makes_what_one_needs_and_the_next_ones_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as api:
        await bootstrap(api.context)
        first = await api.results("/organization")
        clusters = await api.results(f"/organization/{api.organization}/cluster")
        projects = await api.results(f"/organization/{api.organization}/project")
    assert [o["name"] for o in first] == ["default"]
    assert [(c["name"], c["is_default"]) for c in clusters] == [("local", True)]
    assert [p["name"] for p in projects] == ["default"]
    async with running(tmp_path) as again:
        assert await again.results("/organization") == first


async def test_everything_has_an_id_and_both_times(api: Api) -> None:
    organization = f"/organization/{api.organization}"
    shown = [
        *await api.results("/organization"),
        *await api.results(f"{organization}/cluster"),
        *await api.results(f"{organization}/project"),
        await api("GET", f"/environment/{api.environment}"),
        *await api.stages(),
        await api.make_application("web"),
    ]
    for body in shown:
        assert _INSTANT.fullmatch(body["created_at"])
        assert _INSTANT.fullmatch(body["updated_at"])


async def test_an_organization_reads_back_what_was_written(api: Api) -> None:
    body = {
        "name": "Acme",
        "plan": "BUSINESS",
        "description": "d",
        "website_url": "https://acme.example",
        "admin_emails": ["a@acme.example"],
    }
    for answer in (
        await api("PUT", f"/organization/{api.organization}", body, expect=200),
        await api("POST", "/organization", {**body, "name": "Acme 2"}, expect=201),
    ):
        assert {**answer, **body, "name": answer["name"]} == answer
    await api.refused("PUT", f"/organization/{api.organization}", {"name": "x", "plan": "GOLD"}, words="plan")
    kept = await api("PUT", f"/organization/{api.organization}", {"name": "Acme"})
    assert kept["plan"] == "BUSINESS"


async def test_a_new_organization_has_its_own_default_cluster(api: Api) -> None:
    made = await api("POST", "/organization", {"name": "other"}, expect=201)
    clusters = await api.results(f"/organization/{made['id']}/cluster")
    assert [(c["name"], c["is_default"], c["kubernetes"]) for c in clusters] == [
        ("local", True, "SELF_MANAGED")
    ]


async def test_a_project_is_deleted_only_when_it_is_empty(api: Api) -> None:
    made = await api("POST", f"/organization/{api.organization}/project", {"name": " shop 2 "}, expect=200)
    assert made["name"] == "shop 2"
    environment = await api.make_environment("one", made["id"])
    assert (await api("GET", f"/project/{made['id']}"))["associated_environments_count"] == 1
    await api.refused("DELETE", f"/project/{made['id']}", words="still has environments")
    await api("DELETE", f"/environment/{environment}", expect=204)
    await api("DELETE", f"/project/{made['id']}", expect=204)
    await api.refused("GET", f"/project/{made['id']}", status=404)
    await api.refused("DELETE", f"/project/{made['id']}", status=404)
    await api.refused("POST", f"/project/{made['id']}/environment", {"name": "x"}, status=404)


async def test_simulated_clusters_can_be_added_but_this_machine_only_once(api: Api) -> None:
    path = f"/organization/{api.organization}/cluster"
    body = {"name": "sim", "region": "moon", "refloat_kind": "simulated", "cloud_provider": "AWS"}
    made = await api("POST", path, body, expect=201)
    assert (made["name"], made["region"], made["refloat_kind"]) == ("sim", "moon", "simulated")
    assert not made["is_default"]
    await api.refused("POST", path, {"name": "second"}, words="this machine is the cluster 'local' already")
    await api.refused("POST", path, {"name": "c", "refloat_kind": "cloud"}, words="refloat_kind")
    statuses = await api.results(f"{path}/status")
    assert [s["is_deployed"] for s in statuses] == [True, True]
    environment = await api(
        "POST", f"/project/{api.project}/environment", {"name": "on sim", "cluster": made["id"]}
    )
    assert (environment["cluster_id"], environment["cluster_name"]) == (made["id"], "sim")
    assert environment["cloud_provider"] == {"provider": "ON_PREMISE", "cluster": "moon"}


async def test_an_environment_is_made_with_defaults_and_the_four_stages(api: Api) -> None:
    made = await api("POST", f"/project/{api.project}/environment", {"name": "one"}, expect=201)
    assert (made["mode"], made["cluster_name"]) == ("DEVELOPMENT", "local")
    assert str(uuid.UUID(made["last_updated_by"])) == made["last_updated_by"]
    assert made["organization"] == {"id": api.organization}
    assert made["project"] == {"id": api.project}
    stages = await api.stages(made["id"])
    assert [(s["name"], s["deployment_order"], s["services"]) for s in stages] == [
        ("DEFAULT DATABASE", 0, []),
        ("DEFAULT JOB", 1, []),
        ("DEFAULT CONTAINER", 2, []),
        ("DEFAULT APPLICATION", 3, []),
    ]


async def test_name_and_mode_can_be_edited_and_the_cluster_never(api: Api) -> None:
    path = f"/environment/{api.environment}"
    before = await api("GET", path)
    after = await api("PUT", path, {"name": "renamed", "mode": "PRODUCTION", "cluster": UNKNOWN})
    assert (after["name"], after["mode"]) == ("renamed", "PRODUCTION")
    assert after["cluster_id"] == before["cluster_id"]
    assert (await api("PUT", path, {"mode": "STAGING"}))["name"] == "renamed"
    assert after["updated_at"] > before["updated_at"]


@pytest.mark.parametrize(
    ("cluster", "status"), [(UNKNOWN, 404), ("local", 400), ("{foreign}", 400), (7, 400)]
)
async def test_a_cluster_that_is_not_ours_is_refused(cluster: object, status: int, api: Api) -> None:
    other = await api("POST", "/organization", {"name": "other"})
    foreign = (await api.results(f"/organization/{other['id']}/cluster"))[0]["id"]
    body = {"name": "x", "cluster": foreign if cluster == "{foreign}" else cluster}
    await api.refused("POST", f"/project/{api.project}/environment", body, status=status)
