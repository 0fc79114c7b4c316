"""What a backfill has done: counted, kept with its checkpoint, and told at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from adapters.side import Key
from proxy.replication.quarantine import reason_of
from proxy.replication.settle import Settled

NAMED: Final = 200
"""Refused keys that are kept by name; the quarantine has them all."""


@dataclass(slots=True)
class Copied:
    """Keys by what became of them. `reasons`: why the first of the refused ones were. `seconds` of work, over all the
    processes that it took."""

    keys: int = 0
    written: int = 0
    same: int = 0
    superseded: int = 0
    refused: int = 0
    seconds: float = 0.0
    reasons: dict[Key, str] = field(default_factory=dict)

    @classmethod
    def of(cls, detail: Mapping[str, Any]) -> Copied:
        """What a checkpoint tells; of none, nothing."""
        counts = {name: int(detail.get(name, 0)) for name in _COUNTS}
        return cls(**counts, seconds=float(detail.get("seconds", 0.0)), reasons=dict(detail.get("reasons", {})))

    @property
    def settled(self) -> int:
        return self.written + self.same + self.superseded

    @property
    def counts(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in _COUNTS if name != "keys"}

    @property
    def detail(self) -> dict[str, Any]:
        """What is kept of it, as JSON."""
        return {"keys": self.keys, **self.counts, "seconds": round(self.seconds, 3), "reasons": dict(self.reasons)}

    @property
    def summary(self) -> dict[str, Any]:
        """What is told of it."""
        rate = round(self.keys / self.seconds, 1) if self.seconds else 0.0
        told = {"documents": self.keys, **self.counts, "seconds": round(self.seconds, 3), "documents_per_second": rate}
        return {**told, "reasons": dict(self.reasons)}

    def add(self, keys: int, settled: Settled) -> None:
        self.keys += keys
        self.written += len(settled.written)
        self.same += len(settled.same)
        self.superseded += len(settled.superseded)
        self.refused += len(settled.refused)
        for key, cause in settled.refused.items():
            if len(self.reasons) < NAMED:
                self.reasons[key] = reason_of(cause)

    def healed(self, key: Key) -> None:
        """One that had been refused has settled after all."""
        if self.reasons.pop(key, None) is not None:
            self.refused -= 1
            self.written += 1


_COUNTS: Final = ("keys", "written", "same", "superseded", "refused")
