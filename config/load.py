"""Reads a configuration file: YAML, environment, model, checks. Whatever is wrong is said at once, a line each."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from config.check import check, check_collections
from config.faults import ConfigError, Fault, Finding, Place, unknown
from config.model import Config
from config.schema import Schema
from config.source import Source, read_source

__all__ = ["ConfigError", "Fault", "load"]


def load(path: Path, environ: Mapping[str, str], schema: Schema, collections: Collection[str] | None = None) -> Config:
    """The configuration in the file, checked against the Prisma schema and, where given, the collections that exist.

    Raises ConfigError with every fault found: those of form first and, once a form is there, those of meaning as well.
    Values that came from the environment are in none of its messages.
    """
    source = read_source(path, environ)
    faults = list(source.faults)
    config, findings = _validated(source)
    if config is not None:
        findings += check(config, schema)
        if collections is not None:
            findings += check_collections(config, collections)
    said = {fault.path for fault in faults}
    faults += [fault for fault in map(source.fault, findings) if fault.path not in said]
    if config is None or faults:
        raise ConfigError(faults)
    return config


def _validated(source: Source) -> tuple[Config | None, list[Finding]]:
    """The model of the file and what is wrong with its form. Unknown keys alone do not keep it from having a model."""
    if source.data is None:
        return None, []
    try:
        return Config.model_validate(source.data), []
    except ValidationError as error:
        details = error.errors(include_url=False)
        findings = _merged(_finding(source, detail) for detail in details)
        if any(detail["type"] != "extra_forbidden" for detail in details):
            return None, findings
        known = _without(source.data, (), {detail["loc"] for detail in details})
        return Config.model_validate(known), findings


def _without(value: Any, place: Place, unwanted: set[Place]) -> Any:
    if isinstance(value, dict):
        kept = ((key, (*place, key)) for key in value)
        return {key: _without(value[key], below, unwanted) for key, below in kept if below not in unwanted}
    if isinstance(value, list):
        return [_without(item, (*place, index), unwanted) for index, item in enumerate(value)]
    return value


_EXPECTED: Final[Mapping[str, str]] = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "list_type": "a list",
    "string_too_short": "some text",
    "too_short": "at least one",
    "time_delta_type": "a duration such as 250ms, 1s or 5m",
    "time_delta_parsing": "a duration such as 250ms, 1s or 5m",
}


def _finding(source: Source, detail: ErrorDetails) -> Finding:
    """In our words, and without the value, what pydantic found."""
    place, kind, context = detail["loc"], detail["type"], detail.get("ctx", {})
    if kind == "missing":
        return Finding(place, f"missing; {_meaning(place)}")
    while place and place not in source.lines:  # pydantic adds the members of a union
        place = place[:-1]
    if kind == "extra_forbidden":
        return unknown(place, "key", None, _keys(place[:-1]))
    if kind in ("literal_error", "enum"):
        got = detail["input"] if isinstance(detail["input"], str) else None
        return unknown(place, "value", got, re.findall(r"'([^']*)'", context["expected"]))
    if kind == "value_error":
        return Finding(place, str(context["error"]))
    if kind in ("greater_than_equal", "less_than_equal"):
        bound = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
        return Finding(place, f"expected {bound}")
    return Finding(place, f"expected {_EXPECTED[kind]}" if kind in _EXPECTED else detail["msg"])


def _merged(findings: Iterator[Finding]) -> list[Finding]:
    """One finding a place: the members of a union each say what they expected."""
    merged: dict[Place, Finding] = {}
    for finding in findings:
        before = merged.get(finding.place)
        if before is None:
            merged[finding.place] = finding
        else:
            also = finding.problem.removeprefix("expected ")
            merged[finding.place] = Finding(finding.place, f"{before.problem} or {also}")
    return list(merged.values())


def _keys(place: Place) -> list[str]:
    """The keys that the model has at a place."""
    part = _type_at(place)
    return [field.alias or name for name, field in part.model_fields.items()] if part else []


def _meaning(place: Place) -> str:
    """What the field at a place is for, as the reference says it."""
    part = _type_at(place[:-1])
    field = part.model_fields.get(str(place[-1])) if part else None
    text = field.description if field and field.description else "it is required"
    return text[:1].lower() + text[1:].rstrip(".")


def _type_at(place: Place) -> type[BaseModel] | None:
    """The part of the model at a place of the file, None where there is something simpler."""
    annotation: Any = Config
    for step in place:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            fields = {field.alias or name: field for name, field in annotation.model_fields.items()}
            annotation = _plain(fields[str(step)].annotation) if step in fields else None
        elif get_origin(annotation) in (dict, list):
            annotation = _plain(get_args(annotation)[-1])
        else:
            return None
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _plain(annotation: Any) -> Any:
    """Without `Annotated` and `| None`."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        members = [member for member in get_args(annotation) if member is not NoneType]
        return _plain(members[0]) if len(members) == 1 else None
    return annotation
