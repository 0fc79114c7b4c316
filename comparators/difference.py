"""What differs between two reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from comparators.same import identical

Kind = Literal["value", "type", "missing", "extra"]
"""Another value; a value of another type; only in the primary; only in the secondary."""

ROOT = "$"


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """`path` is dotted, `$` for the whole; its indices are those of the normalised lists, of the primary's where it has
    the entry. The value of the side that has none is None. Equal changes have identical values: NaN equals itself."""

    path: str
    kind: Kind
    primary: Any
    secondary: Any

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Change)
            and (self.path, self.kind) == (other.path, other.kind)
            and identical(self.primary, other.primary)
            and identical(self.secondary, other.secondary)
        )

    def __hash__(self) -> int:
        return hash((self.path, self.kind))


@dataclass(frozen=True, slots=True)
class Difference:
    """At most `explain.MOST` changes, one of each shape first; `left_out` counts the rest that were found."""

    changes: tuple[Change, ...]
    left_out: int = 0
