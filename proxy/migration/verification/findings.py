"""What a verification finds: keys in which the sides are not the same, and where. Never a value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from adapters.side import Key

Kind = Literal["missing", "extra", "different", "refused", "unsettled"]
"""The secondary lacks it; only the secondary has it; both have it, and not the same; one side cannot take it or it cannot
be read, for a reason; it never held still, so that nobody can say."""

KEPT: Final = 100
"""Findings of each kind that are kept, so that memory and checkpoints do not grow with what is wrong; the rest is counted."""


class Finding(BaseModel):
    """`paths`: where the documents differ, each with how: `value`, `type`, `missing` (only the primary has it) or `extra`.
    `reason`: why it is in quarantine, or cannot be read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: Key
    kind: Kind
    paths: tuple[str, ...] = ()
    reason: str | None = None


class Findings(BaseModel):
    """Bounded, and counted beyond: what travels from one checkpoint to the next."""

    model_config = ConfigDict(extra="forbid")

    kept: list[Finding] = Field(default_factory=list)
    uncounted: dict[Kind, int] = Field(default_factory=dict)
    """How many were found beyond those that are kept."""

    def add(self, found: Iterable[Finding]) -> None:
        """A key that is kept already is replaced: the later look counts."""
        for finding in found:
            self.drop([finding.key])
            if sum(one.kind == finding.kind for one in self.kept) < KEPT:
                self.kept.append(finding)
            else:
                self.uncounted[finding.kind] = self.uncounted.get(finding.kind, 0) + 1

    def drop(self, keys: Iterable[Key]) -> None:
        gone = set(keys)
        if any(finding.key in gone for finding in self.kept):
            self.kept = [finding for finding in self.kept if finding.key not in gone]

    def counts(self) -> dict[str, int]:
        """All that were found, by kind; kinds without any are left out."""
        counts: dict[str, int] = {str(kind): count for kind, count in self.uncounted.items()}
        for finding in self.kept:
            counts[finding.kind] = counts.get(finding.kind, 0) + 1
        return counts
