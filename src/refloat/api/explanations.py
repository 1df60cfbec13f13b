"""Bodies of explanations and critical paths: sentences, and the same as fields."""

from datetime import datetime
from typing import Any

import msgspec

from refloat.api.statuses import timestamp
from refloat.control.explanations import TimeSpent
from refloat.domain.deployment import Deployment
from refloat.execution.critical_path import Change, Kind, Segment
from refloat.execution.explanation import Doing, Explanation
from refloat.execution.wording import awaited, words

Body = dict[str, Any]


def body(it: Explanation) -> Body:
    """Every key is always there; what does not apply is null or empty."""
    deployment = it.deployment
    return {
        "deployment_request_id": deployment.id,
        "environment_id": deployment.environment_id,
        "number": deployment.number,
        "action": deployment.request.verb,
        "situation": it.situation,
        "words": list(words(it)),
        "asked_at": timestamp(deployment.created_at),
        "began_at": _optional(deployment.started_at),
        "ended_at": _optional(deployment.finished_at),
        "outcome": deployment.phase if deployment.ended else None,
        "reason": deployment.reason or it.node_reason or it.halt_reason or it.room_reason or None,
        "ahead": [_ahead(other, position) for position, other in enumerate(it.ahead)],
        "doing": [_doing(doing) for doing in it.doing],
        "next": [msgspec.to_builtins(coming) for coming in it.coming],
        "ends_by": _optional(it.ends_by),
        "services": [
            {
                "service_id": target.service_id,
                "name": target.name,
                "stage": target.stage_name,
                "phase": target.phase,
                "reason": target.reason or None,
            }
            for target in it.targets
        ],
    }


def _ahead(other: Deployment, position: int) -> Body:
    return {
        "deployment_request_id": other.id,
        "action": other.request.verb,
        "triggered_by": other.request.triggered_by,
        "position": position,
        "runs": other.owner is not None,
    }


def _doing(doing: Doing) -> Body:
    attempt = doing.attempt
    return {
        "service_id": doing.service_id or None,
        "name": doing.name or None,
        "stage": doing.stage or None,
        "step": doing.step,
        "since": timestamp(doing.since),
        "deadline": timestamp(doing.deadline),
        "begun": doing.begun,
        "waits": awaited(doing),
        "attempt": attempt.number if attempt else None,
        "attempts": attempt.most if attempt else None,
        "complaint": (attempt.complaint or None) if attempt else None,
    }


def _optional(at: datetime | None) -> str | None:
    return timestamp(at) if at else None


# -- what the time went to

_TOLD = 0.01
"""Of the whole: segments and changes that are smaller have no sentence."""


def time_spent(it: TimeSpent) -> Body:
    """`wall_seconds` is from the request to the end, and the sum of all segments."""
    wall, before = _wall(it.path), _wall(it.earlier_path)
    return {
        "deployment_request_id": it.deployment.id,
        "environment_id": it.deployment.environment_id,
        "number": it.deployment.number,
        "wall_seconds": wall,
        "words": [*_path_words(it.path, wall), *_change_words(it, wall)],
        "segments": [_segment(segment) for segment in it.path],
        "compared_with": {
            "deployment_request_id": it.earlier.id,
            "number": it.earlier.number,
            "wall_seconds": before,
        }
        if it.earlier
        else None,
        "changes": [{**msgspec.to_builtins(change), "more": change.more} for change in it.changes],
    }


def longest(path: tuple[Segment, ...]) -> Body | None:
    """The segment that took most of a deployment's time, and what it is called."""
    if not path:
        return None
    most = max(path, key=lambda segment: segment.seconds)
    return {**_segment(most), "words": _called(most)}


def _wall(path: tuple[Segment, ...]) -> float:
    return (path[-1].ended_at - path[0].started_at).total_seconds() if path else 0.0


def _segment(segment: Segment) -> Body:
    return {
        **msgspec.to_builtins(segment),
        "started_at": timestamp(segment.started_at),
        "ended_at": timestamp(segment.ended_at),
        "seconds": segment.seconds,
    }


def _path_words(path: tuple[Segment, ...], wall: float) -> list[str]:
    told = [segment for segment in path if segment.seconds >= wall * _TOLD]
    rest = sum(segment.seconds for segment in path if segment.seconds < wall * _TOLD)
    lines = [f"it took {wall:.2f} s, in this order:"]
    lines += [
        f"  {s.seconds:.2f} s  {_called(s)}" + (f" ({s.outcome})" if s.outcome not in (None, "done") else "")
        for s in told
    ]
    return [*lines, f"  {rest:.2f} s  all else"] if rest else lines


def _called(it: Segment | Change) -> str:
    if it.kind is Kind.STEP:
        return f"{it.step} of {it.name}" if it.name else it.step
    if isinstance(it, Segment) and it.step:
        return f"{it.kind} before {it.step}" + (f" of {it.name}" if it.name else "")
    return str(it.kind)


def _change_words(it: TimeSpent, wall: float) -> list[str]:
    if it.earlier is None:
        return []
    more = wall - _wall(it.earlier_path)
    lines = [f"deployment {it.earlier.number} took {abs(more):.2f} s {'less' if more >= 0 else 'more'}"]
    for change in it.changes:
        if abs(change.more) >= max(wall, 0.01) * _TOLD:
            word = "slower" if change.more > 0 else "faster"
            lines.append(f"  {word}: {_called(change)} {change.more:+.2f} s")
    return lines
