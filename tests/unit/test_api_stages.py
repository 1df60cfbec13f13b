"""Stages: one order without gaps, every service in exactly one, and environments never mix."""

from typing import Any

import pytest
from api_support import UNKNOWN, Api

DEFAULTS = ["DEFAULT DATABASE", "DEFAULT JOB", "DEFAULT CONTAINER", "DEFAULT APPLICATION"]


async def _order(api: Api) -> list[str]:
    stages = await api.stages()
    assert [s["deployment_order"] for s in stages] == list(range(len(stages)))
    return [s["name"] for s in stages]


async def _id(api: Api, name: str) -> str:
    return str(next(s["id"] for s in await api.stages() if s["name"] == name))


async def test_a_new_stage_is_the_last_one(api: Api) -> None:
    path = f"/environment/{api.environment}/deploymentStage"
    made = await api("POST", path, {"name": "late", "description": "d"}, expect=200)
    assert (made["deployment_order"], made["description"]) == (4, "d")
    assert made["environment"] == {"id": api.environment}
    assert await _order(api) == [*DEFAULTS, "late"]
    await api.refused("POST", path, {"name": "LATE"}, status=409, words="LATE")
    edited = await api("PUT", f"/deploymentStage/{made['id']}", {"name": "later"})
    assert (edited["name"], edited["deployment_order"]) == ("later", 4)
    assert (await api("GET", f"/deploymentStage/{made['id']}"))["name"] == "later"


@pytest.mark.parametrize(
    ("what", "how", "other", "expected"),
    [
        (3, "moveBefore", 0, [3, 0, 1, 2]),
        (0, "moveAfter", 3, [1, 2, 3, 0]),
        (0, "moveBefore", 3, [1, 2, 0, 3]),
        (2, "moveAfter", 0, [0, 2, 1, 3]),
        (1, "moveBefore", 2, [0, 1, 2, 3]),
    ],
)
async def test_moving_answers_the_new_order(
    what: int, how: str, other: int, expected: list[int], api: Api
) -> None:
    moved, anchor = [await _id(api, DEFAULTS[i]) for i in (what, other)]
    answer = await api("PUT", f"/deploymentStage/{moved}/{how}/{anchor}", expect=200)
    assert [s["name"] for s in answer["results"]] == [DEFAULTS[i] for i in expected]
    assert await _order(api) == [DEFAULTS[i] for i in expected]


async def test_stages_of_two_environments_never_mix(api: Api) -> None:
    other = (await api.stages(await api.make_environment("other")))[0]["id"]
    own = (await api.stages())[0]["id"]
    service = (await api.make_application("web"))["id"]
    for how in ("moveBefore", "moveAfter"):
        await api.refused("PUT", f"/deploymentStage/{own}/{how}/{other}", status=404)
        await api.refused("PUT", f"/deploymentStage/{own}/{how}/{own}", words="itself")
        await api.refused("PUT", f"/deploymentStage/{own}/{how}/{UNKNOWN}", status=404)
    await api.refused("PUT", f"/deploymentStage/{other}/service/{service}", status=404)
    assert await _order(api) == DEFAULTS


async def test_only_an_empty_stage_is_deleted_and_never_the_last(api: Api) -> None:
    await api.make_application("web")
    full = await _id(api, "DEFAULT APPLICATION")
    await api.refused("DELETE", f"/deploymentStage/{full}", words="must empty of service")
    for name in DEFAULTS[:3]:
        await api("DELETE", f"/deploymentStage/{await _id(api, name)}", expect=204)
    assert await _order(api) == ["DEFAULT APPLICATION"]
    empty = await api.make_environment("empty")
    first, *rest = await api.stages(empty)
    for stage in rest:
        await api("DELETE", f"/deploymentStage/{stage['id']}", expect=204)
    await api.refused("DELETE", f"/deploymentStage/{first['id']}", words="the last stage")
    await api.refused("GET", f"/deploymentStage/{rest[0]['id']}", status=404)


async def test_a_new_service_stands_in_the_stage_of_its_kind_or_else_the_last(api: Api) -> None:
    first = await api.make_application("first")
    stage = await api("GET", f"/service/{first['id']}/deploymentStage")
    assert stage["name"] == "DEFAULT APPLICATION"
    assert [(s["service_id"], s["service_type"]) for s in stage["services"]] == [(first["id"], "APPLICATION")]
    await api("PUT", f"/deploymentStage/{stage['id']}", {"name": "renamed"})
    await api("POST", f"/environment/{api.environment}/deploymentStage", {"name": "end"})
    second = await api.make_application("second")
    assert (await api("GET", f"/service/{second['id']}/deploymentStage"))["name"] == "end"


def _place_of(stages: list[dict[str, Any]], service: str) -> list[tuple[str, bool]]:
    return [
        (stage["name"], entry["is_skipped"])
        for stage in stages
        for entry in stage["services"]
        if entry["service_id"] == service
    ]


async def test_placing_skips_only_when_asked_and_otherwise_takes_part_again(api: Api) -> None:
    service = (await api.make_application("web"))["id"]
    for stage, body, expected in [
        ("DEFAULT JOB", {"is_skipped": True}, True),
        ("DEFAULT JOB", {"is_skipped": False}, False),
        ("DEFAULT JOB", {"is_skipped": True}, True),
        ("DEFAULT DATABASE", None, False),
        ("DEFAULT DATABASE", {"is_skipped": True}, True),
        ("DEFAULT DATABASE", None, False),
    ]:
        path = f"/deploymentStage/{await _id(api, stage)}/service/{service}"
        answer = await api("PUT", path, body, expect=200)
        assert _place_of(answer["results"], service) == [(stage, expected)]
        assert _place_of(await api.stages(), service) == [(stage, expected)]
    await api.refused("PUT", path, {"is_skipped": "yes"}, words="is_skipped: true or false")
