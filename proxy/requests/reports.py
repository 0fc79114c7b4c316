"""Mismatches by group, bounded whatever their rate: the groups seen last stay, and what fell out is counted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from comparators.group import Group

GROUPS: Final = 1_000


@dataclass(slots=True)
class Seen:
    """How often a group was seen, first and last (seconds since 1970)."""

    group: Group
    first: float
    last: float
    count: int = 0


class Reports:
    """This replica's mismatch groups."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, Seen] = OrderedDict()
        self.left_out = 0

    def add(self, group: Group, *, at: float) -> None:
        seen = self._seen.setdefault(group.id, Seen(group, first=at, last=at))
        seen.count += 1
        seen.last = at
        self._seen.move_to_end(group.id)
        if len(self._seen) > GROUPS:
            _, oldest = self._seen.popitem(last=False)
            self.left_out += oldest.count

    def __iter__(self) -> Iterator[Seen]:
        return iter(self._seen.values())
