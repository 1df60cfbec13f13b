"""What a plan is made on, besides the configuration: what runs, and which addresses there are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from refloat.clock import Clock
from refloat.domain.deployment import Request
from refloat.domain.errors import Conflict, Unavailable
from refloat.domain.resources import Environment
from refloat.domain.revision import InstanceState
from refloat.execution.deadline import OBSERVE_SECONDS, Overdue, within
from refloat.execution.leftovers import service_of
from refloat.execution.places import Platforms, addresses_on, platform_for
from refloat.execution.platform import Platform
from refloat.execution.snapshot import Compiled
from refloat.planning.plan import Plan
from refloat.planning.planner import plan as make_plan
from refloat.routers.base import Address
from refloat.store.configuration import read_place
from refloat.store.database import Reader

_RUNS = frozenset({InstanceState.STARTING, InstanceState.RUNNING})


class Observed(NamedTuple):
    """Keys of revisions of one environment: of those with a live instance, and of all of which anything is
    there, were it only waiting to be started again."""

    running: frozenset[str]
    present: frozenset[str]


@dataclass(frozen=True)
class Basis:
    """Of one environment, as its cluster tells it at one moment."""

    environment: Environment
    platform: Platform
    observed: Observed
    addresses: Mapping[str, Address]


async def basis_of(
    read: Reader, platforms: Platforms, clock: Clock, domain: str, environment_id: str
) -> Basis:
    """Raises NotFound, Elsewhere, and Unavailable when the cluster does not tell in time."""
    environment, cluster, services = await read_place(read, environment_id)
    platform = platform_for(platforms, cluster)
    try:  # everybody's queue waits meanwhile
        observed = await within(clock, observe(platform, environment.id), OBSERVE_SECONDS)
    except Overdue:
        raise Unavailable(f"the cluster did not tell within {OBSERVE_SECONDS:.0f} s what runs") from None
    addresses = await addresses_on(platform, environment.id, services, domain)
    return Basis(environment, platform, observed, addresses)


async def observe(platform: Platform, environment_id: str) -> Observed:
    """What really is in an environment now."""
    instances = await platform.instances(environment_id)
    running = frozenset(i.revision_key for i in instances if i.state in _RUNS)
    return Observed(running, frozenset(i.revision_key for i in instances))


def plan_for(
    environment_id: str,
    request: Request,
    compiled: Compiled,
    observed: Observed,
    expected: Mapping[str, float] | None = None,
) -> Plan:
    """The plan of a request against configuration and observation of this instant."""
    current = {key: value.current(observed.running) for key, value in compiled.snapshot.before.items()}
    recorded = {it.revision_key for it in current.values() if it.should_run}
    return make_plan(
        environment_id,
        request.verb,
        compiled.wanted,
        current,
        request.services,
        expected,
        request.event,
        lingering={service_of(key) for key in observed.present - recorded},
    )


def check_what_was_asked_for(request: Request, plan: Plan) -> None:
    """Raises Conflict when the request waited, and what would be done now is not what it allows."""
    if request.plan_hash not in (None, plan.hash):
        raise Conflict("the plan changed while the request waited", hint="read the plan again")
    check_uninterrupted(request, plan)


def check_uninterrupted(request: Request, plan: Plan) -> None:
    """Raises Conflict for a plan that interrupts, when that was not to be."""
    if request.uninterrupted and plan.interruptions:
        raise Conflict(
            f"zero downtime was required, and the plan interrupts {'; '.join(plan.interruptions)}",
            hint="read the plan, and ask again without requiring it",
        )
