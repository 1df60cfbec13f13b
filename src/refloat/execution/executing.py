"""Commands that run to their end: release commands, and jobs with their repeats and outputs."""

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import msgspec

from refloat.clock import Clock
from refloat.domain.deployment import Attempt
from refloat.domain.errors import StepFailed
from refloat.domain.revision import Artifact, Ran
from refloat.domain.services import Command, Job
from refloat.domain.timetable import Timetable
from refloat.execution.applied import Applied
from refloat.execution.deadline import Overdue, within
from refloat.execution.outputs import JobOutput, parse_outputs
from refloat.execution.revisions import command_words
from refloat.store.sealing import Sealer

JOB_SECONDS = 300
"""How long one run of a job may take when it does not say."""
_MARGIN = 60.0
_GRACE = 10.0
"""A run that is ended may take so long to do so."""

Run = Callable[[tuple[str, ...], str], Coroutine[Any, Any, Ran]]
"""Runs an argv once under a name that is unique in its deployment."""

End = Callable[[str], Coroutine[Any, Any, None]]
"""Ends what runs under such a name, and leaves nothing of it; gone is fine."""

ComeTo = Callable[[Attempt], Awaitable[None]]
"""Writes down which attempt comes next, so that a later server makes none before it; what it raises ends
the work."""


@dataclass(frozen=True)
class Attempts:
    """Those of one command, numbered from 1, of which each may take `seconds`."""

    once: Callable[[int], Coroutine[Any, Any, Ran]]
    end: Callable[[int], Coroutine[Any, Any, None]]
    come_to: ComeTo
    seconds: float
    most: int


async def run_release(run: Run, artifact: Artifact) -> int:
    """Before a new version starts. Raises StepFailed when it fails."""
    ran = await run(artifact.release, "release")
    if ran.exit_code:
        raise StepFailed(f"the release command ended with exit code {ran.exit_code}")
    return ran.exit_code


def job_deadline(job: Job) -> float:
    """Seconds after which all runs together must have ended."""
    return _MARGIN + (_seconds(job) + _GRACE) * (job.max_nb_restart + 1)


def timetable_of(
    job: Job | None,
    artifact: Artifact,
    secrets: tuple[str, ...],
    before: Applied | None,
    sealer: Sealer,
    clock: Clock,
) -> Timetable | None:
    """How a job runs by the clock from now on. Where its schedule stays, so do the instants that count."""
    cron = job.cronjob if job else None
    if job is None or cron is None:
        return None
    old = before.timetable if before else None
    same = old and (old.schedule, old.timezone) == (cron.scheduled_at, cron.timezone)
    return Timetable(
        schedule=cron.scheduled_at,
        timezone=cron.timezone,
        since=old.since if old and same else clock.now(),
        argv=command_words(cron, artifact),
        seconds=_seconds(job),
        repeats=job.max_nb_restart,
        sealed_secrets=sealer.seal(msgspec.json.encode(secrets).decode()),
    )


def _seconds(job: Job) -> float:
    return float(job.max_duration_seconds or JOB_SECONDS)


async def run_job(
    clock: Clock,
    run: Run,
    end: End,
    come_to: ComeTo,
    reached: Attempt | None,
    job: Job,
    event: str,
    command: Command,
    artifact: Artifact,
) -> dict[str, JobOutput]:
    """Once, and again after a failure as often as the job allows; what it left for later stages.

    Raises StepFailed saying how the last run ended.
    """
    argv = command_words(command, artifact)
    if not argv and not artifact.location:
        raise StepFailed(f"{job.name} has no command to run", hint="give it an entrypoint")
    attempts = Attempts(
        once=lambda number: run(argv, f"{event}.{number}"),
        end=lambda number: end(f"{event}.{number}"),
        come_to=come_to,
        seconds=_seconds(job),
        most=job.max_nb_restart + 1,
    )
    ran = await repeated(clock, attempts, reached)
    return parse_outputs(ran.output, job.id)


async def repeated(clock: Clock, attempts: Attempts, reached: Attempt | None) -> Ran:
    """The first attempt that succeeds, begun where an earlier server had come to (`reached`).

    One that takes too long is ended, and is no result: that the next one comes is written down before, else
    a server that dies in between is followed by one that makes it once more. Whoever goes on ends it first.

    Raises StepFailed saying how the last run ended.
    """
    first, complaint = (reached.number, reached.complaint) if reached else (1, "")
    if first > 1:
        await attempts.end(first - 1)
    for number in range(first, attempts.most + 1):
        ran = await _in_time(clock, attempts, number)
        if ran and ran.exit_code == 0:
            return ran
        words = f"it ended with exit code {ran.exit_code}" if ran else ""
        complaint = words or f"it did not end within {attempts.seconds:.0f} s"
        await attempts.come_to(Attempt(number=number + 1, most=attempts.most, complaint=complaint))
        if ran is None:
            await attempts.end(number)
    runs = f" (run {attempts.most} times)" if attempts.most > 1 else ""
    raise StepFailed(f"the job failed: {complaint}{runs}")


async def _in_time(clock: Clock, attempts: Attempts, number: int) -> Ran | None:
    """None for an attempt that takes too long, and goes on."""
    try:
        return await within(clock, attempts.once(number), attempts.seconds)
    except Overdue:
        return None
