"""Route patterns, `/api/videos/{id}`, and the router that finds the route of a request."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar
from urllib.parse import unquote

T = TypeVar("T")

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")

_PARAMETER: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_LITERAL: Final = re.compile(r"[^%\x00-\x20\x7f]+")


class PatternError(ValueError):
    """A text that is no route pattern."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """`segments` holds the literal text of each segment, None for a parameter; `names` the parameters' names, in order.

    A path that ends with a slash has an empty last segment: it is another path than the one without.
    """

    text: str
    segments: tuple[str | None, ...]
    names: tuple[str, ...]


def compile_pattern(text: str) -> Pattern:
    """Raises PatternError where no request could ever have such a path, or its parameters are unclear."""
    if not text.startswith("/"):
        raise PatternError("a path starts with /")
    *inner, last = text[1:].split("/")
    if not all(inner):
        raise PatternError("a path has no empty segments")
    segments = [_segment(segment) for segment in inner] + [_segment(last) if last else ""]
    names = tuple(found[1] for part in (*inner, last) if (found := _PARAMETER.fullmatch(part)))
    if len(set(names)) < len(names):
        raise PatternError("each parameter of a path has its own name")
    if "now" in names:
        raise PatternError("{now} is the time of the request; call the parameter otherwise")
    return Pattern(text, tuple(segments), names)


def parse_on(on: str) -> tuple[str, Pattern]:
    """Method and pattern of a route's `on`. Raises PatternError."""
    method, space, path = on.partition(" ")
    if not space or method not in METHODS:
        raise PatternError(f"expected METHOD /path with one of {', '.join(METHODS)}, one space between")
    return method, compile_pattern(path)


def _segment(segment: str) -> str | None:
    if _PARAMETER.fullmatch(segment):
        return None
    if "{" in segment or "}" in segment:
        raise PatternError("a parameter is a whole segment, {name}, of letters, digits and _")
    if "?" in segment or "#" in segment:
        raise PatternError("a path has no query and no fragment")
    if not _LITERAL.fullmatch(segment):
        raise PatternError("a path is written without spaces and percent-encoding: %C3%A9 as é")
    return segment


@dataclass(slots=True)
class _Node(Generic[T]):
    literals: dict[str, _Node[T]] = field(default_factory=dict)
    parameter: _Node[T] | None = None
    leaf: tuple[T, tuple[str, ...]] | None = None

    def below(self, segment: str | None) -> _Node[T]:
        """The node for a segment of a pattern under this one, made when it is not there."""
        if segment is not None:
            return self.literals.setdefault(segment, _Node())
        if self.parameter is None:
            self.parameter = _Node()
        return self.parameter


def shape(pattern: Pattern, *, strict: bool) -> tuple[str | None, ...]:
    """What two patterns have in common that match the same requests."""
    if strict:
        return pattern.segments
    segments = pattern.segments[:-1] if len(pattern.segments) > 1 and pattern.segments[-1] == "" else pattern.segments
    return tuple(None if segment is None else segment.lower() for segment in segments)


class Router(Generic[T]):
    """Finds the route of a request in O(segments), whatever the number of routes.

    The method must be the same. From left to right a literal segment beats a parameter; among routes of one method and
    shape the first declared wins. Unless `strict`, a slash at the end and the case of literals do not matter.
    """

    def __init__(self, routes: Iterable[tuple[str, Pattern, T]], *, strict: bool = True) -> None:
        self._strict = strict
        self._fixed: dict[tuple[str, str], T] = {}
        self._roots: dict[str, _Node[T]] = {}
        for method, pattern, target in routes:
            node = self._roots.setdefault(method, _Node())
            for segment in shape(pattern, strict=strict):
                node = node.below(segment)
            if node.leaf is None:
                node.leaf = (target, pattern.names)
                if not pattern.names:
                    self._fixed[method, pattern.text] = target

    def match(self, method: str, raw_path: str) -> tuple[T, dict[str, str]] | None:
        """The route and its decoded parameters. `raw_path` is as it was sent, with or without its query.

        A path whose percent-encoding is not UTF-8 matches nothing.
        """
        path = raw_path.partition("?")[0]
        fixed = self._fixed.get((method, path))
        if fixed is not None:
            return fixed, {}
        root = self._roots.get(method)
        if root is None or path[:1] != "/":
            return None
        segments = path.split("/")
        if "%" in path:
            try:
                segments = [unquote(segment, errors="strict") for segment in segments]
            except UnicodeDecodeError:
                return None
        literals = segments if self._strict else _lenient(segments)
        values: list[str] = []
        leaf = _find(root, literals, segments, 1, values)
        return None if leaf is None else (leaf[0], dict(zip(leaf[1], values, strict=True)))


def _lenient(segments: list[str]) -> list[str]:
    literals = [segment.lower() for segment in segments]
    if not literals[-1] and literals[-2]:
        literals.pop()
    return literals


def _find(
    node: _Node[T], literals: list[str], segments: list[str], start: int, values: list[str]
) -> tuple[T, tuple[str, ...]] | None:
    """The leaf for `literals` from `start` on. `values` grows by the `segments` of its parameters (when None: by any)."""
    for position in range(start, len(literals)):
        segment = literals[position]
        literal, parameter = node.literals.get(segment), node.parameter
        if literal is not None:
            if parameter is not None:
                before = len(values)
                if found := _find(literal, literals, segments, position + 1, values):
                    return found
                del values[before:]
            else:
                node = literal
                continue
        if parameter is None or not segment:
            return None
        values.append(segments[position])
        node = parameter
    return node.leaf
