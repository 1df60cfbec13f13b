"""Figures and readiness, as monitoring reads them without a token."""

import asyncio
import dataclasses
from datetime import timedelta
from typing import Any

import httpx
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from refloat.api import probes
from refloat.api.asgi import create_app
from refloat.domain.errors import StorageLost
from refloat.execution import queue, readiness
from refloat.metrics import Metrics
from refloat.store import deployments as store
from tests.databases import on_both_stores
from tests.simulation.control_plane import ControlPlane

Figures = dict[str, dict[tuple[tuple[str, str], ...], float]]


async def _figures(plane: ControlPlane) -> Figures:
    answer = await plane.api.get("/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
    found: Figures = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


async def _value(plane: ControlPlane, name: str, **labels: str) -> float:
    return (await _figures(plane)).get(f"refloat_{name}", {}).get(tuple(sorted(labels.items())), 0.0)


async def test_a_deployment_is_counted_with_its_steps_claim_and_switch(plane: ControlPlane) -> None:
    environment = await plane.environment("zebra")
    service = await plane.application(environment, "giraffe")
    await plane.roll(environment)
    await plane.call("PUT", f"/application/{service}", {"healthchecks": {}, "cpu": 20})
    await plane.roll(environment)
    assert await _value(plane, "deployments_ended_total", action="redeploy", outcome="done") == 2
    assert await _value(plane, "step_duration_seconds_count", step="verify", outcome="done") == 2
    assert await _value(plane, "step_duration_seconds_count", step="drain", outcome="done") == 1
    assert await _value(plane, "claim_latency_seconds_count") == 2
    assert await _value(plane, "swaps_total") == 1
    assert await _value(plane, "swap_failures_total") == 0
    async with plane.client("") as anybody:
        text = (await anybody.get("/metrics")).text
    assert "refloat_build_info{version=" in text
    assert "zebra" not in text and "giraffe" not in text  # whoever reads it learns no name


async def test_what_fails_after_its_switch_is_a_failed_swap(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "VERIFY_SECONDS", 0.05)
    environment = await plane.environment()
    await plane.application(environment, "api", "answer=error")
    await plane.application(environment, "other", "boot=exit")  # fails before it is switched
    await plane.roll(environment)
    assert await _value(plane, "swap_failures_total") == 1
    assert await _value(plane, "step_duration_seconds_count", step="ready", outcome="failed") == 1
    assert await _value(plane, "deployments_ended_total", action="redeploy", outcome="failed") == 1


@on_both_stores
async def test_the_depth_and_age_of_the_queues_are_those_of_the_database(plane: ControlPlane) -> None:
    assert await _value(plane, "queue_waiting") == 0 and await _value(plane, "queue_oldest_seconds") == 0
    environment = await plane.environment()
    await plane.application(environment, "api", "build=hang,ok")
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    await plane.until(environment, "BUILDING")
    await plane.call("POST", f"/environment/{environment}/stop", expect=202)
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    (_, oldest, _) = await store.open_deployments(plane.database.read, environment)
    figures = await _figures(plane)
    now = plane.clock.now()
    assert figures["refloat_deployments_running"] == {(): 1} and figures["refloat_queue_waiting"] == {(): 2}
    age = timedelta(seconds=figures["refloat_queue_oldest_seconds"][()])
    assert timedelta(0) < age <= now - oldest.created_at
    waiting = f"/deploymentQueue/{oldest.id}/cancelDeployment"
    await plane.call("POST", waiting, expect=202)
    assert await _value(plane, "deployments_ended_total", action="stop", outcome="canceled") == 1


async def test_a_claim_is_late_only_from_when_nothing_was_in_front(plane: ControlPlane) -> None:
    metrics = Metrics()
    environment = await plane.environment()
    await plane.application(environment, "api")
    await plane.roll(environment)
    done = await store.latest(plane.database.read, environment)
    assert done is not None
    metrics.ended(done, done.phase, done.created_at + timedelta(seconds=40))
    metrics.claimed(done, done.created_at + timedelta(seconds=43))
    metrics.claimed(done, done.created_at + timedelta(seconds=2))
    families = text_string_to_metric_families(metrics.text(await _queue(plane)).decode())
    samples = {s.name: s.value for f in families for s in f.samples if not s.labels}
    assert samples["refloat_claim_latency_seconds_sum"] == 3 + 2


async def _queue(plane: ControlPlane) -> Any:
    return await probes._queue(plane.context)


async def test_a_takeover_and_a_refused_write_are_counted(plane: ControlPlane) -> None:
    environment = await plane.environment()
    await plane.application(environment, "api", "build=hang")
    await plane.call("POST", f"/environment/{environment}/redeploy", expect=202)
    await plane.until(environment, "BUILDING")
    await plane.stop()
    await plane.start()

    async def taken_over() -> bool:
        return await _value(plane, "takeovers_total") == 1

    await plane.eventually(taken_over)
    assert await _value(plane, "fence_refusals_total") == 0
    async with plane.database.transaction() as tx:
        (deployment,) = await store.open_deployments(tx, environment)
        assert await store.take_over(tx, deployment, "another server")
        await queue.fail_all(tx, deployment, "by another server", plane.clock)
    await plane.stop()  # interrupted, it wants to write down that the step ended
    assert await _value(plane, "fence_refusals_total") >= 1


async def test_the_public_name_of_the_api_gives_no_figures(plane: ControlPlane) -> None:
    settings = msgspec.structs.replace(plane.context.settings, domain="example.org")
    app = create_app(dataclasses.replace(plane.context, settings=settings))
    for host, status in (("api.example.org", 404), ("example.org", 404), ("127.0.0.1:8080", 200)):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as anybody:
            assert (await anybody.get("/metrics")).status_code == status


# -- readiness


async def test_a_server_that_works_is_ready(plane: ControlPlane) -> None:
    answer = await plane.api.get("/readyz")
    assert answer.status_code == 200 and answer.json()["status"] == "ready"


class _Lost:
    """A database that answers nothing, at once or never."""

    def __init__(self, *, hangs: bool) -> None:
        self._hangs = hangs

    @property
    def read(self) -> "_Lost":
        return self

    async def one(self, *_: object, **__: object) -> None:
        if self._hangs:
            await asyncio.Event().wait()
        raise StorageLost("the connection broke")


@pytest.mark.parametrize(
    ("hangs", "words"), [(False, "the connection broke"), (True, "did not answer within")]
)
async def test_a_server_without_its_database_is_not_ready_and_lives(
    hangs: bool, words: str, plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "_ANSWER_SECONDS", 0.05)
    answers = await _asked(plane, database=_Lost(hangs=hangs))
    assert answers["/readyz"].status_code == 503 and words in answers["/readyz"].json()["message"]
    assert answers["/healthz"].status_code == 200


async def test_a_server_whose_work_stands_still_is_not_ready(plane: ControlPlane) -> None:
    answers = await _asked(plane, complaint=lambda: "the work on the queues has stopped")
    assert answers["/readyz"].status_code == 503
    assert answers["/readyz"].json()["message"] == "the work on the queues has stopped"


async def _asked(plane: ControlPlane, **changes: Any) -> dict[str, httpx.Response]:
    app = create_app(dataclasses.replace(plane.context, **changes))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://refloat") as anybody:
        return {path: await anybody.get(path) for path in ("/readyz", "/healthz")}
