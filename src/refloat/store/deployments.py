"""Deployments, their targets, journal and events.

Every write of a running deployment is conditional on (id, owner, fence, not ended): an owner that was
replaced writes nothing, and learns of it by `Fenced`.
"""

from datetime import UTC, datetime, timedelta

import msgspec
from sqlalchemy import and_, bindparam, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from refloat.domain.deployment import Deployment, Event, Outcome, Request, Step, Target
from refloat.domain.errors import Fenced
from refloat.domain.progress import TERMINAL, Action, Phase
from refloat.domain.revision import Level
from refloat.store.database import Query, Reader, Row, Transaction
from refloat.store.tables import applied, deployment, event, step, target

d = deployment.c
_HEAD = [d[name] for name in deployment.c.keys() if name not in ("plan", "snapshot")]  # noqa: SIM118

_INSERT = Query(insert(deployment))
_BY_ID = Query(select(*_HEAD).where(d.id == bindparam("id")))
_LATEST = Query(
    select(*_HEAD).where(d.environment_id == bindparam("environment_id")).order_by(d.id.desc()).limit(1)
)
_LATEST_CLAIMED = Query(
    select(*_HEAD)
    .where(d.environment_id == bindparam("environment_id"), d.number.is_not(None))
    .order_by(d.id.desc())
    .limit(1)
)
_BY_NUMBER = Query(
    select(*_HEAD).where(d.environment_id == bindparam("environment_id"), d.number == bindparam("number"))
)
_OPEN = Query(
    select(*_HEAD).where(d.environment_id == bindparam("environment_id"), d.ended == 0).order_by(d.id)
)
_HISTORY = Query(
    select(*_HEAD)
    .where(d.environment_id == bindparam("environment_id"), d.id < bindparam("before"))
    .order_by(d.id.desc())
    .limit(bindparam("size"))
)
_CLAIMABLE = Query(
    select(func.min(d.id).label("id"))
    .where(d.ended == 0)
    .group_by(d.environment_id)
    .having(func.max(d.owner).is_(None))
    .order_by(func.min(d.id))
)
_RUNNING = Query(select(*_HEAD).where(d.ended == 0, d.owner.is_not(None)).order_by(d.id))
_NEXT_NUMBER = Query(
    select((func.coalesce(func.max(d.number), 0) + 1).label("number")).where(
        d.environment_id == bindparam("environment_id")
    )
)
_CLAIM = Query(
    update(deployment)
    .where(d.id == bindparam("key"), d.ended == 0, d.owner.is_(None))
    .values(
        owner=bindparam("new_owner"),
        fence=d.fence + 1,
        number=bindparam("new_number"),
        plan=bindparam("new_plan"),
        plan_hash=bindparam("new_hash"),
        snapshot=bindparam("new_snapshot"),
        phase=bindparam("new_phase"),
        started_at=bindparam("now"),
    )
)
_TAKE_OVER = Query(
    update(deployment)
    .where(d.id == bindparam("key"), d.ended == 0, d.fence == bindparam("seen"))
    .values(owner=bindparam("new_owner"), fence=d.fence + 1)
)
_SET_PHASE = Query(
    update(deployment)
    .where(d.id == bindparam("key"))
    .values(
        phase=bindparam("new_phase"),
        ended=bindparam("new_ended"),
        reason=bindparam("new_reason"),
        finished_at=bindparam("now"),
    )
)
_SET_REQUEST = Query(
    update(deployment).where(d.id == bindparam("key")).values(request=bindparam("new_request"))
)
_REQUEST_CANCEL = Query(update(deployment).where(d.id == bindparam("key")).values(cancel_requested=1))
_OWNED = Query(
    select(d.cancel_requested).where(
        d.id == bindparam("id"), d.owner == bindparam("owner"), d.fence == bindparam("fence"), d.ended == 0
    )
)
_CLAIMED = Query(select(d.plan, d.snapshot).where(d.id == bindparam("id")))
_ENVIRONMENTS = Query(select(d.environment_id).distinct())

