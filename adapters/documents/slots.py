"""One Prisma field as the legacy side has it: where it is, and the functions that read and write it, compiled from its rule."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from bson.binary import Binary

from adapters.documents import bson_values
from adapters.documents.columns import scalar_check
from adapters.documents.extended_json import from_bson, to_bson
from adapters.documents.paths import ABSENT, Path, find, parse_path
from adapters.documents.splitting import Cut
from adapters.documents.values import Convert, Refused, object_id, wrong
from config.model import FieldRule, Functions, LegacyType
from config.schema import Field, Schema


class RuleError(ValueError):
    """A field's rule that cannot be followed. The message says what was expected."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Slot:
    """`read` and `write` take and give whole values (lists for a list field); `check` checks a canonical one.

    `always`: they are functions of the user's, which are given None as well. `cut`: the value is one part of a string;
    `body_cut`: it is so in bodies too.
    """

    field: Field
    path: Path
    body: Path
    legacy: LegacyType | None
    read: Convert
    write: Convert
    check: Convert
    always: bool = False
    cut: Cut | None = None
    body_cut: Cut | None = None

    @property
    def name(self) -> str:
        return self.field.name

    @property
    def dotted(self) -> str:
        return ".".join(self.path)

    @property
    def body_name(self) -> str:
        return ".".join(self.body)

    def nothing(self) -> Any:
        """What stands for a missing or null value. Raises Refused where the field needs one."""
        if self.field.is_list:
            return []
        if self.field.required:
            raise Refused("required, but missing or null")
        return None

    def canonical(self, raw: Any) -> Any:
        """The canonical value of what the legacy document has here, ABSENT included."""
        if raw is not None and raw is not ABSENT:
            value = self.read(raw)
        elif self.always:
            value = self.read(None)
        else:
            value = None
        return self.nothing() if value is None else value

    def stored(self, value: Any) -> Any:
        """The BSON value of a canonical one; None: nothing is to be there."""
        return None if value is None and not self.always else self.write(value)


def compile_slot(field: Field, rule: FieldRule, schema: Schema, last: int) -> Slot:
    """`last` is the number of the last part of the string that this field is a part of, if it is. Raises RuleError."""
    source = rule.source or ("_id" if field.id else field.name)
    try:
        path, body = parse_path(source), parse_path(rule.body or source)
    except ValueError as error:
        raise RuleError(field.name, str(error)) from error
    if rule.functions:
        if rule.split or rule.legacy:
            raise RuleError(field.name, "has functions beside split or legacy; expected only one of them")
        check = _check(field, None, schema)
        read, write = _functions(field.name, rule.functions, check)
        return Slot(field, path, body, None, read, write, check, always=True)
    legacy = _legacy_type(field, rule, source)
    check = _check(field, legacy, schema)
    read, write = _conversions(field, legacy, schema)
    cut = None
    if rule.split:
        if field.is_list or field.type != "String" or legacy != "string":
            raise RuleError(field.name, "only a string can be split; expected a field of type String")
        cut = Cut(rule.split.by, rule.split.part, last)
    return Slot(field, path, body, legacy, read, write, check, cut=cut, body_cut=None if rule.body else cut)


def finder(path: Path, cut: Cut | None) -> Callable[[Any], Any]:
    """What reads a slot's raw value out of a document or body; ABSENT where it is missing. It raises Refused where
    something else stands in its place."""
    if cut:
        return lambda document: cut.of(find(document, path))
    if len(path) == 1:
        [key] = path

        def top(document: Mapping[str, Any]) -> Any:
            return document.get(key, ABSENT)

        return top
    return lambda document: find(document, path)


def elementwise(convert: Convert, *, nulls: bool = False) -> Convert:
    """For lists. Prisma's hold no null; with `nulls`, they stay where they are."""

    def all_of(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise wrong("a list", value)
        result: list[Any] = []
        try:
            for item in value:
                if item is None and not nulls:
                    raise Refused("null in a list of scalars")
                result.append(None if item is None else convert(item))
        except Refused as error:
            raise error.under(len(result)) from error.__cause__
        return result

    return all_of


def _legacy_type(field: Field, rule: FieldRule, source: str) -> LegacyType | None:
    kind = _kind(field)
    if rule.legacy:
        if rule.legacy in bson_values.forms(kind):
            return rule.legacy
        expected = ", ".join(bson_values.forms(kind)) or "none, it is embedded as it is"
        raise RuleError(field.name, f"a field of type {field.type} cannot be {rule.legacy}; expected {expected}")
    if field.id and source == "_id" and kind == "String":
        return "objectId"
    return bson_values.default_type(kind)


def _check(field: Field, legacy: LegacyType | None, schema: Schema) -> Convert:
    """The check of a whole canonical value, whichever side it comes from."""
    one = object_id if legacy == "objectId" else scalar_check(field, schema.enums)
    one = one or (lambda value: from_bson(to_bson(value)))
    return elementwise(one) if field.is_list else one


def _conversions(field: Field, legacy: LegacyType | None, schema: Schema) -> tuple[Convert, Convert]:
    codec = bson_values.bson_codec(_kind(field), legacy)
    check = scalar_check(field, schema.enums)
    read, write = codec.read, codec.write
    if check is not None and legacy != "objectId":  # which checks its form itself
        read, write = _then(read, check), _then(check, write)
    return (elementwise(read), elementwise(write)) if field.is_list else (read, write)


def _kind(field: Field) -> str:
    return "Enum" if field.kind == "enum" else field.type


def _then(first: Convert, second: Convert) -> Convert:
    if first is bson_values.as_is:
        return second
    if second is bson_values.as_is:
        return first
    return lambda value: second(first(value))


def _functions(name: str, functions: Functions, check: Convert) -> tuple[Convert, Convert]:
    to_prisma, to_legacy = (_resolve(name, reference) for reference in (functions.to_prisma, functions.to_legacy))

    def read(value: Any) -> Any:
        result = _called(to_prisma, value)
        return None if result is None else check(result)

    def write(value: Any) -> Any:
        result = _called(to_legacy, None if value is None else check(value))
        return Binary.from_uuid(result) if isinstance(result, UUID) else result

    return read, write


def _called(function: Callable[[Any], Any], value: Any) -> Any:
    try:
        return function(value)
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        raise Refused(f"its function could not convert it ({type(error).__name__})") from error


def _resolve(name: str, reference: str) -> Callable[[Any], Any]:
    try:
        found = pkgutil.resolve_name(reference)
    except (ImportError, AttributeError, ValueError) as error:
        raise RuleError(name, f"there is no function {reference}; expected module:name") from error
    if not callable(found):
        raise RuleError(name, f"{reference} is no function; expected module:name")
    result: Callable[[Any], Any] = found
    return result
