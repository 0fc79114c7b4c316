"""Whether two reads agree. `==` decides; only when they do not, DeepDiff says where, which takes a thousand times as long."""

from __future__ import annotations

from typing import Any, Final

from comparators.difference import Change, Difference, Kind
from comparators.explain import explain
from comparators.normalise import normalise, normalise_at
from comparators.rules import Rules
from comparators.same import identical, same

__all__ = ["Change", "Difference", "Kind", "alike", "compare"]

_ABSENT: Final = object()


def compare(primary: Any, secondary: Any, rules: Rules) -> Difference | None:
    """None: they count as the same. Both are a document or a list (or tuple) of documents; neither is changed."""
    if alike(primary, secondary, rules):
        return None
    return explain(normalise(primary, rules), normalise(secondary, rules), rules)


def alike(primary: Any, secondary: Any, rules: Rules) -> bool:
    """Whether they count as the same, for whoever does not need to know why not."""
    if identical(primary, secondary):
        return True
    if rules.comparator is not None and rules.comparator(primary, secondary):
        return True
    return agree(primary, secondary, rules)


def agree(one: Any, other: Any, rules: Rules) -> bool:
    """Whether the two are the same once they are normalised. Only the fields that are not identical are."""
    if isinstance(one, dict) and isinstance(other, dict):
        return _documents_agree(one, other, rules)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(
            _documents_agree(mine, theirs, rules)
            if isinstance(mine, dict) and isinstance(theirs, dict)
            else same(normalise(mine, rules), normalise(theirs, rules), rules.root)
            for mine, theirs in zip(one, other, strict=True)
        )
    return identical(one, other)


def _documents_agree(one: dict[str, Any], other: dict[str, Any], rules: Rules) -> bool:
    drop_null = rules.missing_equals_null
    for name in one if one.keys() == other.keys() else one.keys() | other.keys():
        mine, theirs = one.get(name, _ABSENT), other.get(name, _ABSENT)
        if identical(mine, theirs):
            continue
        node = rules.root.at(name)
        if node.ignore:
            continue
        if drop_null:
            mine, theirs = (_ABSENT if value is None else value for value in (mine, theirs))
            if mine is theirs:
                continue
        if mine is _ABSENT or theirs is _ABSENT:
            return False
        if not same(normalise_at(mine, node, drop_null), normalise_at(theirs, node, drop_null), node):
            return False
    return True
