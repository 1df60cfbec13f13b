"""Counts in process, in a registry of its own, and gives the figures out as Prometheus reads them.

Labels are words of this program (steps, outcomes, verbs). None holds what somebody chose, so that whoever
may reach the server may read them.
"""

from collections import OrderedDict
from datetime import datetime
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from refloat import __version__
from refloat.domain.deployment import Deployment, Outcome, Swap
from refloat.domain.progress import TERMINAL, Phase
from refloat.planning.plan import StepName

_CLAIM_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60)
_STEP_BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180, 600, 1800)
_MOST_REMEMBERED = 10_000


class _Queue(Protocol):
    @property
    def waiting(self) -> int: ...
    @property
    def running(self) -> int: ...
    @property
    def oldest_seconds(self) -> float: ...


class Metrics:
    """The figures of one server. Several in one process share nothing."""

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self) -> None:
        own = self._registry = CollectorRegistry()
        self._freed: OrderedDict[str, datetime] = OrderedDict()
        Gauge("refloat_build_info", "The version that runs.", ("version",), registry=own).labels(
            __version__
        ).set(1)
        self._waiting = Gauge("refloat_queue_waiting", "Deployments that wait to begin.", registry=own)
        self._running = Gauge("refloat_deployments_running", "Deployments that have begun.", registry=own)
        self._oldest = Gauge(
            "refloat_queue_oldest_seconds", "Age of the request that waits longest.", registry=own
        )
        self._claim = Histogram(
            "refloat_claim_latency_seconds",
            "From when nothing was in front of a deployment any more until it began.",
            buckets=_CLAIM_BUCKETS,
            registry=own,
        )
        self._takeovers = Counter(
            "refloat_takeovers", "Deployments taken up again after their owner stopped.", registry=own
        )
        self._refusals = Counter(
            "refloat_fence_refusals", "Writes refused because of another owner.", registry=own
        )
        self._steps = Histogram(
            "refloat_step_duration_seconds",
            "How long steps took, by how they ended.",
            ("step", "outcome"),
            buckets=_STEP_BUCKETS,
            registry=own,
        )
        self._ended_steps: dict[tuple[StepName, Outcome], Histogram] = {}
        self._ended = Counter(
            "refloat_deployments_ended", "Deployments that ended.", ("action", "outcome"), registry=own
        )
        self._swaps = Counter("refloat_swaps", "Services switched and drained.", registry=own)
        self._swap_failures = Counter(
            "refloat_swap_failures", "Services that failed after their switch had begun.", registry=own
        )
        self._requests = Counter(
            "refloat_swap_requests",
            "Requests of services around their switches: served, failed, cut off by the end of the drain.",
            ("outcome",),
            registry=own,
        )
        for outcome in ("served", "failed", "undrained"):
            self._requests.labels(outcome)

    # -- what happens

    def claimed(self, deployment: Deployment, at: datetime) -> None:
        freed = self._freed.pop(deployment.environment_id, deployment.created_at)
        self._claim.observe(max(0.0, (at - max(freed, deployment.created_at)).total_seconds()))

    def taken_over(self) -> None:
        self._takeovers.inc()

    def refused(self) -> None:
        self._refusals.inc()

    def step_ended(self, name: StepName, outcome: Outcome, seconds: float) -> None:
        ended = self._ended_steps.get((name, outcome))
        if ended is None:  # finding it by its labels costs more than the rest
            ended = self._ended_steps[name, outcome] = self._steps.labels(name, outcome)
        ended.observe(seconds)

    def swapped(self, swap: Swap) -> None:
        self._swaps.inc()
        failed = swap.failed or 0  # they are among those served
        self._requests.labels("served").inc((swap.served or 0) - failed)
        self._requests.labels("failed").inc(failed)
        self._requests.labels("undrained").inc(swap.undrained)

    def swap_failed(self) -> None:
        self._swap_failures.inc()

    def ended(self, deployment: Deployment, phase: Phase, at: datetime) -> None:
        assert phase in TERMINAL
        self._ended.labels(deployment.request.verb.lower(), phase).inc()
        self._freed[deployment.environment_id] = at
        if len(self._freed) > _MOST_REMEMBERED:
            self._freed.popitem(last=False)

    # -- what is read

    def text(self, queue: _Queue) -> bytes:
        """In the text format of version 0.0.4, with the queues as they are now."""
        self._waiting.set(queue.waiting)
        self._running.set(queue.running)
        self._oldest.set(queue.oldest_seconds)
        return generate_latest(self._registry)
