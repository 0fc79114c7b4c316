"""What a campaign found: counted while it runs; a row of the table and an entry of the JSON at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.faults.checker import Verdict
from tests.faults.record import STALE, Record, kinds


@dataclass(frozen=True, slots=True)
class Caught:
    """The proof that the checker can fail: the rule that was disobeyed, and what it said after so many runs; None: nothing."""

    rule: str
    says: str
    runs: int
    verdict: str | None


@dataclass(slots=True)
class Result:
    """The counts of one campaign. `failures` says, in words, each thing that must not be, `wrong`
    those of them that are in the stores; `figures` is what was measured."""

    campaign: str
    seed: int
    scenarios: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    unknown: int = 0
    reads: int = 0
    lost: int = 0
    foreign: int = 0
    unequal: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    contradictions: Counter[str] = field(default_factory=Counter)
    waited: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    proofs: list[Caught] = field(default_factory=list)

    def take(self, record: Record, verdict: Verdict, what: str) -> None:
        """Add one stretch of load and its verdict."""
        self.acknowledged += record.acknowledged
        self.unknown += record.unknown
        self.reads += record.reads
        self.errors += record.errors_by_kind()
        self.contradictions += kinds(record.contradictions)
        self.seconds += [each.seconds for each in record.timed if each.write]
        self.lost += len(verdict.lost)
        self.foreign += len(verdict.foreign)
        self.unequal += len(verdict.unequal)
        self.waited.append(verdict.waited)
        if not verdict.clean:
            self.found(f"{what}: {verdict}")
        # A write that a document refuses which was acknowledged to be there: it was not there.
        gone = [trouble for trouble in record.contradictions if trouble.kind != STALE]
        self.must(not gone, f"{what}: {', '.join(sorted({f'{one.entity} {one.kind}' for one in gone}))}")

    def found(self, wrong: str) -> None:
        """The stores hold what they must not: a failure, and what a disobeyed rule has to lead to."""
        self.wrong.append(wrong)
        self.failures.append(wrong)

    def must(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.failures.append(otherwise)

    def as_json(self) -> dict[str, Any]:
        return {
            "campaign": self.campaign,
            "seed": self.seed,
            "scenarios": dict(self.scenarios),
            "acknowledged": self.acknowledged,
            "unknown": self.unknown,
            "reads": self.reads,
            "lost": self.lost,
            "foreign": self.foreign,
            "unequal": self.unequal,
            "errors": dict(self.errors.most_common()),
            "contradictions": dict(self.contradictions.most_common()),
            "quiet_after_s": {"p50": quantile(self.waited, 0.5), "most": max(self.waited, default=0.0)},
            "writes_ms": {"p50": milliseconds(self.seconds, 0.5), "p99": milliseconds(self.seconds, 0.99)},
            "figures": self.figures,
            "failures": self.failures,
            "checker_can_fail": [asdict(proof) for proof in self.proofs],
        }


Say = Callable[[str], None]


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed; 0 of none."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 4) if ordered else 0.0


def milliseconds(seconds: Sequence[float], share: float) -> float:
    return round(quantile(seconds, share) * 1000, 1)
