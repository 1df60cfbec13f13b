"""Deployments, their targets, journal and events.

Every write of a running deployment is conditional on (id, owner, fence, not ended), see `ownership`.
"""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from refloat.domain.deployment import Deployment, Event, Outcome, Request, Step, Target
from refloat.domain.progress import TERMINAL, Action, Phase
from refloat.domain.revision import Level
from refloat.store import statements as q
from refloat.store.database import Reader, Row, Transaction

_FIRST_ID_AFTER_ALL = "~"


def micros(at: datetime) -> int:
    """A time as the schema holds it."""
    return int((at - _EPOCH) / timedelta(microseconds=1))


def moment(at: int) -> datetime:
    """A stored time as a value."""
    return _EPOCH + timedelta(microseconds=at)


def storable(text: str) -> str:
    """Text as both databases can hold it: PostgreSQL's has no NUL, which programs do write."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


# -- deployments


async def insert_deployment(tx: Transaction, it: Deployment) -> None:
    await tx.put(
        q.INSERT,
        id=it.id,
        environment_id=it.environment_id,
        cluster_id=it.cluster_id,
        number=None,
        request=msgspec.json.encode(it.request).decode(),
        phase=it.phase,
        ended=int(it.ended),
        owner=None,
        fence=0,
        cancel_requested=0,
        builds=0,
        plan=None,
        plan_hash=None,
        snapshot=None,
        reason=it.reason,
        created_at=micros(it.created_at),
        started_at=None,
        finished_at=None,
    )


async def find_deployment(read: Reader, deployment_id: str) -> Deployment | None:
    row = await read.one(q.BY_ID, id=deployment_id)
    return _deployment(row) if row else None


async def latest(read: Reader, environment_id: str) -> Deployment | None:
    """The newest request of the environment, waiting ones included."""
    row = await read.one(q.LATEST, environment_id=environment_id)
    return _deployment(row) if row else None


async def latest_claimed(read: Reader, environment_id: str) -> Deployment | None:
    """The newest one that has a number."""
    row = await read.one(q.LATEST_CLAIMED, environment_id=environment_id)
    return _deployment(row) if row else None


async def by_number(read: Reader, environment_id: str, number: int) -> Deployment | None:
    row = await read.one(q.BY_NUMBER, environment_id=environment_id, number=number)
    return _deployment(row) if row else None


async def open_deployments(read: Reader, environment_id: str) -> tuple[Deployment, ...]:
    """Not ended, in order: the first runs or is next."""
    return tuple(_deployment(r) for r in await read.all(q.OPEN, environment_id=environment_id))


async def history(
    read: Reader, environment_id: str, size: int, before: str | None = None
) -> tuple[Deployment, ...]:
    """Newest first, those older than `before` if given."""
    rows = await read.all(
        q.HISTORY, environment_id=environment_id, before=before or _FIRST_ID_AFTER_ALL, size=size
    )
    return tuple(_deployment(r) for r in rows)


async def claimable(read: Reader) -> tuple[tuple[str, str, str], ...]:
    """Heads of queues whose environment has nothing running, oldest first; each with its cluster and
    environment."""
    rows = await read.all(q.CLAIMABLE)
    return tuple((row["id"], row["cluster_id"], row["environment_id"]) for row in rows)


async def running(read: Reader) -> tuple[tuple[str, bool], ...]:
    """The ids of those that have an owner, dead or alive, oldest first; each with whether a cancel is
    asked for."""
    return tuple(sorted((row["id"], bool(row["cancel_requested"])) for row in await read.all(q.RUNNING)))


class Head(NamedTuple):
    """The head of a queue; the number that it gets when it begins, and what others use of its cluster."""

    deployment: Deployment
    number: int
    used_deployments: int
    used_builds: int


async def find_head(read: Reader, deployment_id: str) -> Head | None:
    row = await read.one(q.HEAD, id=deployment_id)
    if row is None:
        return None
    used = int(row["used_deployments"]), int(row["used_builds"])
    return Head(_deployment(row), int(row["next_number"]), *used)


async def next_number(tx: Transaction, environment_id: str) -> int:
    row = await tx.one(q.NEXT_NUMBER, environment_id=environment_id)
    assert row is not None
    return int(row["number"])


async def claim(
    tx: Transaction,
    deployment_id: str,
    *,
    owner: str,
    number: int,
    builds: int,
    phase: Phase,
    plan: str,
    plan_hash: str,
    snapshot: str,
    now: datetime,
) -> bool:
    """Make it ours and running; False when somebody else was first."""
    touched = await tx.run(
        q.CLAIM,
        key=deployment_id,
        new_owner=owner,
        new_number=number,
        new_builds=builds,
        new_plan=plan,
        new_hash=plan_hash,
        new_snapshot=snapshot,
        new_phase=phase,
        now=micros(now),
    )
    return touched == 1


async def take_over(tx: Transaction, it: Deployment, owner: str) -> bool:
    """Become the owner of a running deployment whose owner is dead; its later writes are refused."""
    return await tx.run(q.TAKE_OVER, key=it.id, seen=it.fence, new_owner=owner) == 1


async def set_phase(tx: Transaction, deployment_id: str, phase: Phase, reason: str, now: datetime) -> None:
    await tx.put(
        q.SET_PHASE,
        key=deployment_id,
        new_phase=phase,
        new_ended=int(phase in TERMINAL),
        new_reason=storable(reason),
        now=micros(now) if phase in TERMINAL else None,
    )


async def set_builds(tx: Transaction, deployment_id: str, builds: int) -> None:
    await tx.put(q.SET_BUILDS, key=deployment_id, new_builds=builds)


async def set_request(tx: Transaction, deployment_id: str, request: Request) -> None:
    await tx.put(q.SET_REQUEST, key=deployment_id, new_request=msgspec.json.encode(request).decode())


async def request_cancel(tx: Transaction, deployment_id: str) -> None:
    await tx.put(q.REQUEST_CANCEL, key=deployment_id)


async def claimed_documents(read: Reader, deployment_id: str) -> tuple[str, str]:
    """Plan and sealed snapshot of a claimed deployment."""
    row = await read.one(q.CLAIMED, id=deployment_id)
    assert row is not None and row["plan"] is not None
    return row["plan"], row["snapshot"]


# -- targets


async def put_target(tx: Transaction, it: Target) -> None:
    await tx.put(
        q.PUT_TARGET,
        deployment_id=it.deployment_id,
        service_id=it.service_id,
        stage_position=it.stage_position,
        phase=it.phase,
        document=msgspec.json.encode(it).decode(),
    )


async def targets(read: Reader, deployment_id: str) -> tuple[Target, ...]:
    """The services of a deployment, by stage."""
    rows = await read.all(q.TARGETS, deployment_id=deployment_id)
    return tuple(msgspec.json.decode(row["document"], type=Target) for row in rows)


async def find_target(read: Reader, deployment_id: str, service_id: str) -> Target | None:
    """One service of a deployment."""
    row = await read.one(q.ONE_TARGET, deployment_id=deployment_id, service_id=service_id)
    return msgspec.json.decode(row["document"], type=Target) if row else None


async def target_history(read: Reader, service_id: str, size: int) -> tuple[Target, ...]:
    """What was done to a service, newest first."""
    rows = await read.all(q.TARGET_HISTORY, service_id=service_id, size=size)
    return tuple(msgspec.json.decode(row["document"], type=Target) for row in rows)


async def open_target_counts(read: Reader, environment_id: str) -> dict[str, int]:
    """Of each service of the environment: how many deployments that have not ended concern it; at least 1."""
    rows = await read.all(q.OPEN_COUNTS, environment_id=environment_id)
    return {row["service_id"]: int(row["number"]) for row in rows}


async def built(read: Reader, service_id: str, step: str, size: int) -> tuple[str, ...]:
    """What the build steps of a service left, newest first: of deployments of it that are done or go on."""
    rows = await read.all(q.BUILT, service_id=service_id, step_name=step, size=size)
    return tuple(row["output"] for row in rows)


# -- the journal


async def begin_step(tx: Transaction, it: Step) -> None:
    """Write a step down before it is done; beginning it again raises its attempt."""
    await tx.put(
        q.BEGIN_STEP,
        deployment_id=it.deployment_id,
        service_id=it.service_id,
        name=it.name,
        ordinal=it.ordinal,
        attempt=1,
        fence=it.fence,
        outcome=None,
        output=it.output,
        started_at=micros(it.started_at),
        finished_at=None,
    )


async def end_step(
    tx: Transaction,
    deployment_id: str,
    service_id: str,
    name: str,
    outcome: Outcome,
    output: str,
    now: datetime,
) -> None:
    await tx.put(
        q.END_STEP,
        key=deployment_id,
        service=service_id,
        step_name=name,
        new_outcome=outcome,
        new_output=output,
        now=micros(now),
    )


async def note_step(tx: Transaction, deployment_id: str, service_id: str, name: str, note: str) -> None:
    """Put a note where the output of a step will be; nothing if it has ended."""
    await tx.put(q.NOTE_STEP, key=deployment_id, service=service_id, step_name=name, new_output=note)


async def steps(read: Reader, deployment_id: str) -> tuple[Step, ...]:
    """The journal of a deployment, in order of beginning."""
    return tuple(_step(row) for row in await read.all(q.STEPS, deployment_id=deployment_id))


# -- events


async def put_event(tx: Transaction, it: Event) -> None:
    """Append; the stored event gets the next sequence number, whatever the given one says."""
    await tx.put(
        q.PUT_EVENT,
        deployment_id=it.deployment_id,
        environment_id=it.environment_id,
        service_id=it.service_id,
        at=micros(it.at),
        level=it.level,
        step=it.step,
        message=storable(it.message),
        action=it.action,
        phase=it.phase,
    )


async def events_after(read: Reader, environment_id: str, after: int, size: int) -> tuple[Event, ...]:
    rows = await read.all(q.EVENTS_AFTER, environment_id=environment_id, after=after, size=size)
    return tuple(_event(row) for row in rows)


async def deployment_events_after(
    read: Reader, deployment_id: str, after: int, size: int
) -> tuple[Event, ...]:
    rows = await read.all(q.EVENTS_OF_DEPLOYMENT_AFTER, deployment_id=deployment_id, after=after, size=size)
    return tuple(_event(row) for row in rows)


async def last_events(read: Reader, deployment_id: str, size: int) -> tuple[Event, ...]:
    """The newest `size` events of a deployment, oldest first."""
    rows = await read.all(q.LAST_EVENTS, deployment_id=deployment_id, size=size)
    return tuple(_event(row) for row in reversed(rows))


def _deployment(row: Row) -> Deployment:
    return Deployment(
        id=row["id"],
        environment_id=row["environment_id"],
        cluster_id=row["cluster_id"],
        number=row["number"],
        request=msgspec.json.decode(row["request"], type=Request),
        phase=Phase(row["phase"]),
        owner=row["owner"],
        fence=row["fence"],
        cancel_requested=bool(row["cancel_requested"]),
        builds=row["builds"],
        plan_hash=row["plan_hash"],
        reason=row["reason"],
        created_at=moment(row["created_at"]),
        started_at=_optional(row["started_at"]),
        finished_at=_optional(row["finished_at"]),
    )


def _step(row: Row) -> Step:
    return Step(
        deployment_id=row["deployment_id"],
        service_id=row["service_id"],
        name=row["name"],
        ordinal=row["ordinal"],
        attempt=row["attempt"],
        fence=row["fence"],
        outcome=Outcome(row["outcome"]) if row["outcome"] else None,
        output=row["output"],
        started_at=moment(row["started_at"]),
        finished_at=_optional(row["finished_at"]),
    )


def _event(row: Row) -> Event:
    return Event(
        sequence=row["sequence"],
        deployment_id=row["deployment_id"],
        environment_id=row["environment_id"],
        service_id=row["service_id"],
        at=moment(row["at"]),
        level=Level(row["level"]),
        step=row["step"],
        message=row["message"],
        action=Action(row["action"]) if row["action"] else None,
        phase=Phase(row["phase"]) if row["phase"] else None,
    )


def _optional(at: int | None) -> datetime | None:
    return moment(at) if at is not None else None
