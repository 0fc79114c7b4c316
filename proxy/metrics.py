"""Everything that the proxy counts. Labels are bounded: entities, operations, sides and outcomes, never keys or paths."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


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
            buckets=_SECONDS,
            registry=registry,
        )
        self.backlog = Gauge("strangler_backlog", "Keys waiting to be settled", ["entity"], registry=registry)
        self.shed = Counter("strangler_shed", "Work refused because its queue was full", ["queue"], registry=registry)
        self.fallbacks = Counter(
            "strangler_fallbacks",
            "Reads meant for the secondary that the primary served",
            ["entity"],
            registry=registry,
        )
        self.held = Histogram(
            "strangler_held_seconds", "How long a flip held a write", ["entity"], buckets=_SECONDS, registry=registry
        )
        self.stream_restarts = Counter("strangler_stream_restarts", "Change stream restarts", registry=registry)
