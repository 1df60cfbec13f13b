"""A value of the wrong JSON type is refused with the field's name; nothing is taken for something else."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute
from msgspec import inspect

from refloat.api.routes import ROUTES
from tests.simulation.control_plane import ControlPlane

UNKNOWN = "00000000-0000-4000-8000-00000000abcd"
_IMAGE = {"registry_id": UNKNOWN, "image_name": "web", "tag": "1"}
_APPLICATION = {"git_repository": {"url": "https://x/y"}, "healthchecks": {}}
_BODIES: dict[str, dict[str, Any]] = {
    "application": _APPLICATION,
    "container": {**_IMAGE, "healthchecks": {}},
    "database": {"type": "POSTGRESQL", "version": "16", "mode": "CONTAINER"},
    "job": {
        "source": {"docker": {"git_repository": {"url": "https://x/y"}}},
        "schedule": {"on_start": {"entrypoint": "run"}},
        "healthchecks": {},
    },
}
_PROBE = {"type": {"tcp": {"port": 1}}}


async def _refused(plane: ControlPlane, method: str, path: str, body: Any, field: str) -> None:
    answer = await plane.api.request(method, path, content=json.dumps(body))
    assert answer.status_code == 400, (method, path, body, answer.text)
    assert answer.json()["detail"].startswith(f"{field}: "), (method, path, body, answer.text)


_COMMON: tuple[tuple[str, Any], ...] = (
    ("cpu", "500"),
    ("cpu", True),
    ("cpu", 500.5),
    ("cpu", None),
    ("memory", "512"),
    ("memory", [512]),
    ("name", 5),
    ("name", True),
    ("name", None),
    ("name", ["api"]),
    ("description", 5),
    ("icon_uri", {}),
)


@pytest.mark.parametrize("kind", _BODIES)
async def test_no_service_is_made_of_mistyped_values(kind: str, plane: ControlPlane) -> None:
    path = f"/environment/{await plane.environment()}/{kind}"
    for field, value in _COMMON:
        await _refused(plane, "POST", path, {"name": "api", **_BODIES[kind], field: value}, field)
    assert (await plane.call("GET", path))["results"] == []


_OF_APPLICATIONS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"ports": {"internal_port": 80}}, "ports"),
    ({"ports": "80"}, "ports"),
    ({"ports": [80]}, "ports[0]"),
    ({"ports": [{"internal_port": "80"}]}, "ports[0].internal_port"),
    ({"ports": [{"internal_port": 80}, {"internal_port": True}]}, "ports[1].internal_port"),
    ({"ports": [{"internal_port": 80, "publicly_accessible": "true"}]}, "ports[0].publicly_accessible"),
    ({"ports": [{"internal_port": 80, "publicly_accessible": 1}]}, "ports[0].publicly_accessible"),
    ({"storage": [{"size": "4", "mount_point": "/data"}]}, "storage[0].size"),
    ({"arguments": "run fast"}, "arguments"),
    ({"arguments": ["run", 5]}, "arguments[1]"),
    ({"min_running_instances": "1"}, "min_running_instances"),
    ({"auto_preview": "true"}, "auto_preview"),
    ({"auto_deploy": 0}, "auto_deploy"),
    ({"healthchecks": []}, "healthchecks"),
    (
        {"healthchecks": {"readiness_probe": {**_PROBE, "period_seconds": "10"}}},
        "healthchecks.readiness_probe.period_seconds",
    ),
    (
        {"healthchecks": {"liveness_probe": {"type": {"tcp": {"port": "80"}}}}},
        "healthchecks.liveness_probe.type.tcp.port",
    ),
    ({"git_repository": "https://x/y"}, "git_repository"),
    ({"git_repository": {"url": "https://x/y", "branch": 5}}, "git_repository.branch"),
)


async def test_no_application_is_made_or_changed_by_mistyped_values(plane: ControlPlane) -> None:
    environment = await plane.environment()
    application = await plane.application(environment, "api")
    before = await plane.call("GET", f"/application/{application}")
    for change, field in _OF_APPLICATIONS:
        body = {"name": "other", **_APPLICATION, **change}
        await _refused(plane, "POST", f"/environment/{environment}/application", body, field)
        await _refused(plane, "PUT", f"/application/{application}", body, field)
    found = (await plane.call("GET", f"/environment/{environment}/application"))["results"]
    assert found == [before]


_OF_ACTIONS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("service/deploy", {"applications": {"application_id": UNKNOWN}}, "applications"),
    ("service/deploy", {"applications": [{"application_id": 5}]}, "applications[0].application_id"),
    (
        "service/deploy",
        {"applications": [{"application_id": UNKNOWN, "git_commit_id": 5}]},
        "applications[0].git_commit_id",
    ),
    ("service/deploy", {"databases": [5]}, "databases[0]"),
    ("service/restart-service", {"application_ids": UNKNOWN}, "application_ids"),
    ("service/stop", {"application_ids": [5]}, "application_ids[0]"),
    ("cancelDeployment", {"force_cancel": "true"}, "force_cancel"),
    ("cancelDeployment", {"force_cancel": 1}, "force_cancel"),
)


async def test_no_action_with_mistyped_values_is_queued(plane: ControlPlane) -> None:
    environment = await plane.environment()
    await plane.application(environment, "api")
    for verb, body, field in _OF_ACTIONS:
        await _refused(plane, "POST", f"/environment/{environment}/{verb}", body, field)
    assert (await plane.call("GET", f"/environment/{environment}/deploymentHistory"))["results"] == []


async def test_whole_numbers_and_null_stay_what_they_are(plane: ControlPlane) -> None:
    environment = await plane.environment()
    body = {
        "name": "5",
        **_APPLICATION,
        "cpu": 700,
        "auto_preview": False,
        "description": None,
        "ports": None,
    }
    made = await plane.call("POST", f"/environment/{environment}/application", body, expect=201)
    assert (made["name"], made["cpu"], made["auto_preview"], made["ports"]) == ("5", 700, False, [])


# -- every field of every body


_WRONG: dict[type, tuple[Any, ...]] = {
    inspect.IntType: ("1", True, 1.5, [1]),
    inspect.BoolType: ("true", 1, 0),
    inspect.StrType: (5, True, ["a"], {}),
    inspect.EnumType: (5, True, [], {}),
    inspect.LiteralType: (5, True, [], {}),
    inspect.ListType: ("a", 5, {}),
    inspect.VarTupleType: ("a", 5, {}),
    inspect.StructType: ("a", 5, []),
    inspect.DictType: ("a", 5, []),
}


def _mistyped(of: inspect.Type) -> Iterator[tuple[Any, str]]:
    """Values that are not of the type, each with the path to what is wrong in it."""
    options = of.types if isinstance(of, inspect.UnionType) else (of,)
    kinds = [type(option) for option in options]
    if inspect.NoneType not in kinds:
        yield None, ""
    for value in {repr(v): v for option in options for v in _WRONG.get(type(option), ())}.values():
        if not any(_matches(value, kind) for kind in kinds):
            yield value, ""
    for option in options:
        if isinstance(option, inspect.StructType):
            for field in option.fields:
                yield from (
                    ({field.encode_name: value}, f".{field.encode_name}{path}")
                    for value, path in _mistyped(field.type)
                )
        if isinstance(option, inspect.ListType | inspect.VarTupleType):
            yield from (([value], f"[0]{path}") for value, path in _mistyped(option.item_type))


_JSON = {
    bool: (inspect.BoolType,),
    int: (inspect.IntType,),
    float: (),
    str: (inspect.StrType,),
    list: (inspect.ListType, inspect.VarTupleType),
    dict: (inspect.DictType, inspect.StructType),
}


def _matches(value: Any, kind: type) -> bool:
    return kind in _JSON[type(value)]


def _bodies() -> Iterator[tuple[str, str, inspect.Type]]:
    """Method, path and body of every route that requires one."""
    for route in Litestar(ROUTES, openapi_config=None).routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                if field := handler.parsed_data_field:
                    parts = (p if isinstance(p, str) else UNKNOWN for p in route.path_components)
                    (method,) = handler.http_methods - {"OPTIONS"}
                    path = f"/{'/'.join(parts)}?service_id={UNKNOWN}"  # one of them wants it in the query
                    yield method, path, inspect.type_info(field.annotation)


async def test_every_field_of_every_body_is_taken_only_as_what_it_is(plane: ControlPlane) -> None:
    tried = 0
    for method, path, kind in _bodies():
        for body, field in _mistyped(kind):
            await _refused(plane, method, path, body, field.removeprefix(".") or "the body")
            tried += 1
    assert tried > 1000  # the walk itself works
