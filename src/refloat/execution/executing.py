"""Commands that run to their end: release commands, and jobs with their repeats and outputs."""

from collections.abc import Callable, Coroutine
from typing import Any

from refloat.clock import Clock
from refloat.domain.deployment import Attempt
from refloat.domain.errors import StepFailed
from refloat.domain.progress import Action
from refloat.domain.revision import Artifact, Ran
from refloat.domain.services import Job
from refloat.execution.deadline import Overdue, within
from refloat.execution.outputs import JobOutput, parse_outputs
from refloat.execution.readiness import Note
from refloat.execution.revisions import event_command, event_of

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


def _seconds(job: Job) -> float:
    return float(job.max_duration_seconds or JOB_SECONDS)


async def run_job(
    clock: Clock, run: Run, end: End, job: Job, action: Action, artifact: Artifact, note: Note
) -> dict[str, JobOutput]:
    """Once, and again after a failure as often as the job allows; what it left for later stages.

    A run that takes too long is ended before the next.

    Raises StepFailed saying how the last run ended.
    """
    if event_of(job, action) is None:
        return {}
    argv = event_command(job, action, artifact)
    if not argv and not artifact.location:
        raise StepFailed(f"{job.name} has no command to run", hint="give it an entrypoint")
    complaint = ""
    most = job.max_nb_restart + 1
    for number in range(1, most + 1):
        if complaint:
            await note(Attempt(number=number, most=most, complaint=complaint))
        try:
            ran = await within(clock, run(argv, f"{action}.{number}"), _seconds(job))
        except Overdue:
            await end()
            complaint = f"it did not end within {_seconds(job):.0f} s"
            continue
        if ran.exit_code == 0:
            return parse_outputs(ran.output, job.id)
        complaint = f"it ended with exit code {ran.exit_code}"
    runs = f" (run {most} times)" if most > 1 else ""
    raise StepFailed(f"the job failed: {complaint}{runs}")
