"""What a run of traffic amounts to: requests, errors and latencies by entity, in memory that does not grow."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["read", "write"]

_STEP = math.log(1.02)  # a latency is kept to within one percent
_DESCRIBED = 20


@dataclass(frozen=True, slots=True)
class Figures:
    """Requests of one kind; latencies in milliseconds, of every request that was answered, 0 when there is none."""

    requests: int
    errors: int
    p50: float
    p99: float
    longest: float


@dataclass(frozen=True, slots=True)
class Trouble:
    """One answer that a correct client would not expect, or what it showed: never more than the first few are kept."""

    entity: str
    route: str
    what: str


@dataclass(frozen=True, slots=True)
class TrafficResult:
    """Everything so far. `missed` counts operations that were due while all the workers' earlier ones still ran."""

    operations: int
    missed: int
    figures: Mapping[tuple[str, Kind], Figures]
    troubles: tuple[Trouble, ...]

    @property
    def requests(self) -> int:
        return sum(figures.requests for figures in self.figures.values())

    @property
    def errors(self) -> int:
        return sum(figures.errors for figures in self.figures.values())

    def of(self, entity: str) -> tuple[int, int]:
        """Requests and errors of one entity."""
        mine = [figures for (name, _), figures in self.figures.items() if name == entity]
        return sum(figures.requests for figures in mine), sum(figures.errors for figures in mine)


class Tally:
    """Counts while traffic runs; `result` may be asked for at any time."""

    def __init__(self) -> None:
        self.operations = 0
        self.missed = 0
        self._requests: Counter[tuple[str, Kind]] = Counter()
        self._errors: Counter[tuple[str, Kind]] = Counter()
        self._latencies: dict[tuple[str, Kind], Counter[int]] = {}
        self._troubles: list[Trouble] = []

    def request(self, entity: str, kind: Kind) -> None:
        self._requests[entity, kind] += 1

    def answered(self, entity: str, kind: Kind, seconds: float) -> None:
        bucket = round(math.log(max(seconds, 1e-6)) / _STEP)
        self._latencies.setdefault((entity, kind), Counter())[bucket] += 1

    def error(self, entity: str, kind: Kind, route: str, what: str) -> None:
        self._errors[entity, kind] += 1
        if len(self._troubles) < _DESCRIBED:
            self._troubles.append(Trouble(entity, route, what))

    def result(self) -> TrafficResult:
        figures = {key: self._figures(key) for key in sorted(self._requests)}
        return TrafficResult(self.operations, self.missed, figures, tuple(self._troubles))

    def _figures(self, key: tuple[str, Kind]) -> Figures:
        latencies = self._latencies.get(key, Counter())
        return Figures(
            self._requests[key],
            self._errors[key],
            _percentile(latencies, 0.50),
            _percentile(latencies, 0.99),
            _percentile(latencies, 1.0),
        )


def _percentile(latencies: Counter[int], share: float) -> float:
    wanted, seen = share * latencies.total(), 0
    for bucket in sorted(latencies):
        seen += latencies[bucket]
        if seen >= wanted:
            return math.exp(bucket * _STEP) * 1000
    return 0.0