_put_target = upsert(target)
_PUT_TARGET = Query(
    _put_target.on_conflict_do_update(
        index_elements=["deployment_id", "service_id"],
        set_={"phase": _put_target.excluded.phase, "document": _put_target.excluded.document},
    )
)
_TARGETS = Query(
    select(target.c.document)
    .where(target.c.deployment_id == bindparam("deployment_id"))
    .order_by(target.c.stage_position, target.c.service_id)
)
_ONE_TARGET = Query(
    select(target.c.document).where(
        target.c.deployment_id == bindparam("deployment_id"), target.c.service_id == bindparam("service_id")
    )
)
_TARGET_HISTORY = Query(
    select(target.c.document)
    .where(target.c.service_id == bindparam("service_id"))
    .order_by(target.c.deployment_id.desc())
    .limit(bindparam("size"))
)
_OPEN_COUNT = Query(
    select(func.count().label("number")).where(
        target.c.service_id == bindparam("service_id"), *[target.c.phase != str(p) for p in sorted(TERMINAL)]
    )
)

_begin_step = upsert(step)
_BEGIN_STEP = Query(
    _begin_step.on_conflict_do_update(
        index_elements=["deployment_id", "service_id", "name"],
        set_={
            "attempt": step.c.attempt + 1,
            "fence": _begin_step.excluded.fence,
            "outcome": None,
            "started_at": _begin_step.excluded.started_at,
            "finished_at": None,
        },
    )
)
_END_STEP = Query(
    update(step)
    .where(
        and_(
            step.c.deployment_id == bindparam("key"),
            step.c.service_id == bindparam("service"),
            step.c.name == bindparam("step_name"),
        )
    )
    .values(outcome=bindparam("new_outcome"), output=bindparam("new_output"), finished_at=bindparam("now"))
)
_STEPS = Query(
    select(step)
    .where(step.c.deployment_id == bindparam("deployment_id"))
    .order_by(step.c.started_at, step.c.ordinal)
)

_PUT_EVENT = Query(insert(event).values({c.name: bindparam(c.name) for c in event.c if c.name != "sequence"}))
_EVENTS_AFTER = Query(
    select(event)
    .where(event.c.environment_id == bindparam("environment_id"), event.c.sequence > bindparam("after"))
    .order_by(event.c.sequence)
    .limit(bindparam("size"))
)
_EVENTS_OF_DEPLOYMENT_AFTER = Query(
    select(event)
    .where(event.c.deployment_id == bindparam("deployment_id"), event.c.sequence > bindparam("after"))
    .order_by(event.c.sequence)
    .limit(bindparam("size"))
)
_LAST_EVENTS = Query(
    select(event)
    .where(event.c.deployment_id == bindparam("deployment_id"))
    .order_by(event.c.sequence.desc())
    .limit(bindparam("size"))
)

_put_applied = upsert(applied)
_PUT_APPLIED = Query(
    _put_applied.on_conflict_do_update(
        index_elements=["service_id"], set_={"document": _put_applied.excluded.document}
    )
)
_DROP_APPLIED = Query(applied.delete().where(applied.c.service_id == bindparam("key")))
_APPLIED = Query(select(applied).where(applied.c.environment_id == bindparam("environment_id")))
_ALL_APPLIED = Query(select(applied).order_by(applied.c.environment_id))

_FIRST_ID_AFTER_ALL = "~"


def micros(at: datetime) -> int:
    """A time as the schema holds it."""
    return int((at - _EPOCH) / timedelta(microseconds=1))


def moment(at: int) -> datetime:
    """A stored time as a value."""
    return _EPOCH + timedelta(microseconds=at)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


# -- deployments


async def insert_deployment(tx: Transaction, it: Deployment) -> None:
    await tx.run(
        _INSERT,
        id=it.id,
        environment_id=it.environment_id,
        number=None,
        request=msgspec.json.encode(it.request).decode(),
        phase=it.phase,
        ended=int(it.ended),
        owner=None,
        fence=0,
        cancel_requested=0,
        plan=None,
        plan_hash=None,
        snapshot=None,
        reason=it.reason,
        created_at=micros(it.created_at),
        started_at=None,
        finished_at=None,
    )


async def find_deployment(read: Reader, deployment_id: str) -> Deployment | None:
    row = await read.one(_BY_ID, id=deployment_id)
    return _deployment(row) if row else None


async def latest(read: Reader, environment_id: str) -> Deployment | None:
    """The newest request of the environment, waiting ones included."""
    row = await read.one(_LATEST, environment_id=environment_id)
    return _deployment(row) if row else None


