"""The profile of a collection: for each dotted path, what its values are like, without the values.

`*` in a path stands for the elements of an array. What is kept does not grow with the documents: beyond a number of paths,
keys of one object, and different constants, things are only counted. Of long arrays some elements are looked at, evenly
spread. Of values only the least and the greatest number, date and length are kept, and constants such as `PENDING`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from bson import Decimal128

from proxy.migration.inspection.bson_types import type_name

PATHS: Final = 1_000
KEYS: Final = 100
"""Keys of one embedded object that are told apart; where there are more, they are data, and not shown."""

DEPTH: Final = 12
ELEMENTS: Final = 200
CONSTANTS: Final = 16
_CONSTANT: Final = re.compile(r"[A-Z][A-Z0-9_]{1,39}")


@dataclass(slots=True)
class Span:
    """The least and the greatest of what was put in; both None while nothing was."""

    low: Any = None
    high: Any = None

    def add(self, value: Any) -> None:
        if self.low is None or value < self.low:
            self.low = value
        if self.high is None or value > self.high:
            self.high = value


@dataclass(slots=True)
class Node:
    """What was seen at one path. `empty`: strings, binaries, arrays and objects with nothing in them. `constants` counts
    the different values where all are constants, few and short; None where they are not. `whole`: no number had a fraction
    or was none (NaN, infinite). `scattered`: its objects have more different keys than are told apart."""

    path: str
    depth: int = 0
    seen: int = 0
    types: Counter[str] = field(default_factory=Counter)
    empty: int = 0
    lengths: Span = field(default_factory=Span)
    numbers: Span = field(default_factory=Span)
    dates: Span = field(default_factory=Span)
    elements: Span = field(default_factory=Span)
    finite: bool = True
    whole: bool = True
    constants: Counter[str] | None = field(default_factory=Counter)
    fields: dict[str, Node] = field(default_factory=dict)
    each: Node | None = None
    scattered: bool = False

    @property
    def nulls(self) -> int:
        return self.types["null"]

    def kinds(self) -> set[str]:
        """The types of its values, null apart."""
        return {name for name, count in self.types.items() if count} - {"null"}

    def walk(self) -> Iterator[tuple[Node, int]]:
        """The nodes below it, each with the number of values that could have held it."""
        for node in self.fields.values():
            yield node, self.types["object"]
            yield from node.walk()
        if self.each is not None:
            yield self.each, self.each.seen
            yield from self.each.walk()


class Profile:
    """Add documents; `root` has what was seen of them. `left_out`: values at paths for which there was no room."""

    def __init__(self) -> None:
        self.root = Node("")
        self.left_out = 0
        self._paths = 0

    def add(self, document: Mapping[str, Any]) -> None:
        self._note(self.root, document)

    def paths(self) -> Iterator[tuple[Node, int]]:
        """Every path, parents first, with the number of places where it could have been."""
        return self.root.walk()

    def at(self, path: str) -> Node | None:
        node: Node | None = self.root
        for step in path.split("."):
            if node is None:
                return None
            node = node.each if step == "*" else node.fields.get(step)
        return node

    def _note(self, node: Node, value: Any) -> None:
        name = type_name(value)
        node.seen += 1
        node.types[name] += 1
        match name:
            case "string":
                _text(node, value)
            case "int" | "long" | "double" | "decimal":
                _number(node, value)
            case "date":
                node.dates.add(value)
            case "object":
                node.empty += not value
                self._object(node, value)
            case "array":
                node.empty += not value
                node.elements.add(len(value))
                self._array(node, value)
            case _ if isinstance(value, bytes):
                node.empty += not value
                node.lengths.add(len(value))

    def _object(self, node: Node, value: Mapping[str, Any]) -> None:
        if node.scattered or node.depth >= DEPTH:
            self.left_out += len(value)
            return
        for key, item in value.items():
            child = node.fields.get(key)
            if child is None:
                child = self._child(node, key)
                if child is None:
                    self.left_out += 1
                    continue
                node.fields[key] = child
            self._note(child, item)
        if len(node.fields) > KEYS and node is not self.root:
            node.scattered = True
            self._paths -= sum(1 for _ in node.walk())
            node.fields = {}

    def _array(self, node: Node, value: list[Any]) -> None:
        if value and node.each is None:
            node.each = self._child(node, "*")
        if node.each is None:
            self.left_out += len(value)
            return
        for item in value[:: max(1, len(value) // ELEMENTS)]:
            self._note(node.each, item)

    def _child(self, node: Node, step: str) -> Node | None:
        if self._paths >= PATHS or node.depth >= DEPTH:
            return None
        self._paths += 1
        return Node(f"{node.path}.{step}" if node.path else step, node.depth + 1)


def _text(node: Node, value: str) -> None:
    node.empty += not value
    node.lengths.add(len(value))
    if node.constants is not None:
        if value not in node.constants and (len(node.constants) >= CONSTANTS or not _CONSTANT.fullmatch(value)):
            node.constants = None
        else:
            node.constants[value] += 1


def _number(node: Node, value: Any) -> None:
    number = value.to_decimal() if isinstance(value, Decimal128) else value
    if isinstance(number, Decimal | float) and not _finite(number):
        node.finite = node.whole = False
        return
    node.whole = node.whole and number == int(number)
    node.numbers.add(number)


def _finite(number: Decimal | float) -> bool:
    return number.is_finite() if isinstance(number, Decimal) else number - number == 0


def text_of(value: Any) -> str | int | float | None:
    """A bound of a span, as JSON takes it."""
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    if isinstance(value, Decimal):
        return str(value)
    return value if value is None or isinstance(value, float) else int(value)
