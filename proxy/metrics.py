"""Everything that the proxy counts. Labels are bounded: entities, operations, sides and outcomes, never keys or paths."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """One registry, made by the composition root; whoever counts is handed it."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.requests = Counter(
            "strangler_requests", "Requests of an entity", ["entity", "do", "side", "status"], registry=registry
        )
        self.forwarded = Counter("strangler_forwarded", "Requests that no entity claims", registry=registry)
        self.comparisons = Counter(
            "strangler_comparisons",
            "Comparisons by result: equal, lag, mismatch, shed, failed, skipped",
            ["entity", "do", "result"],
            registry=registry,
        )
        self.settled = Counter(
            "strangler_settled",
            "Keys settled by outcome: written, superseded",
            ["entity", "outcome"],
            registry=registry,
        )
        self.settle_failures = Counter(
            "strangler_settle_failures",
            "Settles that will be tried again, by cause",
            ["entity", "cause"],
            registry=registry,
        )
        self.settle_lag = Histogram(
            "strangler_settle_lag_seconds",
            "From a write's end to its state on the secondary",
            ["entity"],
            buckets=SECONDS,
            registry=registry,
        )
        self.backlog = Gauge("strangler_backlog", "Keys waiting to be settled", ["entity"], registry=registry)
        self.outbox_marks = Gauge(
            "strangler_outbox_marks",
            "Marks in a store's outbox, said by the replica that sweeps it",
            ["side", "entity"],
            registry=registry,
        )
        self.outbox_oldest = Gauge(
            "strangler_outbox_oldest_seconds",
            "Since the oldest mark in a store's outbox, said by the replica that sweeps it",
            ["side", "entity"],
            registry=registry,
        )
        self.quarantine = Gauge(
            "strangler_quarantine",
            "Keys that the other side cannot take, said by the replica that sweeps the store they lie in",
            ["side", "entity"],
            registry=registry,
        )
        self.sweep_marks = Counter("strangler_sweep_marks", "Marks that were swept", ["side"], registry=registry)
        self.sweep_failures = Counter(
            "strangler_sweep_failures", "Looks at a store that failed", ["side"], registry=registry
        )
        self.shed = Counter("strangler_shed", "Work refused because its queue was full", ["queue"], registry=registry)
        self.fallbacks = Counter(
            "strangler_fallbacks",
            "Reads meant for the secondary that the primary served",
            ["entity"],
            registry=registry,
        )
        self.held = Histogram(
            "strangler_held_seconds", "How long a flip held a write", ["entity"], buckets=SECONDS, registry=registry
        )
        self.refused_writes = Counter(
            "strangler_refused_writes",
            "Writes refused with 503, by reason: lease_lost, held",
            ["entity", "reason"],
            registry=registry,
        )
        self.stream_restarts = Counter("strangler_stream_restarts", "Change stream restarts", registry=registry)
        self.following = Gauge(
            "strangler_following", "1 in the replica that follows the change stream", registry=registry
        )
        self.legacy_changed = Counter(
            "strangler_legacy_changes",
            "Changes of legacy documents by others, where prisma is the primary: overwritten",
            ["entity"],
            registry=registry,
        )
        self.repaired = Counter(
            "strangler_repaired",
            "Keys settled again because changes may have been missed",
            ["entity"],
            registry=registry,
        )
        self.breaker = Gauge(
            "strangler_breaker",
            "Whether a side may be asked: 0 closed, 1 half-open, 2 open",
            ["side"],
            registry=registry,
        )
