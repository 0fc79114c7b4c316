"""Dotted paths into documents: `profile.bio`, and by index into arrays, `location.coordinates.0`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from itertools import pairwise
from typing import Any

from adapters.documents.values import Refused, wrong

Path = tuple[str, ...]


class Absent(Enum):
    """What `find` gives where nothing is: null is a value."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT


def parse_path(dotted: str) -> Path:
    """Raises ValueError for what is no path of a mapped field."""
    steps = tuple(dotted.split("."))
    if not all(steps) or "\0" in dotted or any(step.startswith("$") for step in steps) or is_index(steps[0]):
        raise ValueError(f"{dotted!r} is no path: expected names separated by dots, none starting with $")
    return steps


def is_index(step: str) -> bool:
    return step.isascii() and step.isdigit()


def find(document: Any, path: Path) -> Any:
    """The value at the path; ABSENT where it, or what should hold it, is missing or null. Raises Refused where a value
    stands in the way."""
    node = document
    for depth, step in enumerate(path):
        if isinstance(node, Mapping):
            node = node.get(step, ABSENT)
        elif isinstance(node, list) and is_index(step):
            node = node[int(step)] if int(step) < len(node) else ABSENT
        elif node is None or node is ABSENT:
            return ABSENT
        else:
            refused = wrong("an object", node)
            raise Refused(f"{refused.reason} at {'.'.join(path[:depth])}")
    return node


def place(tree: dict[str, Any], path: Path, value: Any) -> None:
    """Put the value at the path, with the objects and lists that lead there. Entries of a list that nobody places are null."""
    node: Any = tree
    for step, following in pairwise(path):
        child = _child(node, step)
        if child is None:
            child = [] if is_index(following) else {}
            _put(node, step, child)
        node = child
    _put(node, path[-1], value)


def whole(raw: Mapping[str, Any], path: Path) -> Path:
    """The part of the path that has to be set as a whole, because what `raw` has there cannot hold the rest.

    MongoDB makes missing objects along a path, but neither missing arrays nor anything inside null or a scalar.
    """
    node: Any = raw
    for depth, (step, following) in enumerate(pairwise(path), 1):
        if isinstance(node, Mapping) and step not in node and not any(map(is_index, path[depth:])):
            return path
        node = _child(node, step)
        if not isinstance(node, Mapping) and not (isinstance(node, list) and is_index(following)):
            return path[:depth]
    return path


def inside_list(raw: Mapping[str, Any], path: Path) -> bool:
    """Whether the path ends at an entry of a list: MongoDB can make it null, but not take it away."""
    return is_index(path[-1]) and isinstance(find(raw, path[:-1]), list)


def overlapping(paths: Sequence[Path]) -> tuple[Path, Path] | None:
    """Two of the paths of which one lies at or inside the other."""
    ordered = sorted(paths)
    for one, other in pairwise(ordered):
        if other[: len(one)] == one:
            return one, other
    return None


def _child(node: Any, step: str) -> Any:
    if isinstance(node, list):
        return node[int(step)] if is_index(step) and int(step) < len(node) else None
    return node.get(step) if isinstance(node, Mapping) else None


def _put(node: Any, step: str, value: Any) -> None:
    if isinstance(node, list):
        node.extend([None] * (int(step) + 1 - len(node)))
        node[int(step)] = value
    else:
        node[step] = value