async def latest_claimed(read: Reader, environment_id: str) -> Deployment | None:
    """The newest one that has a number."""
    row = await read.one(_LATEST_CLAIMED, environment_id=environment_id)
    return _deployment(row) if row else None


async def by_number(read: Reader, environment_id: str, number: int) -> Deployment | None:
    row = await read.one(_BY_NUMBER, environment_id=environment_id, number=number)
    return _deployment(row) if row else None


async def open_deployments(read: Reader, environment_id: str) -> tuple[Deployment, ...]:
    """Not ended, in order: the first runs or is next."""
    return tuple(_deployment(r) for r in await read.all(_OPEN, environment_id=environment_id))


async def history(
    read: Reader, environment_id: str, size: int, before: str | None = None
) -> tuple[Deployment, ...]:
    """Newest first, those older than `before` if given."""
    rows = await read.all(
        _HISTORY, environment_id=environment_id, before=before or _FIRST_ID_AFTER_ALL, size=size
    )
    return tuple(_deployment(r) for r in rows)


async def claimable(read: Reader) -> tuple[str, ...]:
    """Heads of queues whose environment has nothing running, oldest first."""
    return tuple(row["id"] for row in await read.all(_CLAIMABLE))


async def running(read: Reader) -> tuple[Deployment, ...]:
    """Those that have an owner, dead or alive."""
    return tuple(_deployment(r) for r in await read.all(_RUNNING))


async def next_number(tx: Transaction, environment_id: str) -> int:
    row = await tx.one(_NEXT_NUMBER, environment_id=environment_id)
    assert row is not None
    return int(row["number"])


async def claim(
    tx: Transaction,
    deployment_id: str,
    *,
    owner: str,
    number: int,
    phase: Phase,
    plan: str,
    plan_hash: str,
    snapshot: str,
    now: datetime,
) -> bool:
    """Make it ours and running; False when somebody else was first."""
    touched = await tx.run(
        _CLAIM,
        key=deployment_id,
        new_owner=owner,
        new_number=number,
        new_plan=plan,
        new_hash=plan_hash,
        new_snapshot=snapshot,
        new_phase=phase,
        now=micros(now),
    )
    return touched == 1


async def take_over(tx: Transaction, it: Deployment, owner: str) -> bool:
    """Become the owner of a running deployment whose owner is dead; its later writes are refused."""
    return await tx.run(_TAKE_OVER, key=it.id, seen=it.fence, new_owner=owner) == 1


async def set_phase(tx: Transaction, deployment_id: str, phase: Phase, reason: str, now: datetime) -> None:
    await tx.run(
        _SET_PHASE,
        key=deployment_id,
        new_phase=phase,
        new_ended=int(phase in TERMINAL),
        new_reason=reason,
        now=micros(now) if phase in TERMINAL else None,
    )


async def set_request(tx: Transaction, deployment_id: str, request: Request) -> None:
    await tx.run(_SET_REQUEST, key=deployment_id, new_request=msgspec.json.encode(request).decode())


async def request_cancel(tx: Transaction, deployment_id: str) -> None:
    await tx.run(_REQUEST_CANCEL, key=deployment_id)


async def assert_owned(tx: Transaction, deployment_id: str, owner: str, fence: int) -> bool:
    """Raises Fenced unless this owner still runs it; tells whether a cancel is asked for."""
    row = await tx.one(_OWNED, id=deployment_id, owner=owner, fence=fence)
    if row is None:
        raise Fenced(f"deployment {deployment_id} has another owner or has ended")
    return bool(row["cancel_requested"])


async def claimed_documents(read: Reader, deployment_id: str) -> tuple[str, str]:
    """Plan and sealed snapshot of a claimed deployment."""
    row = await read.one(_CLAIMED, id=deployment_id)
    assert row is not None and row["plan"] is not None
    return row["plan"], row["snapshot"]


# -- targets


async def put_target(tx: Transaction, it: Target) -> None:
    await tx.run(
        _PUT_TARGET,
        deployment_id=it.deployment_id,
        service_id=it.service_id,
        stage_position=it.stage_position,
        phase=it.phase,
        document=msgspec.json.encode(it).decode(),
    )


async def targets(read: Reader, deployment_id: str) -> tuple[Target, ...]:
    """The services of a deployment, by stage."""
    rows = await read.all(_TARGETS, deployment_id=deployment_id)
    return tuple(msgspec.json.decode(row["document"], type=Target) for row in rows)


