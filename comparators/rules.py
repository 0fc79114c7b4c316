"""What counts as the same, compiled into a tree that is walked along with the documents.

Rules only ever make different things the same, never the other way round: what is identical needs none of them.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from config.model import Compare

Tolerance = timedelta | float
Comparator = Callable[[Any, Any], bool]
"""Asked about two documents (or lists of them) that are not identical, before the rules are: True, they count as the same."""


@dataclass(frozen=True, slots=True)
class Node:
    """What holds at one place, and in `below` for the places under it, by field name or by index; `*` is any index.

    `tolerant`: there is a tolerance, here or below.
    """

    ignore: bool = False
    tolerance: Tolerance | None = None
    unordered: bool = False
    tolerant: bool = False
    below: Mapping[str, Node] = field(default_factory=lambda: MappingProxyType({}))

    def at(self, name: str) -> Node:
        return self.below.get(name, NOTHING)

    def entry(self, index: int) -> Node:
        return self.below.get(str(index)) or self.below.get("*", NOTHING)


NOTHING = Node()


@dataclass(frozen=True, slots=True)
class Rules:
    """`root` is about one document; in a list of documents it is about each of them."""

    root: Node = NOTHING
    missing_equals_null: bool = True
    comparator: Comparator | None = None

    @classmethod
    def of(cls, compare: Compare) -> Rules:
        """Raises ValueError for a comparator that is not there."""
        root = _Growing()
        for path in compare.ignore:
            root.grow(path).ignore = True
        for path, tolerance in compare.tolerance.items():
            root.grow(path).tolerance = tolerance
        for path in compare.unordered:
            root.grow(path).unordered = True
        return cls(root.node(), compare.missing_equals_null, _resolve(compare.comparator))


@dataclass(slots=True)
class _Growing:
    ignore: bool = False
    tolerance: Tolerance | None = None
    unordered: bool = False
    below: dict[str, _Growing] = field(default_factory=dict)

    def grow(self, path: str) -> _Growing:
        here = self
        for step in path.split("."):
            here = here.below.setdefault(step, _Growing())
        return here

    def node(self, any_index: _Growing | None = None) -> Node:
        """What is said of any index holds for an index that more is said of, too."""
        here = any_index or _Growing()
        names = self.below.keys() | here.below.keys()
        star = self.below.get("*")
        below = {}
        for name in names:
            own, general = self.below.get(name, _Growing()), here.below.get(name)
            if star and name != "*" and name.isdigit():
                general = star
            below[name] = own.node(general)
        tolerance = here.tolerance if self.tolerance is None else self.tolerance
        return Node(
            self.ignore or here.ignore,
            tolerance,
            self.unordered or here.unordered,
            tolerance is not None or any(node.tolerant for node in below.values()),
            MappingProxyType(below),
        )


def _resolve(reference: str | None) -> Comparator | None:
    if reference is None:
        return None
    try:
        found: Comparator = pkgutil.resolve_name(reference)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"there is no comparator {reference}; expected module:name") from error
    return found
