"""One verb engine: every action is a comparison of what is wanted with what is there.

Pure and deterministic; each decision carries the fields that caused it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from refloat.domain.deployment import Verb
from refloat.domain.progress import Action
from refloat.domain.services import JobEvent
from refloat.planning.plan import Change, Interruption, Omitted, Plan, ServicePlan, StagePlan, StepName
from refloat.planning.wanted import Current, Wanted, Way, differences, fingerprint, needs_build

_S = StepName
_SWAP = (_S.PREPARE, _S.READY, _S.SWITCH, _S.VERIFY)
_RETIRE = (_S.DRAIN, _S.STOP)
_IN_PLACE = {  # routed or not
    True: (_S.WITHDRAW, *_RETIRE, *_SWAP),
    False: (_S.STOP, _S.PREPARE, _S.READY, _S.VERIFY),
}
_FIRST = {True: _SWAP, False: (_S.PREPARE, _S.READY, _S.VERIFY)}


def plan(
    environment_id: str,
    verb: Verb,
    wanted: Sequence[Wanted],
    current: Mapping[str, Current],
    services: Collection[str] | None = None,
    expected: Mapping[str, float] | None = None,
    event: JobEvent | None = None,
    lingering: Collection[str] = (),
) -> Plan:
    """What `verb` does to these services of the environment; all that it covers when none are named.

    With an `event` they are jobs, which run what they have for it. `expected` maps services to seconds an
    earlier deployment took. Of those that are `lingering` something runs that is not recorded: an earlier
    deployment could not end it.
    """
    chosen = [w for w in wanted if services is None or w.service_id in services]
    reasons = {w.service_id: _omission(verb, w, current, named=services is not None) for w in chosen}
    decide = _DECISIONS[verb.action]
    planned = {
        w.service_id: decide(w, current.get(w.service_id), (expected or {}).get(w.service_id))
        for w in chosen
        if not reasons[w.service_id]
    }
    for w in chosen:
        if w.service_id in lingering and w.service_id in planned:
            planned[w.service_id] = _ending_what_lingers(w, planned[w.service_id])
    if event:
        planned = {key: _forced(service, event) for key, service in planned.items()}
    omitted = [
        Omitted(service_id=w.service_id, name=w.name, reason=reasons.get(w.service_id) or "not asked for")
        for w in wanted
        if w.service_id not in planned
    ]
    stages = _in_stages([w for w in chosen if w.service_id in planned], planned, verb.action)
    return Plan(environment_id=environment_id, verb=verb, stages=stages, omitted=tuple(omitted))


def _omission(verb: Verb, service: Wanted, current: Mapping[str, Current], *, named: bool) -> str:
    """Why the verb leaves a service alone, or "". Naming a service overrides its skip flag."""
    if service.is_skipped and not named and verb.action is not Action.DELETE:
        return "skipped"
    now = current.get(service.service_id)
    if verb.action is Action.STOP and now is None:
        return "never deployed"
    if verb.action is Action.RESTART and service.way is Way.COMMAND:
        return "a job runs only when it is deployed"
    if verb.action is Action.RESTART and (now is None or not now.should_run):
        return "not running"
    return ""


def _in_stages(
    chosen: Sequence[Wanted], planned: Mapping[str, ServicePlan], action: Action
) -> tuple[StagePlan, ...]:
    """Services grouped by stage. Stopping and deleting go backwards: dependants before what they use."""
    backwards = action in (Action.STOP, Action.DELETE)
    positions = sorted({w.stage_position for w in chosen}, reverse=backwards)
    return tuple(_stage([w for w in chosen if w.stage_position == p], planned) for p in positions)


def _stage(members: Sequence[Wanted], planned: Mapping[str, ServicePlan]) -> StagePlan:
    ordered = sorted(members, key=lambda w: (w.name.casefold(), w.service_id))
    return StagePlan(
        stage_id=members[0].stage_id,
        name=members[0].stage_name,
        position=members[0].stage_position,
        services=tuple(planned[w.service_id] for w in ordered),
    )


def _deploy(service: Wanted, now: Current | None, expected: float | None) -> ServicePlan:
    if service.way is Way.COMMAND:
        return _run(service, Action.DEPLOY, _built(service, (_S.EXECUTE,)), expected)
    change, causes = _deploy_change(service, now)
    return ServicePlan(
        service_id=service.service_id,
        name=service.name,
        kind=service.kind,
        action=Action.DEPLOY,
        change=change,
        causes=causes,
        steps=_deploy_steps(service, change, replaces=now is not None and now.should_run),
        interruption=_interruption(change),
        replaces=now.revision_key if now and (now.should_run or change is Change.SKIP) else None,
        commit_id=service.commit_id,
        fingerprint=fingerprint(service.fields),
        routed=service.routed,
        expected_seconds=None if change is Change.SKIP else expected,
    )


def _deploy_change(service: Wanted, now: Current | None) -> tuple[Change, tuple[str, ...]]:
    if now is None:
        return Change.START, ("never deployed",)
    causes = differences(now.fields, service.fields)
    if not now.should_run:
        return Change.START, ("stopped", *causes)
    if not causes:
        return (Change.SKIP, ()) if now.runs else (Change.START, ("not running",))
    if service.way is Way.IN_PLACE:
        return Change.RECREATE, causes
    return (Change.REBUILD if needs_build(causes) else Change.REPLACE), causes


def _run(service: Wanted, action: Action, steps: tuple[StepName, ...], expected: float | None) -> ServicePlan:
    """A job at one of its events; where it has nothing to run, only what it is gets recorded."""
    runs = action in service.commands
    return ServicePlan(
        service_id=service.service_id,
        name=service.name,
        kind=service.kind,
        action=action,
        change=Change.RUN if runs or action is Action.DEPLOY else Change.SKIP,
        causes=_run_causes(service, action, runs=runs),
        steps=steps,
        commit_id=service.commit_id,
        fingerprint=fingerprint(service.fields),
        routed=False,
        expected_seconds=expected,
    )


def _forced(job: ServicePlan, event: JobEvent) -> ServicePlan:
    causes = (f"what it has for {event} was asked for now",)
    return msgspec.structs.replace(job, change=Change.RUN, causes=causes)


def _run_causes(service: Wanted, action: Action, *, runs: bool) -> tuple[str, ...]:
    if service.timed and action is Action.DEPLOY:
        return ("it runs by the clock from then on",)
    return (f"it runs at every {action}",) if runs else (f"it has nothing to run at {action}",)


def _built(service: Wanted, steps: tuple[StepName, ...]) -> tuple[StepName, ...]:
    """With the build in front; what has no source has nothing to build, nor a release command to run."""
    if service.builds:
        return (_S.BUILD, *steps) if _S.EXECUTE in steps else (_S.BUILD, _S.EXECUTE, *steps)
    return steps


def _deploy_steps(service: Wanted, change: Change, *, replaces: bool) -> tuple[StepName, ...]:
    if change is Change.SKIP:
        return (_S.VERIFY,)
    if service.way is Way.IN_PLACE:
        return _built(service, (_IN_PLACE if replaces else _FIRST)[service.routed])
    return _built(service, (*_SWAP, *(_RETIRE if replaces else ())))


def _end(service: Wanted) -> tuple[StepName, ...]:
    """What keeps its data for itself and has no route has nothing to drain."""
    return (_S.STOP,) if service.way is Way.IN_PLACE and not service.routed else (_S.WITHDRAW, *_RETIRE)


def _interruption(change: Change) -> Interruption | None:
    if change is Change.RECREATE:
        return Interruption(reason="its storage can be used by one instance at a time")
    return None


def _restart(service: Wanted, now: Current | None, expected: float | None) -> ServicePlan:
    assert now is not None
    recreate = service.way is Way.IN_PLACE
    return ServicePlan(
        service_id=service.service_id,
        name=service.name,
        kind=service.kind,
        action=Action.RESTART,
        change=Change.RECREATE if recreate else Change.RESTART,
        causes=("restart asked for",),
        steps=_IN_PLACE[service.routed] if recreate else (*_SWAP, *_RETIRE),
        interruption=_interruption(Change.RECREATE) if recreate else None,
        replaces=now.revision_key,
        commit_id=service.commit_id,
        routed=service.routed,
        expected_seconds=expected,
    )


def _stop(service: Wanted, now: Current | None, expected: float | None) -> ServicePlan:
    if service.timed and now is not None:
        plan = _run(service, Action.STOP, (_S.STOP,), expected)
        causes = ("it runs by the clock until now",)
        return msgspec.structs.replace(plan, change=Change.STOP, causes=causes, replaces=now.revision_key)
    if service.way is Way.COMMAND:
        runs_now = Action.STOP in service.commands
        return _run(service, Action.STOP, (_S.EXECUTE,) if runs_now else (), expected)
    runs = now is not None and now.should_run
    return ServicePlan(
        service_id=service.service_id,
        name=service.name,
        kind=service.kind,
        action=Action.STOP,
        change=Change.STOP if runs else Change.SKIP,
        causes=() if runs else ("stopped already",),
        steps=_end(service) if runs else (),
        interruption=Interruption(reason="it is stopped") if runs else None,
        replaces=now.revision_key if now else None,
        routed=service.routed,
        expected_seconds=expected,
    )


def _ending_what_lingers(service: Wanted, it: ServicePlan) -> ServicePlan:
    """Nothing of what is stopped may go on, and nothing may use the data that a new instance will use. What
    is beside a swap does no harm until the keeper ends it."""
    if service.way is Way.COMMAND or _S.STOP in it.steps:
        return it
    if it.action is Action.STOP:
        causes = ("stopped already, and an earlier deployment left something running",)
        return msgspec.structs.replace(it, change=Change.STOP, causes=causes, steps=_end(service))
    if service.way is Way.IN_PLACE and _S.PREPARE in it.steps:
        at = it.steps.index(_S.PREPARE)
        return msgspec.structs.replace(it, steps=(*it.steps[:at], *_end(service), *it.steps[at:]))
    return it


def _delete(service: Wanted, now: Current | None, expected: float | None) -> ServicePlan:
    if service.way is Way.COMMAND:
        last_run = (_S.EXECUTE,) if now and Action.DELETE in service.commands else ()
        plan = _run(service, Action.DELETE, (*last_run, _S.DESTROY), expected)
        return msgspec.structs.replace(plan, change=Change.REMOVE)
    return ServicePlan(
        service_id=service.service_id,
        name=service.name,
        kind=service.kind,
        action=Action.DELETE,
        change=Change.REMOVE,
        steps=(*_end(service), _S.DESTROY) if now else (_S.DESTROY,),
        interruption=Interruption(reason="it is removed with its data") if now else None,
        replaces=now.revision_key if now else None,
        routed=service.routed,
        expected_seconds=expected,
    )


_DECISIONS: dict[Action, Callable[[Wanted, Current | None, float | None], ServicePlan]] = {
    Action.DEPLOY: _deploy,
    Action.RESTART: _restart,
    Action.STOP: _stop,
    Action.DELETE: _delete,
}
