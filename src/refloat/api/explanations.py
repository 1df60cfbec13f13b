"""The body of an explanation: its sentences, and the same as fields."""

from datetime import datetime
from typing import Any

import msgspec

from refloat.api.statuses import timestamp
from refloat.domain.deployment import Deployment
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
        "reason": deployment.reason or it.node_reason or None,
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
