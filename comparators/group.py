"""Mismatches that are the same mismatch: one entity, one operation, the same kinds of change at the same places."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from comparators.difference import Difference, Kind

_VARIABLE: Final = re.compile(r"\d+|[0-9a-fA-F]{24}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True)
class Group:
    """`shapes` are pairs of general path and kind, sorted."""

    entity: str
    operation: str
    shapes: tuple[tuple[str, Kind], ...]

    @property
    def id(self) -> str:
        """16 hex digits, the same in every process."""
        parts = [self.entity, self.operation, *(part for shape in self.shapes for part in shape)]
        return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


def group(entity: str, operation: str, difference: Difference) -> Group:
    shapes = {(general(change.path), change.kind) for change in difference.changes}
    return Group(entity, operation, tuple(sorted(shapes)))


def general(path: str) -> str:
    """With `*` for indices, and for names that are ids: they tell one document from the next, not what is wrong."""
    return ".".join("*" if _VARIABLE.fullmatch(step) else step for step in path.split("."))
