"""What every engine keeps to, whatever it runs services on."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from engines_support import LISTENS, RIGS, Heard, Rig, changed, of, revision, running, until

from refloat.domain.errors import Fenced, StepFailed
from refloat.domain.revision import InstanceState, Revision
from refloat.engines.base import Engine


@pytest.fixture(params=RIGS)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with RIGS[request.param]() as made:
        yield made


@pytest.fixture
def engine(rig: Rig) -> Engine:
    return rig.engine


async def test_capabilities_name_what_it_can_run(engine: Engine) -> None:
    assert "application" in engine.capabilities().service_kinds


async def test_prepared_instances_exist_with_their_labels(rig: Rig, engine: Engine) -> None:
    it = rig.serving(revision(instances=2))
    prepared = await engine.prepare(it)
    assert [instance.index for instance in prepared] == [0, 1]
    assert len({instance.endpoint for instance in prepared}) == 2
    for instance in prepared:
        assert (instance.revision_key, instance.service_id) == (it.key, it.service_id)
        assert (instance.environment_id, instance.deployment_id) == (it.environment_id, it.deployment_id)


async def test_preparing_again_gives_the_same_instances(rig: Rig, engine: Engine) -> None:
    it = rig.serving(revision(instances=2))
    first = await engine.prepare(it)
    again = await asyncio.gather(engine.prepare(it), rig.reopened().prepare(it))
    for instances in again:
        assert [i.endpoint for i in instances] == [i.endpoint for i in first]
    assert len(await of(engine, it)) == 2


async def test_a_serving_revision_runs_and_answers(rig: Rig, engine: Engine) -> None:
    it = rig.serving(revision())
    await engine.prepare(it)
    (instance,) = await running(engine, it)
    assert await engine.check(instance, LISTENS, 5) == ""


async def test_one_that_listens_where_it_was_told_listens_nowhere_else(rig: Rig, engine: Engine) -> None:
    it = rig.serving(revision())
    await engine.prepare(it)
    (instance,) = await running(engine, it)
    assert await engine.elsewhere(instance) == ()


async def test_where_one_listens_instead_of_its_endpoint_is_seen(rig: Rig, engine: Engine) -> None:
    it = rig.astray(revision())
    (instance,) = await engine.prepare(it)

    async def seen() -> tuple[str, ...]:
        return await engine.elsewhere((await of(engine, it))[0])

    await until(seen)
    (address,) = await seen()
    assert address.startswith("127.0.0.1:") and address != instance.endpoint
    assert "nothing listens" in await engine.check((await of(engine, it))[0], LISTENS, 5)


async def test_another_control_plane_observes_the_same(rig: Rig, engine: Engine) -> None:
    it = rig.serving(revision())
    await engine.prepare(it)
    expected = await running(engine, it)
    assert await of(rig.reopened(), it) == expected


async def test_observing_one_environment_shows_no_other(rig: Rig, engine: Engine) -> None:
    await engine.prepare(rig.serving(revision()))
    await engine.prepare(rig.serving(revision(service="other", environment_id="staging")))
    assert {i.service_id for i in await engine.observe("staging")} == {"other"}
    assert {i.service_id for i in await engine.observe()} == {"web", "other"}
    assert await engine.observe("nowhere") == ()


async def test_a_new_revision_stands_beside_the_old_one(rig: Rig, engine: Engine) -> None:
    old, new = rig.serving(revision(1)), rig.serving(revision(2))
    await engine.prepare(old)
    before = await running(engine, old)
    await engine.prepare(new)
    await running(engine, new)
    assert await of(engine, old) == before
    await engine.stop(old.key, 5)
    assert await of(engine, old) == ()
    await running(engine, new)


async def test_what_could_not_be_started_is_started_by_the_next_attempt(rig: Rig, engine: Engine) -> None:
    it, mend = rig.broken(revision())
    await engine.prepare(it)

    async def ended() -> bool:
        return (await of(engine, it))[0].state is InstanceState.EXITED

    await until(ended)
    mend()
    await rig.reopened().prepare(it)
    await running(engine, it)


async def test_a_dying_revision_is_seen_and_its_log_tells(rig: Rig, engine: Engine) -> None:
    it = rig.dying(revision())
    await engine.prepare(it)

    async def died() -> bool:
        (instance,) = await of(engine, it)
        return instance.state in (InstanceState.EXITED, InstanceState.BACKOFF) and instance.exit_code == 1

    await until(died)
    assert any("cannot" in line.text for line in await engine.logs(it.key, 20))


async def test_an_owner_that_was_replaced_is_refused_for_ever(rig: Rig, engine: Engine) -> None:
    it = rig.serving(revision(fence=2))
    await engine.prepare(it)
    for later in (engine, rig.reopened()):
        with pytest.raises(Fenced):
            await later.prepare(changed(it, fence=1))
        job, argv = rig.succeeding(changed(it, fence=1))
        with pytest.raises(Fenced):
            await later.run(job, argv, "job", Heard())
    await engine.prepare(changed(it, fence=3))
    with pytest.raises(Fenced):
        await engine.prepare(it)


async def test_a_deployment_that_a_later_one_followed_is_refused_and_what_it_left_is_not(
    rig: Rig, engine: Engine
) -> None:
    """Of one service; of another the later one knows nothing."""
    old, new = rig.serving(revision(1)), rig.serving(revision(2))
    for it in (old, new):
        await engine.prepare(it)
        await engine.stop(it.key, 0)
    other = rig.serving(revision(1, service="other"))
    await engine.prepare(changed(other, deployment_id=old.deployment_id, fence=7))
    for later in (engine, rig.reopened()):
        with pytest.raises(Fenced):
            await later.prepare(old)
        await later.prepare(changed(old, deployment_id=new.deployment_id))


async def test_the_next_deployment_begins_with_a_fence_of_its_own(rig: Rig, engine: Engine) -> None:
    await engine.prepare(rig.serving(revision(1, fence=7)))
    assert await engine.prepare(rig.serving(revision(2, fence=1)))


async def test_a_stopped_revision_is_gone_and_its_log_is_not(rig: Rig, engine: Engine) -> None:
    it = rig.dying(revision())
    await engine.prepare(it)

    async def told() -> object:
        return await engine.logs(it.key, 20)

    await until(told)
    await engine.stop(it.key, 5)
    assert await of(engine, it) == ()
    lines = await engine.logs(it.key, 20)
    assert lines and list(lines) == sorted(lines, key=lambda line: line.at)
    assert len(await engine.logs(it.key, 1)) == 1


async def test_stopping_again_or_what_never_was_is_fine(rig: Rig, engine: Engine) -> None:
    it = rig.serving(revision())
    await engine.prepare(it)
    await engine.stop(it.key, 5)
    await engine.stop(it.key, 5)
    await engine.stop("never.1", 5)
    assert await engine.logs("never.1", 5) == ()


async def test_stopping_one_revision_spares_those_whose_name_begins_alike(rig: Rig, engine: Engine) -> None:
    first, eleventh = rig.serving(revision(1)), rig.serving(revision(11))
    await engine.prepare(first)
    await engine.prepare(eleventh)
    await engine.stop(first.key, 5)
    assert len(await of(engine, eleventh)) == 1


async def test_a_stopped_revision_can_be_prepared_again(rig: Rig, engine: Engine) -> None:
    it = rig.serving(revision())
    await engine.prepare(it)
    await engine.stop(it.key, 5)
    await engine.prepare(it)
    await running(engine, it)


async def _told_to_end(rig: Rig, engine: Engine) -> Revision:
    """By somebody who does not wait for it."""
    it = rig.reluctant(revision())
    await engine.prepare(it)
    await running(engine, it)
    stopping = asyncio.create_task(engine.stop(it.key, 0.5))

    async def told() -> bool:
        return [i.state for i in await of(engine, it)] == [InstanceState.STOPPING]

    await until(told)
    stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)
    return it


async def test_what_was_told_to_end_does_so_and_is_started_anew_when_it_is_prepared(
    rig: Rig, engine: Engine
) -> None:
    it = await _told_to_end(rig, engine)
    assert InstanceState.STOPPING not in {i.state for i in await engine.prepare(it)}
    await running(engine, it)


async def test_who_is_replaced_while_it_waits_for_an_end_starts_nothing(rig: Rig, engine: Engine) -> None:
    it = await _told_to_end(rig, engine)
    waiting = asyncio.create_task(engine.prepare(it))
    await asyncio.sleep(0)  # it is let in before the other one is
    await rig.reopened().prepare(changed(it, fence=it.fence + 1))
    with pytest.raises(Fenced):
        await waiting


async def test_a_stopped_instance_is_not_well(rig: Rig, engine: Engine) -> None:
    it = rig.serving(revision())
    await engine.prepare(it)
    (instance,) = await running(engine, it)
    await engine.stop(it.key, 5)
    assert await engine.check(instance, LISTENS, 5) != ""


async def test_destroying_leaves_nothing_of_the_service_alone(rig: Rig, engine: Engine) -> None:
    it, other = rig.serving(revision()), rig.serving(revision(service="other"))
    await engine.prepare(it)
    await engine.prepare(other)
    endless, argv = rig.endless(revision())
    heard = Heard()
    call = asyncio.create_task(engine.run(endless, argv, "web.1.release", heard))

    async def begun() -> bool:
        return bool(heard)

    await until(begun)
    await engine.destroy("web")
    await engine.destroy("web")
    await engine.destroy("never")
    assert await engine.executing() == ()
    await asyncio.gather(call, return_exceptions=True)
    assert {instance.service_id for instance in await engine.observe()} == {"other"}
    assert await engine.logs(it.key, 20) == ()


@pytest.mark.parametrize(("kind", "code"), [("succeeding", 0), ("failing", 1)])
async def test_a_command_runs_once_under_its_key(rig: Rig, engine: Engine, kind: str, code: int) -> None:
    it, argv = getattr(rig, kind)(revision())
    first, repeated = Heard(), Heard()
    assert (await engine.run(it, argv, "web.1.release", first)).exit_code == code
    assert (await engine.run(it, argv, "web.1.release", repeated)).exit_code == code
    assert (await rig.reopened().run(it, argv, "web.1.release", repeated)).exit_code == code
    assert first and set(repeated) <= set(first)  # it tells its pid


async def test_a_forgotten_run_leaves_nothing_and_its_key_is_free_again(rig: Rig, engine: Engine) -> None:
    it, argv = rig.failing(revision())
    again = Heard()
    await engine.run(it, argv, "web.1.release", Heard())
    await engine.forget_run("web.1.release")
    assert (await engine.run(it, argv, "web.1.release", again)).exit_code == 1 and again
    await engine.forget_run("never.was")


async def test_two_callers_of_one_key_get_one_result(rig: Rig, engine: Engine) -> None:
    it, argv = rig.failing(revision())
    calls = [engine.run(it, argv, "web.1.release", Heard()) for engine in (engine, rig.reopened())]
    assert [ran.exit_code for ran in await asyncio.gather(*calls)] == [1, 1]


@pytest.mark.parametrize("key", ["web.1.release", "web.cron.20300101T1200Z.1"])
async def test_a_command_outlives_its_caller_and_ends_with_its_revision(
    rig: Rig, engine: Engine, key: str
) -> None:
    """Who waited may have been cancelled or killed; the next joins, until the revision is stopped."""
    it, argv = rig.endless(revision())
    heard = Heard()
    call = asyncio.create_task(engine.run(it, argv, key, heard))

    async def begun() -> bool:
        return bool(heard)

    await until(begun)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    joined = asyncio.create_task(rig.reopened().run(it, argv, key, Heard()))
    assert not (await asyncio.wait({joined}, timeout=0.2))[0]
    await engine.stop("web.1", 1)
    with pytest.raises(StepFailed, match="stopped before it ended"):
        await joined


async def test_commands_under_way_are_observed_by_who_did_not_begin_them(rig: Rig, engine: Engine) -> None:
    it, argv = rig.endless(revision())
    keys = ["web.1.release", "web.cron.20300101T1200Z.1"]
    heard = [Heard() for _ in keys]
    calls = [asyncio.create_task(engine.run(it, argv, key, by)) for key, by in zip(keys, heard, strict=True)]

    async def begun() -> bool:
        return all(heard)

    await until(begun)
    seen = {e.key: e for e in await rig.reopened().executing(it.environment_id)}
    assert {key: e.in_deployment for key, e in seen.items()} == {keys[0]: True, keys[1]: False}
    assert {(e.revision_key, e.service_id, e.environment_id) for e in seen.values()} == {
        (it.key, it.service_id, it.environment_id)
    }
    assert await engine.executing("nowhere") == () and len(await engine.executing()) == 2
    await engine.forget_run(keys[1])
    assert [e.key for e in await engine.executing()] == keys[:1]
    await engine.stop(it.key, 1)
    assert await engine.executing() == ()
    await asyncio.gather(*calls, return_exceptions=True)


async def test_a_stopped_command_has_no_result_and_may_run_again(rig: Rig, engine: Engine) -> None:
    it, argv = rig.endless(revision())
    heard = Heard()
    call = asyncio.create_task(engine.run(it, argv, "web.1.release", heard))

    async def begun() -> bool:
        return bool(heard)

    await until(begun)
    await engine.stop("web.1", 1)
    with pytest.raises(StepFailed):
        await call
    it, argv = rig.succeeding(revision())
    assert (await engine.run(it, argv, "web.1.release", Heard())).exit_code == 0


async def test_a_command_is_no_instance(rig: Rig, engine: Engine) -> None:
    it, argv = rig.succeeding(revision())
    await engine.run(it, argv, "web.1.release", Heard())
    assert await engine.observe() == ()


async def test_a_document_is_kept_with_its_service_and_goes_with_it(rig: Rig, engine: Engine) -> None:
    assert await engine.remembered() == ()
    await engine.prepare(rig.serving(revision(3)))
    await engine.remember("web", "old")
    await engine.remember("web", "new")
    await engine.remember("other", "its own")
    await engine.stop("web.3", 0.1)
    kept = {it.service_id: (it.document, it.last_number) for it in await rig.reopened().remembered()}
    assert kept == {"web": ("new", 3), "other": ("its own", 0)}
    await engine.destroy("web")
    assert [it.service_id for it in await engine.remembered()] == ["other"]
