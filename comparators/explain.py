"""Where two normalised values differ. DeepDiff is asked about what the rules left different, and about nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from comparators.difference import ROOT, Change, Difference, Kind
from comparators.group import general
from comparators.rules import Node, Rules
from comparators.same import pairs, same

MOST: Final = 50
"""Changes that a difference holds."""

LARGEST: Final = 1_000
"""Values that DeepDiff is given at once. It takes up to a tenth of a millisecond for each, and the traffic waits."""

_KINDS: Final[dict[str, Kind]] = {
    "values_changed": "value",
    "type_changes": "type",
    "dictionary_item_removed": "missing",
    "iterable_item_removed": "missing",
    "dictionary_item_added": "extra",
    "iterable_item_added": "extra",
}


def explain(one: Any, other: Any, rules: Rules) -> Difference:
    """Of two values that are not the same."""
    if isinstance(one, list) and isinstance(other, list):
        return _of_lists(one, other, rules.root)
    return _bounded(list(_of_values(one, other, rules.root)))


def _of_lists(one: list[Any], other: list[Any], node: Node) -> Difference:
    """Documents that agree at both ends are set aside, so that only the stretch between them costs anything."""
    shorter = min(len(one), len(other))
    start = next((i for i in range(shorter) if not same(one[i], other[i], node)), shorter)
    left = shorter - start
    end = next((i for i in range(left) if not same(one[-1 - i], other[-1 - i], node)), left)
    mine, theirs = one[start : len(one) - end], other[start : len(other) - end]
    if _size([mine, theirs]) > LARGEST:
        return _one_by_one(mine, theirs, node, start)
    each = Node(tolerant=node.tolerant, below={"*": node})
    return _bounded([_further(change, start) for change in _of_values(mine, theirs, each)])


def _one_by_one(one: list[Any], other: list[Any], node: Node, start: int) -> Difference:
    """By position, until there is enough to tell; the documents after that are counted as one change each."""
    found: list[Change] = []
    unread = 0
    for index, (mine, theirs) in enumerate(zip(one, other, strict=False), start):
        if not same(mine, theirs, node):
            if len(found) < MOST:
                found += [_inside(change, index) for change in _of_values(mine, theirs, node)]
            else:
                unread += 1
    both = min(len(one), len(other))
    found += [Change(str(start + both + i), "missing", item, None) for i, item in enumerate(one[both:])]
    found += [Change(str(start + both + i), "extra", None, item) for i, item in enumerate(other[both:])]
    return _bounded(found, unread)


def _of_values(one: Any, other: Any, node: Node) -> Iterator[Change]:
    if _size([one, other]) > LARGEST:
        yield from _coarse(one, other, node)
        return
    from deepdiff import DeepDiff  # its import takes as long as a hundred comparisons, and most processes never need it

    settled = _settled(one, other, node)
    tree = DeepDiff(
        one,
        settled,
        view="tree",
        ignore_private_variables=False,
        threshold_to_diff_deeper=0,
        ignore_nan_inequality=True,
    )
    if not tree:  # to DeepDiff a date without a zone is one in UTC
        yield from _coarse(one, settled, node)
    for name, levels in tree.items():
        kind = _KINDS.get(name, "value")
        for level in levels:
            path = ".".join(map(str, level.path(output_format="list"))) or ROOT
            yield Change(path, kind, None if kind == "extra" else level.t1, None if kind == "missing" else level.t2)


def _coarse(one: Any, other: Any, node: Node) -> Iterator[Change]:
    """Which fields differ, for what DeepDiff is not asked or sees no difference in."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        yield Change(ROOT, "value", one, other)
        return
    for name in [*one, *(name for name in other if name not in one)]:
        if name not in other:
            yield Change(name, "missing", one[name], None)
        elif name not in one:
            yield Change(name, "extra", None, other[name])
        elif not same(one[name], other[name], node.at(name)):
            yield Change(name, "value", one[name], other[name])


def _settled(one: Any, other: Any, node: Node) -> Any:
    """The other value with everything that the rules call the same replaced by what the one has, and what has no order
    put in the order of the one: all that is still different is a difference."""
    if same(one, other, node):
        return one
    if isinstance(one, dict) and isinstance(other, dict):
        return {
            name: _settled(one[name], value, node.at(name)) if name in one else value for name, value in other.items()
        }
    if isinstance(one, list) and isinstance(other, list):
        if node.unordered:
            other = _aligned(one, other, node)
        return [
            _settled(one[index], item, node.entry(index)) if index < len(one) else item
            for index, item in enumerate(other)
        ]
    return other


def _aligned(one: list[Any], other: list[Any], node: Node) -> list[Any]:
    partners = pairs(one, other, node)
    strangers = [item for index, item in enumerate(other) if index not in set(partners.values())]
    result = []
    for index, item in enumerate(one):
        if index in partners:
            result.append(item)
        elif strangers:
            result.append(strangers.pop(0))
    return result + strangers


def _bounded(found: list[Change], unread: int = 0) -> Difference:
    """The first of every shape comes first, so that the bound does not hide a kind of difference behind another's copies."""
    shapes: set[tuple[str, Kind]] = set()
    firsts: list[Change] = []
    copies: list[Change] = []
    for change in sorted(found, key=_order):
        shape = (general(change.path), change.kind)
        (copies if shape in shapes else firsts).append(change)
        shapes.add(shape)
    kept = [*firsts, *copies][:MOST]
    return Difference(tuple(kept), len(found) - len(kept) + unread)


def _order(change: Change) -> list[tuple[int, str]]:
    """Paths in order, indices by number: DeepDiff's own order is that of its sets."""
    return [(int(step), "") if step.isdigit() else (-1, step) for step in change.path.split(".")]


def _inside(change: Change, index: int) -> Change:
    path = str(index) if change.path == ROOT else f"{index}.{change.path}"
    return Change(path, change.kind, change.primary, change.secondary)


def _further(change: Change, offset: int) -> Change:
    """With the index that its path starts with moved on."""
    head, dot, rest = change.path.partition(".")
    path = f"{int(head) + offset}{dot}{rest}" if head.isdigit() else change.path
    return Change(path, change.kind, change.primary, change.secondary)


def _size(value: Any) -> int:
    """How many values there are in it, counted no further than past LARGEST."""
    count, waiting = 0, [value]
    while waiting and count <= LARGEST:
        item = waiting.pop()
        count += 1
        if isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return count
