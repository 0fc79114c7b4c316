"""Canonical values: what a field of each Prisma type holds between the two sides, and the check that it does.

- String, enum: str, without NUL and lone surrogates (PostgreSQL has neither)
- Int, BigInt: int within 32, 64 bits; a bool is never a number
- Float: float, NaN and the infinities included
- Decimal: decimal.Decimal, finite, within the column's precision
- Boolean: bool
- DateTime: aware datetime in UTC, whole milliseconds, years 1 to 9999
- Bytes: bytes
- Json: JSON, see `adapters.documents.extended_json`
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from bson.tz_util import utc as bson_utc

from adapters.side import Invalid
from config.schema import Field

Convert = Callable[[Any], Any]
"""Turns a value that is not None into another, or raises Refused."""

INT32: Final = 1 << 31
INT64: Final = 1 << 63
EXACT: Final = 1 << 53
"""Up to here a double holds every integer."""

_HEX24: Final = re.compile(r"[0-9a-f]{24}")


class Refused(Exception):
    """A value that its field cannot hold. `steps` name the way to it from the outside in; reasons hold no values."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps: list[str] = []

    def under(self, step: str | int) -> Refused:
        self.steps.insert(0, str(step))
        return self

    def invalid(self, base: str) -> Invalid:
        return Invalid(".".join([base, *self.steps]), self.reason)


def word(value: Any) -> str:
    """What to call a value's type in a reason."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a number"
        case str():
            return "a string"
        case Mapping():
            return "an object"
        case list() | tuple():
            return "a list"
        case datetime():
            return "a date"
    return f"a value of type {type(value).__name__}"


def wrong(expected: str, value: Any) -> Refused:
    return Refused(f"expected {expected}, got {word(value)}")


def text(value: Any) -> str:
    if type(value) is not str:
        raise wrong("a string", value)
    if "\0" in value:
        raise Refused("holds the character NUL")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise Refused("holds half of a surrogate pair") from error
    return value


def object_id(value: Any) -> str:
    if type(value) is not str:
        raise wrong("24 lower-case hex digits", value)
    if not _HEX24.fullmatch(value):
        raise Refused("expected 24 lower-case hex digits")
    return value


def boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise wrong("a boolean", value)
    return value


def integer(limit: int, name: str) -> Convert:
    def check(value: Any) -> int:
        if type(value) is not int:
            raise wrong("an integer", value)
        if not -limit <= value < limit:
            raise Refused(f"out of the range of {name}")
        return value

    return check


def number(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is not int:
        raise wrong("a number", value)
    return exact_float(value)


def exact_float(value: int) -> float:
    if -EXACT <= value <= EXACT:
        return float(value)
    try:
        result = float(value)
    except OverflowError as error:
        raise Refused("out of the range of a double") from error
    if int(result) != value:
        raise Refused("an integer that a double cannot hold exactly")
    return result


def decimal(precision: int, scale: int) -> Convert:
    """Refuses what the column would round: PostgreSQL rounds to the scale without a word."""

    def check(value: Any) -> Decimal:
        if type(value) is not Decimal:
            raise wrong("a decimal", value)
        if not value.is_finite():
            raise Refused("not a finite decimal")
        if value:
            if value.adjusted() >= precision - scale:
                raise Refused(f"more than {precision - scale} digits before the point")
            if lowest_digit(value) < -scale:
                raise Refused(f"more than {scale} digits after the point")
        return value

    return check


def lowest_digit(value: Decimal) -> int:
    """The exponent of the last digit that is not zero. `value` is finite and not zero."""
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise ValueError("not finite")
    for digit in reversed(digits):
        if digit:
            break
        exponent += 1
    return exponent


def moment(value: Any) -> datetime:
    """In UTC, cut to the millisecond, which is all that both stores keep."""
    if not isinstance(value, datetime):
        raise wrong("a date", value)
    when = value if value.tzinfo is UTC else _in_utc(value)
    finer = when.microsecond % 1000
    return when.replace(microsecond=when.microsecond - finer) if finer else when


def _in_utc(value: datetime) -> datetime:
    if value.tzinfo is bson_utc:
        return value.replace(tzinfo=UTC)
    if value.tzinfo is None:
        raise Refused("a date without a time zone")
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise Refused("a date out of the range 0001 to 9999") from error


def binary(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise wrong("bytes", value)
    return value


def one_of(values: tuple[str, ...]) -> Convert:
    known = frozenset(values)

    def check(value: Any) -> str:
        if type(value) is not str:
            raise wrong("a string", value)
        if value not in known:
            raise Refused(f"expected one of {', '.join(values)}")
        return value

    return check


def at_most(length: int) -> Convert:
    def check(value: Any) -> str:
        if len(text(value)) > length:
            raise Refused(f"longer than {length} characters")
        return str(value)

    return check


def scalar_check(field: Field, enums: Mapping[str, tuple[str, ...]]) -> Convert | None:
    """The check of one value (one element, for a list field); None for Json, which is checked as it is translated.

    Raises LookupError for a type that the schema language does not have.
    """
    if field.kind == "enum":
        return one_of(enums[field.type])
    native, arguments = (field.native[0], field.native[1:]) if field.native else ("", ())
    match field.type:
        case "String":
            bounded = native in ("VarChar", "Char") and arguments
            return at_most(int(arguments[0])) if bounded else text
        case "Int":
            return integer(1 << 15, "SmallInt") if native == "SmallInt" else integer(INT32, "Int, 32 bits")
        case "BigInt":
            return integer(INT64, "BigInt, 64 bits")
        case "Float":
            return number
        case "Decimal":
            digits = [int(a) for a in arguments] or [65, 30]
            return decimal(digits[0], digits[1] if len(digits) > 1 else 0)
        case "Boolean":
            return boolean
        case "DateTime":
            return moment
        case "Bytes":
            return binary
        case "Json":
            return None
    raise LookupError(f"no canonical value for the type {field.type}")


def alike(one: Any, other: Any) -> bool:
    """Equal as canonical values: like `==`, but true is not 1, and NaN is NaN."""
    kind, its = type(one), type(other)
    if kind is dict and its is dict:
        return len(one) == len(other) and all(k in other and alike(v, other[k]) for k, v in one.items())
    if kind is list and its is list:
        return len(one) == len(other) and all(map(alike, one, other))
    if kind is bool or its is bool:
        return one is other
    return bool(one == other or (one != one and other != other))
