"""What was compared lately: a window over a counter that only grows."""

from __future__ import annotations

import pytest

from proxy.flags.tally import WINDOW, Tally
from proxy.metrics import Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def count(metrics: Metrics, result: str, times: int, *, entity: str = "video", do: str = "read") -> None:
    metrics.comparisons.labels(entity, do, result).inc(times)


def test_it_counts_what_came_to_a_result(metrics: Metrics) -> None:
    tally = Tally(metrics.comparisons)
    assert tally.lately(0.0) == {}
    for result, times in (("equal", 5), ("lag", 2), ("mismatch", 3), ("shed", 7), ("failed", 1), ("skipped", 9)):
        count(metrics, result, times)
    count(metrics, "equal", 4, do="list")
    count(metrics, "mismatch", 1, entity="profile")
    assert tally.lately(1.0) == {"video": (14, 3), "profile": (1, 1)}


def test_what_is_older_than_the_window_is_forgotten(metrics: Metrics) -> None:
    tally = Tally(metrics.comparisons)
    tally.lately(0.0)
    count(metrics, "mismatch", 10)
    at = 0.0
    while at < WINDOW / 2:
        at += 0.5
        tally.lately(at)
    count(metrics, "equal", 30)
    assert tally.lately(at) == {"video": (40, 10)}
    while at < WINDOW + 30:
        at += 0.5
        found = tally.lately(at)
    assert found == {"video": (30, 0)}
    while at < 2 * WINDOW:
        at += 0.5
        found = tally.lately(at)
    assert found == {}
