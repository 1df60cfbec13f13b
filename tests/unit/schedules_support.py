"""Deployments as they would run if nothing were ever late, for pure functions of their journals."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from refloat.domain.deployment import Deployment, Outcome, Request, Step, Verb
from refloat.domain.progress import Action, Phase
from refloat.planning.plan import Change, Plan, ServicePlan, StagePlan, StepName

S = StepName
ORIGIN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
SWAP = (S.BUILD, S.EXECUTE, S.PREPARE, S.READY, S.SWITCH, S.VERIFY)
SHAPES = (
    (*SWAP, S.DRAIN, S.STOP),
    SWAP,
    (S.BUILD, S.EXECUTE),
    (S.VERIFY,),
    (S.STOP, S.PREPARE, S.READY, S.VERIFY),
    (S.WITHDRAW, S.DRAIN, S.STOP),
)
Durations = Mapping[tuple[str, str], int]


def at(microseconds: int) -> datetime.datetime:
    return ORIGIN + datetime.timedelta(microseconds=microseconds)


def plan_of(stages: Sequence[Sequence[Sequence[StepName]]]) -> Plan:
    return Plan(
        environment_id="e",
        verb=Verb.REDEPLOY,
        stages=tuple(
            StagePlan(
                stage_id=f"stage{n}",
                name=f"stage {n}",
                position=n,
                services=tuple(
                    ServicePlan(
                        service_id=f"{n}.{m}",
                        name=f"service {n}.{m}",
                        kind="application",
                        action=Action.DEPLOY,
                        change=Change.REPLACE,
                        steps=tuple(steps),
                    )
                    for m, steps in enumerate(services)
                ),
            )
            for n, services in enumerate(stages)
        ),
    )


def ended_at(microseconds: int, began: int = 0) -> Deployment:
    return Deployment(
        id="d",
        environment_id="e",
        cluster_id="c",
        request=Request(verb=Verb.REDEPLOY, principal_id="p", triggered_by="p"),
        phase=Phase.DONE,
        created_at=at(0),
        number=1,
        owner="o",
        started_at=at(began),
        finished_at=at(microseconds),
    )


def step_of(service: str, name: str, ordinal: int, start: int, end: int | None) -> Step:
    return Step(
        deployment_id="d",
        service_id=service,
        name=name,
        ordinal=ordinal,
        attempt=1,
        fence=1,
        started_at=at(start),
        finished_at=None if end is None else at(end),
        outcome=None if end is None else Outcome.DONE,
    )


shapes = st.lists(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3), min_size=1, max_size=3)


@dataclass
class Schedule:
    """When everything happens if nothing is ever late: the runner's rules, written down a second time."""

    steps: list[Step]
    end: int


def scheduled(plan: Plan, took: Durations) -> Schedule:
    steps: list[Step] = []

    def run(service: str, names: Sequence[StepName], start: int) -> int:
        for name in names:
            end = start + took[service, name]
            steps.append(step_of(service, name, len(steps) + 1, start, end))
            start = end
        return start

    now, ends = run("", (S.PRECHECK,), 0), [0]
    for stage in plan.stages:
        building = [s for s in stage.services if S.BUILD in s.steps]
        now = max([run(s.service_id, (S.BUILD,), now) for s in building], default=now)
        done = []
        for service in stage.services:
            cut = service.steps.index(S.VERIFY) + 1 if S.VERIFY in service.steps else len(service.steps)
            main = [name for name in service.steps[:cut] if name is not S.BUILD]
            done.append(run(service.service_id, main, now))
            ends.append(run(service.service_id, service.steps[cut:], done[-1]))
        now = max(done)
    return Schedule(steps, max(now, *ends))
