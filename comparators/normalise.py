"""Documents as they are compared: without what is ignored, with lists in order where order does not count."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from comparators.rules import Node, Rules


def normalise(value: Any, rules: Rules) -> Any:
    """A copy of a document, or of a list of documents. Nothing of the original is changed.

    Ignored fields are left out, ignored entries of a list are null; so are null fields left out, at every depth, where
    missing equals null.
    """
    if isinstance(value, list | tuple):
        return [normalise_at(item, rules.root, rules.missing_equals_null) for item in value]
    return normalise_at(value, rules.root, rules.missing_equals_null)


def normalise_at(value: Any, node: Node, drop_null: bool) -> Any:
    """The same for a value whose place is `node`."""
    if isinstance(value, Mapping):
        result = {}
        for name, item in value.items():
            below = node.at(name)
            if not (below.ignore or (drop_null and item is None)):
                result[name] = (
                    normalise_at(item, below, drop_null) if isinstance(item, Mapping | list | tuple) else item
                )
        return result
    if isinstance(value, list | tuple):
        entries = [
            None if (below := node.entry(index)).ignore else normalise_at(item, below, drop_null)
            for index, item in enumerate(value)
        ]
        return sorted(entries, key=rank) if node.unordered else entries
    return value


def rank(value: Any) -> str:
    """A text that is the same for what is identical, so that sorting by it brings equals together."""
    match value:
        case None | bool():
            return f"c{value}"
        case int() | float() | Decimal():
            return _number_rank(value)
        case str():
            return f"s{value!r}"
        case datetime():
            return f"d{value.astimezone(UTC).isoformat() if value.tzinfo else value.isoformat()}"
        case Mapping():
            return "{" + ",".join(f"{name!r}:{rank(value[name])}" for name in sorted(value)) + "}"
        case list() | tuple():
            return "[" + ",".join(map(rank, value)) + "]"
    return f"o{value!r}"


def _number_rank(value: int | float | Decimal) -> str:
    """Equal numbers have equal hashes whatever their types; different ones, at times, too (-1 and -2)."""
    if value != value:
        return "nNaN"
    try:
        return f"n{float(value) + 0.0!r}:{hash(value)}"
    except OverflowError:
        return f"n{hash(value)}"
