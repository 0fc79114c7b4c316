"""Values with placeholders, compiled once: what a route's `where`, `set`, `take` and `skip` hold.

    {id}              a parameter of the path
    {query.limit}     a query parameter, required; {query.limit:20} with a default, {query.limit?} left out when absent
                      (to these two an empty one is an absent one: /videos?limit=)
    {body.title}      a field of the request body, a dotted path; default and `?` as above (null is a value)
    {account.id}      a field of the caller's account
    {now}             the time of the request
    {{ and }}         the characters themselves

A value that is one placeholder and nothing else keeps the type of what fills it; with text around it is text. What
fills a placeholder is never read for placeholders, operators or anything else: it stays the value that it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Final, Literal, get_args

Source = Literal["path", "query", "body", "account", "now"]
SOURCES: Final[tuple[str, ...]] = get_args(Source)

_PIECE: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_PLACEHOLDER: Final = re.compile(r"([A-Za-z_]\w*)(?:\.([^:?]+))?(?:(\?)|:(.*))?", re.ASCII | re.DOTALL)
_NO_DEFAULT: Final = object()
_WHERE: Final[Mapping[Source, str]] = {
    "path": "path parameter",
    "query": "query parameter",
    "body": "body field",
    "account": "account field",
    "now": "time",
}


class Left(Enum):
    """What `fill` gives for an optional placeholder that nothing filled: the condition is left out."""

    OUT = "left out"


class TemplateError(ValueError):
    """A text that is no template: `problem` names what is wrong with `piece`, `among` what was expected instead."""

    def __init__(self, problem: str, piece: str, among: tuple[str, ...] | None = None) -> None:
        super().__init__(f"{problem} {piece}")
        self.problem = problem
        self.piece = piece
        self.among = among


class Missing(Exception):
    """The request lacks what a placeholder needs. The message is fit for the client, and holds no value."""

    def __init__(self, name: str, source: Source, reason: str = "is required") -> None:
        super().__init__(f"{_WHERE[source]} {name} {reason}")
        self.name = name
        self.source: Source = source
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Sources:
    """Where placeholders are filled from, for one request. `now` is aware."""

    now: datetime
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    account: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Placeholder:
    """`default` is None where there is none; `optional` placeholders are left out when nothing fills them."""

    source: Source
    name: str
    default: str | None = None
    optional: bool = False


Fill = Callable[[Sources], Any]


@dataclass(frozen=True, slots=True)
class Template:
    """`fill` gives the value for a request, or `Left.OUT`; it raises `Missing`.

    `whole` is the placeholder that the value consists of, where it is one and nothing else.
    """

    fill: Fill
    placeholders: tuple[Placeholder, ...] = ()
    whole: Placeholder | None = None

    @property
    def constant(self) -> bool:
        return not self.placeholders

    def fill_constant(self) -> Any:
        """The value of a constant. Raises ValueError for anything else."""
        if self.placeholders:
            raise ValueError("only a constant has a value without a request")
        return self.fill(_NOTHING)


def compile(value: Any) -> Template:
    """The template of a value of any type; lists and mappings may hold placeholders too. Raises TemplateError."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return _list([compile(item) for item in value])
    if isinstance(value, dict):
        return _mapping({key: compile(item) for key, item in value.items()})
    return _constant(value)


def compile_all(values: Mapping[str, Any]) -> dict[str, Template]:
    return {name: compile(value) for name, value in values.items()}


def fill_all(templates: Mapping[str, Template], sources: Sources) -> dict[str, Any]:
    """Every value but those left out. Raises Missing."""
    filled = ((name, template.fill(sources)) for name, template in templates.items())
    return {name: value for name, value in filled if value is not Left.OUT}


def _constant(value: Any) -> Template:
    return Template(lambda _: value)


def _list(items: list[Template]) -> Template:
    placeholders = tuple(p for item in items for p in item.placeholders)
    if not placeholders:
        return _constant([item.fill(_NOTHING) for item in items])

    def fill(sources: Sources) -> list[Any]:
        return [value for item in items if (value := item.fill(sources)) is not Left.OUT]

    return Template(fill, placeholders)


