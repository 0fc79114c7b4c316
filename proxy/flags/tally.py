"""What this replica has compared lately, by entity: what the guard of a flip goes by."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from prometheus_client import Counter

WINDOW: Final = 600.0
"""Seconds that count as lately."""
_EVERY: Final = 10.0
_JUDGED: Final = frozenset({"equal", "lag", "mismatch"})

Counts = Mapping[str, tuple[int, int]]
"""By entity: comparisons that came to a result, and those of them that were mismatches."""


class Tally:
    """A window over the counter of comparisons, which only ever grows: what it stands at less what it stood at then."""

    def __init__(self, comparisons: Counter) -> None:
        self._comparisons = comparisons
        self._stood: deque[tuple[float, Counts]] = deque()

    def lately(self, at: float) -> dict[str, tuple[int, int]]:
        """The counts of the last ten minutes before `at` (seconds, by a clock that the caller keeps to), give or take ten
        seconds; entities that nothing was compared of are left out."""
        stands = self._read()
        if not self._stood or at - self._stood[-1][0] >= _EVERY:
            self._stood.append((at, stands))
        while len(self._stood) > 1 and at - self._stood[1][0] >= WINDOW:
            self._stood.popleft()
        stood = self._stood[0][1]
        found: dict[str, tuple[int, int]] = {}
        for entity, (compared, differed) in stands.items():
            compared_then, differed_then = stood.get(entity, (0, 0))
            if compared > compared_then:
                found[entity] = (compared - compared_then, differed - differed_then)
        return found

    def _read(self) -> dict[str, tuple[int, int]]:
        compared: dict[str, int] = {}
        differed: dict[str, int] = {}
        for family in self._comparisons.collect():
            for sample in family.samples:
                result = sample.labels.get("result")
                if result in _JUDGED and sample.name.endswith("_total"):
                    entity, count = sample.labels["entity"], int(sample.value)
                    compared[entity] = compared.get(entity, 0) + count
                    differed[entity] = differed.get(entity, 0) + (count if result == "mismatch" else 0)
        return {entity: (count, differed[entity]) for entity, count in compared.items()}
