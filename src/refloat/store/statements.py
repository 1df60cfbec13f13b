"""The statements of deployments, targets, journal and events; compiled once, bound by `store.deployments`."""

from sqlalchemy import and_, bindparam, case, func, insert, null, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from refloat.domain.progress import TERMINAL, Phase
from refloat.store.database import Query
from refloat.store.tables import applied, deployment, event, step, target

d = deployment.c
_HEAD = [d[name] for name in deployment.c.keys() if name not in ("plan", "snapshot")]  # noqa: SIM118

INSERT = Query(insert(deployment))
BY_ID = Query(select(*_HEAD).where(d.id == bindparam("id")))
LATEST = Query(
    select(*_HEAD).where(d.environment_id == bindparam("environment_id")).order_by(d.id.desc()).limit(1)
)
LATEST_CLAIMED = Query(
    select(*_HEAD)
    .where(d.environment_id == bindparam("environment_id"), d.number.is_not(None))
    .order_by(d.id.desc())
    .limit(1)
)
BY_NUMBER = Query(
    select(*_HEAD).where(d.environment_id == bindparam("environment_id"), d.number == bindparam("number"))
)
OPEN = Query(
    select(*_HEAD).where(d.environment_id == bindparam("environment_id"), d.ended == 0).order_by(d.id)
)
HISTORY = Query(
    select(*_HEAD)
    .where(d.environment_id == bindparam("environment_id"), d.id < bindparam("before"))
    .order_by(d.id.desc())
    .limit(bindparam("size"))
)
CLAIMABLE = Query(
    select(func.min(d.id).label("id"), func.min(d.cluster_id).label("cluster_id"), d.environment_id)
    .where(d.ended == 0)
    .group_by(d.environment_id)
    .having(func.max(d.owner).is_(None))
    .order_by(func.min(d.id))
)
RUNNING = Query(select(d.id, d.cancel_requested).where(d.ended == 0, d.owner.is_not(None)))
"""In no order: for the sake of one, SQLite would go through the whole history at every look."""
QUEUE_FIGURES = Query(
    select(
        func.count().label("open"),
        func.count(d.owner).label("running"),
        func.min(case((d.owner.is_(None), d.created_at))).label("oldest"),
    ).where(d.ended == 0)
)
_used = (
    select(
        d.cluster_id, func.count().label("deployments"), func.coalesce(func.sum(d.builds), 0).label("builds")
    )
    .where(d.ended == 0, d.owner.is_not(None))
    .group_by(d.cluster_id)
)
USED = Query(_used)
NEXT_NUMBER = Query(
    select((func.coalesce(func.max(d.number), 0) + 1).label("number")).where(
        d.environment_id == bindparam("environment_id")
    )
)
_before, _taken = deployment.alias(), _used.subquery("used")
HEAD = Query(
    select(
        *_HEAD,
        select(func.coalesce(func.max(_before.c.number), 0) + 1)
        .where(_before.c.environment_id == d.environment_id)
        .scalar_subquery()
        .label("next_number"),
        func.coalesce(_taken.c.deployments, 0).label("used_deployments"),
        func.coalesce(_taken.c.builds, 0).label("used_builds"),
    )
    .select_from(deployment.outerjoin(_taken, _taken.c.cluster_id == d.cluster_id))
    .where(d.id == bindparam("id"))
)
CLAIM = Query(
    update(deployment)
    .where(d.id == bindparam("key"), d.ended == 0, d.owner.is_(None))
    .values(
        owner=bindparam("new_owner"),
        fence=d.fence + 1,
        number=bindparam("new_number"),
        plan=bindparam("new_plan"),
        plan_hash=bindparam("new_hash"),
        snapshot=bindparam("new_snapshot"),
        builds=bindparam("new_builds"),
        phase=bindparam("new_phase"),
        started_at=bindparam("now"),
    )
)
TAKE_OVER = Query(
    update(deployment)
    .where(d.id == bindparam("key"), d.ended == 0, d.fence == bindparam("seen"))
    .values(owner=bindparam("new_owner"), fence=d.fence + 1)
)
SET_BUILDS = Query(update(deployment).where(d.id == bindparam("key")).values(builds=bindparam("new_builds")))
SET_PHASE = Query(
    update(deployment)
    .where(d.id == bindparam("key"))
    .values(
        phase=bindparam("new_phase"),
        ended=bindparam("new_ended"),
        reason=bindparam("new_reason"),
        finished_at=bindparam("now"),
    )
)
SET_REQUEST = Query(
    update(deployment).where(d.id == bindparam("key")).values(request=bindparam("new_request"))
)
REQUEST_CANCEL = Query(update(deployment).where(d.id == bindparam("key")).values(cancel_requested=1))
OWNED = Query(
    select(d.cancel_requested).where(
        d.id == bindparam("id"), d.owner == bindparam("owner"), d.fence == bindparam("fence"), d.ended == 0
    )
)
OWNED_TARGET = Query(
    select(d.cancel_requested, target.c.document)
    .select_from(
        deployment.outerjoin(
            target, and_(target.c.deployment_id == d.id, target.c.service_id == bindparam("service_id"))
        )
    )
    .where(
        d.id == bindparam("id"), d.owner == bindparam("owner"), d.fence == bindparam("fence"), d.ended == 0
    )
)
OWNED_TARGETS = Query(
    select(d.cancel_requested, target.c.document)
    .select_from(deployment.outerjoin(target, target.c.deployment_id == d.id))
    .where(
        d.id == bindparam("id"), d.owner == bindparam("owner"), d.fence == bindparam("fence"), d.ended == 0
    )
    .order_by(target.c.stage_position, target.c.service_id)
)
CLAIMED = Query(select(d.plan, d.snapshot).where(d.id == bindparam("id")))
ENVIRONMENTS = Query(select(d.environment_id).distinct())