def _mapping(items: dict[str, Template]) -> Template:
    placeholders = tuple(p for item in items.values() for p in item.placeholders)
    if not placeholders:
        return _constant({name: item.fill(_NOTHING) for name, item in items.items()})
    return Template(lambda sources: fill_all(items, sources), placeholders)


def _text(text: str) -> Template:
    pieces = list(_pieces(text))
    placeholders = tuple(piece for piece in pieces if isinstance(piece, Placeholder))
    if not placeholders:
        return _constant("".join(piece for piece in pieces if isinstance(piece, str)))
    if len(pieces) == 1:
        return Template(_filler(placeholders[0]), placeholders, placeholders[0])
    return Template(_joined(pieces), placeholders)


def _pieces(text: str) -> Iterator[str | Placeholder]:
    """The literal texts and placeholders of a text, in order; no empty literals."""
    position = 0
    for match in _PIECE.finditer(text):
        if match.start() > position:
            yield text[position : match.start()]
        position = match.end()
        if match[1] is not None:
            yield _placeholder(match[1])
        elif len(match[0]) == 2:
            yield match[0][0]
        else:
            raise TemplateError(f"a brace without its other half (write {match[0] * 2} for the character) in", text)
    if position < len(text):
        yield text[position:]


def _placeholder(inner: str) -> Placeholder:
    piece = f"{{{inner}}}"
    match = _PLACEHOLDER.fullmatch(inner)
    if not match:
        raise TemplateError("no placeholder such as {parameter} or {query.name}:", piece)
    head, name, mark, default = match.groups()
    optional = mark is not None
    if (optional or default is not None) and (name is None or head == "account"):
        raise TemplateError("neither a default nor ? has a meaning in", piece)
    match head, name:
        case "now", None:
            return Placeholder("now", "now")
        case _, None:
            return Placeholder("path", head)
        case ("query" | "account") as source, _:
            return Placeholder(source, name, default, optional)
        case "body", _ if all(name.split(".")):
            return Placeholder("body", name, default, optional)
        case "body", _:
            raise TemplateError("an empty name in", piece)
    raise TemplateError("unknown source of", piece, ("query", "body", "account"))


def _filler(placeholder: Placeholder) -> Fill:
    """What fills one placeholder, with its own type."""
    source, name = placeholder.source, placeholder.name
    absent = Left.OUT if placeholder.optional else _NO_DEFAULT if placeholder.default is None else placeholder.default

    def settled(value: Any) -> Any:
        if value is _NO_DEFAULT:
            raise Missing(name, source)
        return value

    match source:
        case "path":
            return lambda sources: settled(sources.path.get(name, absent))
        case "query" if absent is _NO_DEFAULT:
            return lambda sources: settled(sources.query.get(name, absent))
        case "query":
            return lambda sources: sources.query.get(name) or absent
        case "body" if "." not in name:
            return lambda sources: settled(absent if sources.body is None else sources.body.get(name, absent))
        case "body":
            names = name.split(".")
            return lambda sources: settled(_descend(sources.body, names, absent))
        case "account":
            return lambda sources: settled(absent if sources.account is None else sources.account.get(name, absent))
        case "now":
            return lambda sources: sources.now


def _descend(value: Any, names: list[str], absent: Any) -> Any:
    for name in names:
        if not isinstance(value, Mapping) or name not in value:
            return absent
        value = value[name]
    return value


def _joined(pieces: list[str | Placeholder]) -> Fill:
    """Text around placeholders; left out as a whole when one of them is."""
    parts = [(piece, None) if isinstance(piece, str) else (piece, _filler(piece)) for piece in pieces]

    def fill(sources: Sources) -> str | Left:
        texts: list[str] = []
        for piece, filler in parts:
            if filler is None:
                texts.append(str(piece))
                continue
            value = filler(sources)
            if value is Left.OUT:
                return Left.OUT
            texts.append(_as_text(value, piece))
        return "".join(texts)

    return fill


def _as_text(value: Any, piece: str | Placeholder) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    assert isinstance(piece, Placeholder)
    raise Missing(piece.name, piece.source, "must be text, a number, true or false")


_NOTHING: Final = Sources(now=datetime.min)
