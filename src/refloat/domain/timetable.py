"""When a job by the clock is due, and the record of each of its runs."""

from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from functools import lru_cache
from typing import ClassVar
from zoneinfo import ZoneInfo

import msgspec
from cronsim import CronSim, CronSimError

from refloat.domain.errors import Invalid
from refloat.domain.resources import Resource

_UTC = ("UTC", "Etc/UTC")
"""Known without any table of time zones."""
_MOMENT = timedelta(microseconds=1)
_ANY_TIME = datetime(2024, 1, 1, tzinfo=UTC)


class Timetable(msgspec.Struct, frozen=True, kw_only=True):
    """How an applied job runs by the clock.

    `since` is from when its instants count. A run of `argv` may take `seconds`; one that fails is repeated
    `repeats` times. `sealed_secrets` are the values that its log must not show.
    """

    schedule: str
    timezone: str
    since: datetime
    argv: tuple[str, ...]
    seconds: float
    repeats: int
    sealed_secrets: str

    def latest(self, now: datetime) -> datetime | None:
        """The newest instant of the schedule that is not after `now`; None when there was none."""
        return _latest(self.schedule, self.timezone, now.replace(second=0, microsecond=0))


class RunOutcome(StrEnum):
    DONE = "done"
    FAILED = "failed"
    MISSED = "missed"
    """Nobody was there to begin it in time."""
    CANCELED = "canceled"
    """The job was stopped, or removed, meanwhile."""


class CronRun(Resource, frozen=True, kw_only=True):
    """One run. Parent: the job; the name is the instant, so that there is one for each.

    `outcome` None: it goes on. `log` are its last lines, `attempts` the number of the attempt that it has
    come to, 0 while the first goes on, and `reason` what went wrong the time before.
    """

    kind: ClassVar[str] = "cron_run"
    namespace: ClassVar[str] = "run"

    scheduled_at: datetime
    outcome: RunOutcome | None = None
    finished_at: datetime | None = None
    attempts: int = 0
    reason: str = ""
    log: tuple[str, ...] = ()


def name_of(instant: datetime) -> str:
    """As it stands in the names of runs and of their processes."""
    return instant.astimezone(UTC).strftime("%Y%m%dT%H%MZ")


def check(schedule: str, timezone: str) -> None:
    """Raises Invalid for a schedule or a time zone that means nothing."""
    if len(schedule.split()) != 5:
        raise Invalid(
            f"schedule.cronjob.scheduled_at: five fields are expected, not {schedule!r}",
            hint="minute, hour, day of the month, month, day of the week, as in '*/15 * * * *'",
        )
    try:
        next(CronSim(schedule, _ANY_TIME))
    except (CronSimError, StopIteration) as error:
        why = str(error).lower() or "it is never due"
        raise Invalid(f"schedule.cronjob.scheduled_at: {schedule!r} cannot be read: {why}") from None
    _zone(timezone)


def _zone(name: str) -> tzinfo:
    if name in _UTC:
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise Invalid(
            f"schedule.cronjob.timezone: {name!r} is not known on this machine",
            hint="a name like Europe/Paris; the tables are in the package tzdata",
        ) from None


@lru_cache(maxsize=4096)
def _latest(schedule: str, timezone: str, minute: datetime) -> datetime | None:
    """Asked several times a minute for every job."""
    until = (minute + _MOMENT).astimezone(_zone(timezone))
    found = next(CronSim(schedule, until, reverse=True), None)
    return found.astimezone(UTC) if found else None
