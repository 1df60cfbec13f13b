"""Whoever asks and with whatever verb: one way to a new version, as a whole, and never quietly with a gap."""

from typing import Any

from tests.simulation.control_plane import ControlPlane

SWAP = ("prepare", "ready", "switch", "verify", "drain", "stop")


class Routes(dict[str, tuple[str, tuple[str, ...]]]):
    """Remembers where each route led, one after the other."""

    def __init__(self, known: dict[str, Any]) -> None:
        super().__init__(known)
        self.led: list[tuple[str, tuple[str, ...]]] = []

    def __setitem__(self, service: str, route: tuple[str, tuple[str, ...]]) -> None:
        super().__setitem__(service, route)
        self.led.append(route)


async def _steps(plane: ControlPlane, environment: str) -> tuple[str, ...]:
    journal = await plane.call("GET", f"/refloat/environment/{environment}/journal")
    return tuple(step["step"] for step in journal["results"])


async def _variable(plane: ControlPlane, environment: str, value: str) -> str:
    body = {"key": "A", "value": value, "is_secret": False, "variable_scope": "ENVIRONMENT"}
    made = await plane.call("POST", "/variable", {**body, "variable_parent_id": environment})
    return str(made["id"])


async def test_every_verb_that_brings_a_new_revision_brings_it_by_the_same_steps(plane: ControlPlane) -> None:
    environment = await plane.environment()
    api = await plane.application(environment, "api")
    await plane.roll(environment)
    routes = plane.world.routes = Routes(plane.world.routes)
    commit = {"applications": [{"application_id": api, "git_commit_id": "c" * 40}]}
    await _variable(plane, environment, "b")
    verbs: dict[str, tuple[str, Any]] = {
        "a changed variable": (f"/environment/{environment}/redeploy", None),
        "a new commit": (f"/environment/{environment}/service/deploy", commit),
        "a restart": (f"/application/{api}/restart-service", None),
        "a rollback": (f"/refloat/environment/{environment}/rollback?to={environment}-2", None),
    }
    for verb, (path, body) in verbs.items():
        await plane.call("POST", path, body, expect=202)
        shown = (await plane.ended(environment))["environment"]["last_deployment_state"]
        assert shown in ("DEPLOYED", "RESTARTED"), verb
        assert tuple(s for s in await _steps(plane, environment) if s not in ("build", "execute")) == SWAP, (
            verb
        )
    assert [key for key, _ in routes.led] == [f"{api}.{number}" for number in (2, 3, 4, 5)]
    assert all(endpoints for _, endpoints in routes.led)


async def test_whatever_client_asks_the_same_is_planned_and_done(plane: ControlPlane) -> None:
    agents = {
        "CLI 1.2.3": "CLI",
        "Terraform Provider Qovery": "TERRAFORM_PROVIDER",
        "OpenAPI-Generator/1.0.0/go": "API",
        "curl/8": "API",
    }
    done, origins = set(), []
    for number, agent in enumerate(agents):
        environment = await plane.environment(f"e{number}")
        await plane.application(environment, "api")
        path = f"/environment/{environment}/redeploy"
        answer = await plane.api.post(path, headers={"User-Agent": agent})
        assert answer.status_code == 202
        origins.append(answer.json()["origin"])
        await plane.ended(environment)
        done.add(await _steps(plane, environment))
    assert len(done) == 1
    assert origins == list(agents.values())


async def test_a_route_leads_to_all_instances_of_one_revision_or_stays(plane: ControlPlane) -> None:
    environment = await plane.environment()
    api = await plane.application(environment, "api", "boot=ok,exit,ok")
    shown = await plane.call("GET", f"/application/{api}")
    await plane.call(
        "PUT", f"/application/{api}", {**shown, "min_running_instances": 3, "max_running_instances": 3}
    )
    await plane.roll(environment)
    routes = plane.world.routes = Routes(plane.world.routes)
    variable = await _variable(plane, environment, "b")
    assert (await plane.roll(environment))["environment"]["state"] == "DEPLOYMENT_ERROR"
    assert {key for key, _ in routes.led} <= {f"{api}.1"} and plane.world.routes[api][0] == f"{api}.1"
    await plane.call("PUT", f"/variable/{variable}", {"key": "A", "value": "c"})
    assert (await plane.roll(environment))["environment"]["state"] == "DEPLOYED"
    assert plane.world.routes[api][0] == f"{api}.3"
    for key, endpoints in routes.led:
        assert len(endpoints) == 3 and all(endpoint.startswith(f"{key}/") for endpoint in endpoints)


async def test_what_must_not_interrupt_is_refused_with_the_service_and_the_reason(
    plane: ControlPlane,
) -> None:
    environment = await plane.environment()
    await plane.application(environment, "web")
    await plane.database_service(environment, "db")
    await plane.roll(environment)
    required = f"/environment/{environment}/redeploy?require_zero_downtime=true"
    await plane.call("POST", required, expect=202)  # nothing changed, nothing is interrupted
    await plane.ended(environment)
    databases = (await plane.call("GET", f"/environment/{environment}/database"))["results"]
    body = {"name": "db", "cpu": 900, "memory": 512}
    await plane.call("PUT", f"/database/{databases[0]['id']}", {**databases[0], **body})
    refusal = await plane.call("POST", required, expect=409)
    assert refusal["message"].startswith("zero downtime was required, and the plan interrupts db: ")
    history = (await plane.call("GET", f"/environment/{environment}/deploymentHistoryV2"))["results"]
    assert len(history) == 2
    assert (await plane.roll(environment))["environment"]["state"] == "DEPLOYED"


async def test_a_plan_that_came_to_interrupt_while_the_request_waited_does_not_run(
    plane: ControlPlane,
) -> None:
    environment = await plane.environment()
    slow = await plane.application(environment, "slow", "build=ok,hang")
    database = await plane.database_service(environment, "db")
    await plane.roll(environment)
    body = {"applications": [{"application_id": slow, "git_commit_id": "c" * 40}]}
    await plane.call("POST", f"/environment/{environment}/service/deploy", body, expect=202)
    await plane.until(environment, "BUILDING")
    required = f"/environment/{environment}/redeploy?require_zero_downtime=true"
    waiting = (await plane.call("POST", required, expect=202))["deployment_request_id"]
    shown = await plane.call("GET", f"/database/{database}")
    await plane.call("PUT", f"/database/{database}", {**shown, "cpu": 900})
    await plane.call("POST", f"/environment/{environment}/cancelDeployment", expect=202)
    await plane.ended(environment)
    history = (await plane.call("GET", f"/environment/{environment}/deploymentHistoryV2"))["results"]
    (refused,) = [it for it in history if it["deployment_request_id"] == waiting]
    assert refused["status"] == "DEPLOYMENT_ERROR" and "zero downtime was required" in refused["reason"]