async def find_target(read: Reader, deployment_id: str, service_id: str) -> Target | None:
    """One service of a deployment."""
    row = await read.one(_ONE_TARGET, deployment_id=deployment_id, service_id=service_id)
    return msgspec.json.decode(row["document"], type=Target) if row else None


async def target_history(read: Reader, service_id: str, size: int) -> tuple[Target, ...]:
    """What was done to a service, newest first."""
    rows = await read.all(_TARGET_HISTORY, service_id=service_id, size=size)
    return tuple(msgspec.json.decode(row["document"], type=Target) for row in rows)


async def open_target_count(read: Reader, service_id: str) -> int:
    """How many deployments that have not ended concern the service."""
    row = await read.one(_OPEN_COUNT, service_id=service_id)
    return int(row["number"]) if row else 0


# -- the journal


async def begin_step(tx: Transaction, it: Step) -> None:
    """Write a step down before it is done; beginning it again raises its attempt."""
    await tx.run(
        _BEGIN_STEP,
        deployment_id=it.deployment_id,
        service_id=it.service_id,
        name=it.name,
        ordinal=it.ordinal,
        attempt=1,
        fence=it.fence,
        outcome=None,
        output="{}",
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
    await tx.run(
        _END_STEP,
        key=deployment_id,
        service=service_id,
        step_name=name,
        new_outcome=outcome,
        new_output=output,
        now=micros(now),
    )


async def steps(read: Reader, deployment_id: str) -> tuple[Step, ...]:
    """The journal of a deployment, in order of beginning."""
    return tuple(_step(row) for row in await read.all(_STEPS, deployment_id=deployment_id))


# -- events


async def put_event(tx: Transaction, it: Event) -> None:
    """Append; the stored event gets the next sequence number, whatever the given one says."""
    await tx.run(
        _PUT_EVENT,
        deployment_id=it.deployment_id,
        environment_id=it.environment_id,
        service_id=it.service_id,
        at=micros(it.at),
        level=it.level,
        step=it.step,
        message=it.message,
        action=it.action,
        phase=it.phase,
    )


async def events_after(read: Reader, environment_id: str, after: int, size: int) -> tuple[Event, ...]:
    rows = await read.all(_EVENTS_AFTER, environment_id=environment_id, after=after, size=size)
    return tuple(_event(row) for row in rows)


async def deployment_events_after(
    read: Reader, deployment_id: str, after: int, size: int
) -> tuple[Event, ...]:
    rows = await read.all(_EVENTS_OF_DEPLOYMENT_AFTER, deployment_id=deployment_id, after=after, size=size)
    return tuple(_event(row) for row in rows)


async def last_events(read: Reader, deployment_id: str, size: int) -> tuple[Event, ...]:
    """The newest `size` events of a deployment, oldest first."""
    rows = await read.all(_LAST_EVENTS, deployment_id=deployment_id, size=size)
    return tuple(_event(row) for row in reversed(rows))


# -- what is applied


async def put_applied(tx: Transaction, service_id: str, environment_id: str, document: str) -> None:
    await tx.run(_PUT_APPLIED, service_id=service_id, environment_id=environment_id, document=document)


async def drop_applied(tx: Transaction, service_id: str) -> None:
    await tx.run(_DROP_APPLIED, key=service_id)


async def applied_documents(read: Reader, environment_id: str) -> dict[str, str]:
    rows = await read.all(_APPLIED, environment_id=environment_id)
    return {row["service_id"]: row["document"] for row in rows}


async def applied_everywhere(read: Reader) -> dict[str, dict[str, str]]:
    """Environment → service → document, of the whole installation."""
    found: dict[str, dict[str, str]] = {}
    for row in await read.all(_ALL_APPLIED):
        found.setdefault(row["environment_id"], {})[row["service_id"]] = row["document"]
    return found


def _deployment(row: Row) -> Deployment:
    return Deployment(
        id=row["id"],
        environment_id=row["environment_id"],
        number=row["number"],
        request=msgspec.json.decode(row["request"], type=Request),
        phase=Phase(row["phase"]),
        owner=row["owner"],
        fence=row["fence"],
        cancel_requested=bool(row["cancel_requested"]),
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
