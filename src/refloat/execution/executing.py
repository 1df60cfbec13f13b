"""Commands that run to their end: release commands, and jobs with their repeats and outputs."""

from collections.abc import Callable, Coroutine
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
from refloat.execution.readiness import Note
from refloat.execution.revisions import command_words
from refloat.store.sealing import Sealer

JOB_SECONDS = 300
"""How long one run of a job may take when it does not say."""
_MARGIN = 60.0

Run = Callable[[tuple[str, ...], str], Coroutine[Any, Any, Ran]]
"""Runs an argv once under a name that is unique in its deployment."""

End = Callable[[], Coroutine[Any, Any, None]]
"""Ends what runs under any of those names."""


async def run_release(run: Run, artifact: Artifact) -> int:
    """Before a new version starts. Raises StepFailed when it fails."""
    ran = await run(artifact.release, "release")
    if ran.exit_code:
        raise StepFailed(f"the release command ended with exit code {ran.exit_code}")
    return ran.exit_code


def job_deadline(job: Job) -> float:
    """Seconds after which all runs together must have ended."""
    return _MARGIN + _seconds(job) * (job.max_nb_restart + 1)


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
    clock: Clock, run: Run, end: End, job: Job, event: str, command: Command, artifact: Artifact, note: Note
) -> dict[str, JobOutput]:
    """Once, and again after a failure as often as the job allows; what it left for later stages.

    Raises StepFailed saying how the last run ended.
    """
    argv = command_words(command, artifact)
    if not argv and not artifact.location:
        raise StepFailed(f"{job.name} has no command to run", hint="give it an entrypoint")
    ran = await repeated(
        clock, lambda number: run(argv, f"{event}.{number}"), end, _seconds(job), job.max_nb_restart, note
    )
    return parse_outputs(ran.output, job.id)


async def repeated(
    clock: Clock,
    once: Callable[[int], Coroutine[Any, Any, Ran]],
    end: End,
    seconds: float,
    repeats: int,
    note: Note | None = None,
    first: int = 1,
) -> Ran:
    """One run that succeeds, of at most `repeats` more than one, numbered from 1.

    Each may take `seconds`; one that takes longer is ended before the next. `first` is the one that an
    earlier server had come to, and may go on.

    Raises StepFailed saying how the last run ended.
    """
    complaint = ""
    most = repeats + 1
    for number in range(first, most + 1):
        if complaint and note:
            await note(Attempt(number=number, most=most, complaint=complaint))
        try:
            ran = await within(clock, once(number), seconds)
        except Overdue:
            await end()
            complaint = f"it did not end within {seconds:.0f} s"
            continue
        if ran.exit_code == 0:
            return ran
        complaint = f"it ended with exit code {ran.exit_code}"
    runs = f" (run {most} times)" if repeats else ""
    raise StepFailed(f"the job failed: {complaint}{runs}")
