"""The database is lost: what runs is recorded again, as it was, and goes on being deployed."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import update

from refloat.control.adoption import Adopted, adopt
from refloat.domain.errors import Conflict, Unavailable
from refloat.execution.inventory import Inventory
from refloat.execution.reconciler import Reconciler
from refloat.store.database import Query
from refloat.store.sealing import Sealer
from refloat.store.tables import deployment
from tests.databases import make_store, on_both_stores
from tests.simulation.control_plane import ControlPlane


async def furnished(plane: ControlPlane) -> tuple[str, str]:
    """An environment with two stages, a secret and a job's worth of everything."""
    environment = await plane.environment("shop")
    await plane.database_service(environment, "db")
    api = await plane.application(environment, "api")
    body = {"key": "TOKEN", "value": "hush"}
    await plane.call("POST", f"/application/{api}/secret", body)
    await plane.call("POST", f"/environment/{environment}/environmentVariable", {"key": "A", "value": "1"})
    await plane.call("POST", f"/application/{api}/customDomain", {"domain": "www.shop.test"})
    assert (await plane.roll(environment))["environment"]["state"] == "DEPLOYED"
    await finished(plane)
    return environment, api


async def finished(plane: ControlPlane) -> None:
    """The worker ends once nothing is under way, what follows a deployment included."""

    async def idle() -> bool:
        return plane.worker is not None and plane.worker.idle

    await plane.eventually(idle)
    await plane.stop()


def successor(plane: ControlPlane, request: pytest.FixtureRequest, folder: Path) -> ControlPlane:
    """A control plane with an empty database, on the same cluster with the same key."""
    folder.mkdir()
    made = ControlPlane(folder, store=make_store(request, getattr(request, "param", "sqlite"), folder))
    made.world = plane.world
    made.platforms.update({kind: made._platform() for kind in made.platforms})
    return made


async def described(plane: ControlPlane, environment: str) -> dict[str, Any]:
    """What its clients see of an environment, without the times."""
    services = (await plane.call("GET", f"/environment/{environment}/services"))["results"]
    return {
        "environment": await plane.call("GET", f"/environment/{environment}"),
        "stages": await plane.call("GET", f"/environment/{environment}/deploymentStage"),
        "services": services,
        "variables": [
            await plane.call("GET", f"/application/{s['id']}/environmentVariable")
            for s in services
            if s["service_type"] == "APPLICATION"
        ],
        "domains": [
            await plane.call("GET", f"/application/{s['id']}/customDomain")
            for s in services
            if s["service_type"] == "APPLICATION"
        ],
    }


def alive(plane: ControlPlane) -> set[str]:
    return {key for key, running in plane.world.running.items() if not running.stopped}


async def adopted(plane: ControlPlane) -> Adopted:
    found = await adopt(plane.context)
    await plane.start()
    return found


