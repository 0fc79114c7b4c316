"""A YAML file as plain values, with the line of every path in it and the environment's values filled in.

Scalars are read by the core schema of YAML 1.2: `on`, `yes` and `12:30` are text, only `true` and `false` are truth
values. Duplicate keys, keys that are no text, merge keys and tags of other types are faults.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from config.faults import Fault, Finding, Place, message, path_text

_PLAIN: Final = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
    "merge": r"<<",
}
_VARIABLE: Final = re.compile(r"\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})?")
_TAG: Final = "tag:yaml.org,2002:"


_RESOLVERS: Final = {None: [(_TAG + name, re.compile(rf"(?:{pattern})\Z")) for name, pattern in _PLAIN.items()]}


class _Loader(yaml.SafeLoader):
    """Resolves plain scalars by the core schema only."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.yaml_implicit_resolvers = _RESOLVERS


@dataclass(frozen=True, slots=True)
class Source:
    """What a file says, and where it says it. `hidden` are the places whose value holds some of the environment's."""

    file: str
    data: Any
    lines: Mapping[Place, int]
    hidden: frozenset[Place]
    faults: tuple[Fault, ...]

    def line(self, place: Place) -> int | None:
        """The line of a place, or of the nearest one around it that the file has."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place)

    def fault(self, finding: Finding) -> Fault:
        hidden = finding.place in self.hidden
        see_line = self.line(finding.see) if finding.see else None
        text = message(finding, hidden=hidden, see_line=see_line)
        return Fault(self.file, self.line(finding.place), path_text(finding.place), text)


def read_source(path: Path, environ: Mapping[str, str]) -> Source:
    """Never raises for what is in the file, nor for one that cannot be read: `faults` tells; `data` is then None."""
    file = str(path)
    try:
        node = yaml.compose(path.read_text("utf-8"), Loader=_Loader)
    except OSError as error:
        return _unreadable(file, None, f"cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        return _unreadable(file, None, "is not UTF-8")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join(part for part in (error.context, error.problem) if part)
        return _unreadable(file, mark.line + 1 if mark else None, f"no YAML: {problem}")
    except yaml.reader.ReaderError as error:
        return _unreadable(file, None, f"no YAML: {error.reason}")
    if node is None:
        return _unreadable(file, None, "is empty; expected upstreams and entities")
    reader = _Reader(file, environ)
    data = reader.value(node, ())
    return Source(file, data, reader.lines, frozenset(reader.hidden), tuple(reader.faults))


def _unreadable(file: str, line: int | None, problem: str) -> Source:
    return Source(file, None, {}, frozenset(), (Fault(file, line, "", problem),))


class _Reader:
    """Walks the nodes of one file, and collects lines, hidden places and faults."""

    def __init__(self, file: str, environ: Mapping[str, str]) -> None:
        self.file = file
        self.environ = environ
        self.lines: dict[Place, int] = {(): 1}
        self.hidden: set[Place] = set()
        self.faults: list[Fault] = []
        self._open: set[int] = set()

    def value(self, node: yaml.Node, place: Place) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, place)
        if id(node) in self._open:
            return self._fault(place, node, "an alias that holds itself")
        self._open.add(id(node))
        value = self._mapping(node, place) if isinstance(node, yaml.MappingNode) else self._sequence(node, place)
        self._open.remove(id(node))
        return value

    def _fault(self, place: Place, node: yaml.Node, problem: str) -> None:
        self.faults.append(Fault(self.file, node.start_mark.line + 1, path_text(place), problem))

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        self._check_tag(node, place, "map")
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != f"{_TAG}str":
                self._fault(place, key, "a key that is no text; write it in quotes (merge keys are not supported)")
                continue
            below = (*place, key.value)
            if key.value in mapping:
                self._fault(below, key, f"said twice; first on line {self.lines[below]}")
                continue
            self.lines[below] = key.start_mark.line + 1
            mapping[key.value] = self.value(value, below)
        return mapping

    def _sequence(self, node: yaml.Node, place: Place) -> list[Any]:
        self._check_tag(node, place, "seq")
        for index, item in enumerate(node.value):
            self.lines[*place, index] = item.start_mark.line + 1
        return [self.value(item, (*place, index)) for index, item in enumerate(node.value)]

    def _check_tag(self, node: yaml.Node, place: Place, expected: str) -> None:
        if node.tag != _TAG + expected:
            self._fault(place, node, f"the tag {node.tag} is not supported")

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> Any:
        text: str = node.value
        kind = node.tag.removeprefix(_TAG)
        if kind == "str":
            return self._filled(node, place)
        if kind in _PLAIN and kind != "merge" and re.fullmatch(_PLAIN[kind], text):
            return _plain_value(kind, text.lower())
        return self._fault(place, node, f"the tag {node.tag} is not supported")

    def _filled(self, node: yaml.ScalarNode, place: Place) -> str:
        """The text with `${NAME}` and `${NAME:-default}` replaced; `$${` is `${`. An empty variable is as none."""

        def replaced(match: re.Match[str]) -> str:
            if match[0] == "$${":
                return "${"
            name, default = match[1], match[2]
            if name is None:
                self._fault(
                    place, node, "an unfinished ${; expected ${NAME} or ${NAME:-default}, or $${ for the text ${"
                )
                return ""
            self.hidden.add(place)
            value = self.environ.get(name) or default
            if value is None:
                state = "empty" if name in self.environ else "not set"
                remedy = f"set it, or write ${{{name}:-default}}"
                self._fault(place, node, f"the environment variable {name} is {state}; {remedy}")
            return value or ""

        return _VARIABLE.sub(replaced, node.value)


def _plain_value(kind: str, text: str) -> Any:
    match kind:
        case "null":
            return None
        case "bool":
            return text == "true"
        case "int":
            return int(text, 0 if text[:2] in ("0o", "0x") else 10)
        case _:
            return float(text.replace(".inf", "inf").replace(".nan", "nan"))
