"""When two values are the same.

`identical` is `==` with three corrections: true is not 1 (JSON tells them apart, Python does not), NaN is NaN (a value that
was copied is not a difference), and a tuple is a list. What `==` makes equal otherwise stays so: 1 and 1.0 (JSON has one
type of number), -0.0 and 0.0 (no reader of JSON is told which it was), one moment in two time zones. The order of an object's
keys never matters, the order of a list does.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from comparators.normalise import rank
from comparators.rules import NOTHING, Node, Tolerance

PAIRED: Final = 200
"""Items of a list without order that are paired off under a tolerance."""


def identical(one: Any, other: Any) -> bool:
    if one is other:
        return True
    kind = type(one)
    if kind is dict:
        if type(other) is not dict or len(one) != len(other):
            return False
        return all(name in other and identical(value, other[name]) for name, value in one.items())
    if kind is list or kind is tuple:
        if type(other) not in (list, tuple) or len(one) != len(other):
            return False
        return all(map(identical, one, other))
    if kind is bool or type(other) is bool:
        return False  # the same bool is the same object
    return bool(one == other or (one != one and other != other))


def same(one: Any, other: Any, node: Node) -> bool:
    """Whether two normalised values are the same under the rules of their place."""
    if node is NOTHING:
        return identical(one, other)
    if node.tolerance is not None and within(one, other, node.tolerance):
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            same(value, other[name], node.at(name)) for name, value in one.items()
        )
    if isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            return False
        if all(same(item, other[index], node.entry(index)) for index, item in enumerate(one)):
            return True
        return node.unordered and node.tolerant and len(pairs(one, other, node)) == len(one)
    return identical(one, other)


def within(one: Any, other: Any, tolerance: Tolerance) -> bool:
    """The bound itself is within. Numbers are taken as they are written, so that 1.1 and 1.0 are 0.1 apart."""
    if isinstance(tolerance, timedelta):
        first, second = _moment(one), _moment(other)
        return first is not None and second is not None and abs(first - second) <= tolerance
    if not (_is_number(one) and _is_number(other)):
        return False
    first_number, second_number = _decimal(one), _decimal(other)
    if not (first_number.is_finite() and second_number.is_finite()):
        return False
    return abs(first_number - second_number) <= _decimal(tolerance)


def pairs(one: Sequence[Any], other: Sequence[Any], node: Node) -> dict[int, int]:
    """The most pairs of same items that two lists without order have: indices of one to indices of the other.

    A tolerance makes sameness intransitive, so the first partner that fits may be the wrong one: partners are given up
    again where that helps another (augmenting paths). That takes the square of the length, so it is done up to PAIRED
    items; in longer lists tolerances do not count.
    """
    if not node.tolerant or max(len(one), len(other)) > PAIRED:
        return _identical_pairs(one, other)
    inner = node.entry(-1)
    partners = [[j for j, item in enumerate(other) if same(mine, item, inner)] for mine in one]
    taken: dict[int, int] = {}

    def place(mine: int, tried: set[int]) -> bool:
        for theirs in partners[mine]:
            if theirs not in tried:
                tried.add(theirs)
                if theirs not in taken or place(taken[theirs], tried):
                    taken[theirs] = mine
                    return True
        return False

    for mine in range(len(one)):
        place(mine, set())
    return {mine: theirs for theirs, mine in taken.items()}


def _identical_pairs(one: Sequence[Any], other: Sequence[Any]) -> dict[int, int]:
    waiting: dict[str, list[int]] = {}
    for index, item in enumerate(other):
        waiting.setdefault(rank(item), []).append(index)
    return {index: places.pop(0) for index, item in enumerate(one) if (places := waiting.get(rank(item)))}


def _moment(value: Any) -> datetime | None:
    """A date as it is, as ISO 8601 text or as Extended JSON, which is how Json fields hold one; only with a time zone."""
    if isinstance(value, dict) and value.keys() == {"$date"}:
        value = value["$date"]
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    return value if isinstance(value, datetime) and value.tzinfo is not None else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _decimal(value: Any) -> Decimal:
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