@on_both_stores
async def test_everything_that_was_deployed_is_there_again_and_goes_on(
    plane: ControlPlane, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    environment, api = await furnished(plane)
    before, running = await described(plane, environment), alive(plane)
    new = successor(plane, request, tmp_path / "new")
    found = await adopted(new)
    assert (found.missing, found.environments[0].number) == ((), 1)
    assert await described(new, environment) == before
    status = (await new.statuses(environment))["environment"]
    assert (status["state"], status["deployment_status"]) == ("DEPLOYED", "UP_TO_DATE")
    plan = await new.call("GET", f"/refloat/environment/{environment}/plan")
    assert {s["change"] for stage in plan["stages"] for s in stage["services"]} == {"skip"}
    await Reconciler(new.database, new.sealer, new.clock, new.platforms).look()
    assert alive(new) == running
    body = {"applications": [{"application_id": api, "git_commit_id": "c" * 40}]}
    await new.call("POST", f"/environment/{environment}/service/deploy", body, expect=202)
    assert (await new.ended(environment))["environment"]["state"] == "DEPLOYED"
    assert new.world.routes[api][0] == f"{api}.2"
    assert new.world.running[f"{api}.2"].revision.environment["TOKEN"] == "hush"
    await new.call("POST", f"/refloat/environment/{environment}/rollback?to={environment}-1", expect=202)
    assert (await new.ended(environment))["environment"]["state"] == "DEPLOYED"
    await new.close()


async def test_numbers_go_on_above_everything_the_node_has_seen(
    plane: ControlPlane, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """A release command that ran under a key of a lost deployment would not run again."""
    environment = await plane.environment("shop")
    api = await plane.application(environment, "api")
    await plane.roll(environment)
    plane.world.runs[f"{api}.7.release"] = 0
    await finished(plane)
    new = successor(plane, request, tmp_path / "new")
    await adopted(new)
    body = {"applications": [{"application_id": api, "git_commit_id": "c" * 40}]}
    await new.call("POST", f"/environment/{environment}/service/deploy", body, expect=202)
    await new.ended(environment)
    assert new.world.routes[api][0] == f"{api}.8"
    await new.close()


async def test_a_server_that_was_started_on_the_empty_database_is_no_obstacle_and_ends_nothing(
    plane: ControlPlane, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """What everybody tries first."""
    environment, _ = await furnished(plane)
    before, running = await described(plane, environment), alive(plane)
    new = successor(plane, request, tmp_path / "new")
    await new.start()
    reconciler = Reconciler(new.database, new.sealer, new.clock, new.platforms)
    await reconciler.look()
    assert reconciler.tidying is not None
    await reconciler.tidying
    await new.stop()
    assert alive(new) == running
    await adopted(new)
    assert await described(new, environment) == before
    assert len((await new.call("GET", "/organization"))["results"]) == 1
    await new.close()


async def test_a_database_that_others_began_to_use_is_not_mixed_up(
    plane: ControlPlane, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    lost, _ = await furnished(plane)
    new = successor(plane, request, tmp_path / "new")
    await new.start()
    other = await new.environment("another")
    await new.stop()
    with pytest.raises(Conflict, match="the name 'default' is taken"):
        await adopt(new.context)
    await new.call("GET", f"/environment/{lost}", expect=404)
    await new.call("GET", f"/environment/{other}", expect=200)
    await new.close()


async def test_adopting_again_changes_nothing(
    plane: ControlPlane, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    environment, _ = await furnished(plane)
    new = successor(plane, request, tmp_path / "new")
    await adopt(new.context)
    again = await adopt(new.context)
    assert again.environments[0].number is None
    history = await new.call("GET", f"/environment/{environment}/deploymentHistoryV2")
    assert len(history["results"]) == 1
    await new.close()


async def test_an_older_backup_catches_up_with_what_runs(
    plane: ControlPlane, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Without it, the server would go back to what the backup knows."""
    environment, api = await furnished(plane)
    backup = successor(plane, request, tmp_path / "backup")
    await adopt(backup.context)
    await plane.start()
    body = {"applications": [{"application_id": api, "git_commit_id": "c" * 40}]}
    await plane.call("POST", f"/environment/{environment}/service/deploy", body, expect=202)
    await plane.ended(environment)
    await finished(plane)
    before = await described(plane, environment)
    found = await adopted(backup)
    assert found.environments[0].number == 2
    assert await described(backup, environment) == before
    await Reconciler(backup.database, backup.sealer, backup.clock, backup.platforms).look()
    assert backup.world.routes[api][0] == f"{api}.2"
    assert (await backup.statuses(environment))["environment"]["deployment_status"] == "UP_TO_DATE"
    await backup.close()


async def test_what_cannot_be_recovered_is_told_and_left_alone(
    plane: ControlPlane, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    environment, api = await furnished(plane)
    db = next(service for service in plane.world.inventory if service != api)
    plane.world.inventory[db] = plane.world.inventory[db][:100]
    new = successor(plane, request, tmp_path / "new")
    found = await adopted(new)
    assert any("its inventory cannot be read" in words for words in found.missing)
    assert any(words.startswith(f"{db}.1 runs") for words in found.missing)
    reconciler = Reconciler(new.database, new.sealer, new.clock, new.platforms)
    await reconciler.look()
    assert reconciler.tidying is not None
    await reconciler.tidying
    assert f"{db}.1" in alive(new)
    assert [s["id"] for s in (await new.call("GET", f"/environment/{environment}/services"))["results"]] == [
        api
    ]
    await new.close()


async def test_another_key_is_refused_before_anything_is_recorded(
    plane: ControlPlane, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    environment, _ = await furnished(plane)
    new = successor(plane, request, tmp_path / "new")
    with pytest.raises(Unavailable, match="cannot be opened with this key"):
        await adopt(msgspec_replace(new, Sealer(b"x" * 32)))
    await new.call("GET", f"/environment/{environment}", expect=404)
    await new.close()


def msgspec_replace(plane: ControlPlane, sealer: Sealer) -> Any:
    from dataclasses import replace

    return replace(plane.context, sealer=sealer)


async def test_the_inventory_holds_no_value_in_the_clear_and_follows_each_deployment(
    plane: ControlPlane,
) -> None:
    environment, api = await furnished(plane)
    assert "hush" not in plane.world.inventory[api]
    first = msgspec.json.decode(plane.world.inventory[api], type=Inventory)
    await plane.start()
    await plane.call("POST", f"/environment/{environment}/stop", expect=202)
    await plane.ended(environment)
    await finished(plane)
    second = msgspec.json.decode(plane.world.inventory[api], type=Inventory)
    assert (first.applied.should_run, second.applied.should_run) == (True, False)


@pytest.mark.parametrize("is_older", [False, True])
async def test_an_inventory_that_a_dead_server_did_not_write_is_written_by_the_next(
    plane: ControlPlane, is_older: bool
) -> None:
    """Also when that was of a version that did not write down the cluster of a deployment."""
    _, api = await furnished(plane)
    kept = dict(plane.world.inventory)
    plane.world.inventory.clear()
    if is_older:
        async with plane.database.transaction() as tx:
            await tx.run(Query(update(deployment).values(cluster_id="")))
    await Reconciler(plane.database, plane.sealer, plane.clock, plane.platforms).look()
    assert plane.world.inventory == kept and api in kept