_put_target = upsert(target)
PUT_TARGET = Query(
    _put_target.on_conflict_do_update(
        index_elements=["deployment_id", "service_id"],
        set_={"phase": _put_target.excluded.phase, "document": _put_target.excluded.document},
    )
)
TARGETS = Query(
    select(target.c.document)
    .where(target.c.deployment_id == bindparam("deployment_id"))
    .order_by(target.c.stage_position, target.c.service_id)
)
ONE_TARGET = Query(
    select(target.c.document).where(
        target.c.deployment_id == bindparam("deployment_id"), target.c.service_id == bindparam("service_id")
    )
)
TARGET_HISTORY = Query(
    select(target.c.document)
    .where(target.c.service_id == bindparam("service_id"))
    .order_by(target.c.deployment_id.desc())
    .limit(bindparam("size"))
)
BUILT = Query(
    select(step.c.output)
    .select_from(
        step.join(
            target,
            and_(target.c.deployment_id == step.c.deployment_id, target.c.service_id == step.c.service_id),
        )
    )
    .where(
        step.c.service_id == bindparam("service_id"),
        step.c.name == bindparam("step_name"),
        step.c.outcome == "done",
        *[target.c.phase != str(p) for p in (Phase.FAILED, Phase.BUILD_FAILED, Phase.CANCELED)],
    )
    .order_by(step.c.deployment_id.desc())
    .limit(bindparam("size"))
)
OPEN_COUNTS = Query(
    select(target.c.service_id, func.count().label("number"))
    .select_from(deployment.join(target, target.c.deployment_id == d.id))
    .where(
        d.environment_id == bindparam("environment_id"),
        d.ended == 0,
        *[target.c.phase != str(p) for p in sorted(TERMINAL)],
    )
    .group_by(target.c.service_id)
)

_begin_step = upsert(step)
BEGIN_STEP = Query(
    _begin_step.on_conflict_do_update(
        index_elements=["deployment_id", "service_id", "name"],
        set_={
            "attempt": step.c.attempt + 1,
            "fence": _begin_step.excluded.fence,
            "outcome": null(),
            "output": _begin_step.excluded.output,
            "started_at": _begin_step.excluded.started_at,
            "finished_at": null(),
        },
    )
)
END_STEP = Query(
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
NOTE_STEP = Query(
    update(step)
    .where(
        step.c.deployment_id == bindparam("key"),
        step.c.service_id == bindparam("service"),
        step.c.name == bindparam("step_name"),
        step.c.outcome.is_(None),
    )
    .values(output=bindparam("new_output"))
)
STEPS = Query(
    select(step)
    .where(step.c.deployment_id == bindparam("deployment_id"))
    .order_by(step.c.started_at, step.c.ordinal)
)

PUT_EVENT = Query(insert(event).values({c.name: bindparam(c.name) for c in event.c if c.name != "sequence"}))
EVENTS_AFTER = Query(
    select(event)
    .where(event.c.environment_id == bindparam("environment_id"), event.c.sequence > bindparam("after"))
    .order_by(event.c.sequence)
    .limit(bindparam("size"))
)
EVENTS_OF_DEPLOYMENT_AFTER = Query(
    select(event)
    .where(event.c.deployment_id == bindparam("deployment_id"), event.c.sequence > bindparam("after"))
    .order_by(event.c.sequence)
    .limit(bindparam("size"))
)
NEWEST_EVENT = Query(select(func.coalesce(func.max(event.c.sequence), 0).label("sequence")))
TOLD_OF = Query(select(event.c.environment_id).where(event.c.sequence > bindparam("after")))
LAST_EVENTS = Query(
    select(event)
    .where(event.c.deployment_id == bindparam("deployment_id"))
    .order_by(event.c.sequence.desc())
    .limit(bindparam("size"))
)

_put_applied = upsert(applied)
PUT_APPLIED = Query(
    _put_applied.on_conflict_do_update(
        index_elements=["service_id"], set_={"document": _put_applied.excluded.document}
    )
)
DROP_APPLIED = Query(applied.delete().where(applied.c.service_id == bindparam("key")))
APPLIED = Query(select(applied).where(applied.c.environment_id == bindparam("environment_id")))
ALL_APPLIED = Query(select(applied).order_by(applied.c.environment_id))
