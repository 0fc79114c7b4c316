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
from math import copysign
from typing import Any, Final

from bson.datetime_ms import DatetimeMS
from bson.tz_util import utc as bson_utc

from adapters.side import Invalid

Convert = Callable[[Any], Any]
"""Turns a value that is not None into another, or raises Refused."""

INT32: Final = 1 << 31
INT64: Final = 1 << 63
EXACT: Final = 1 << 53
"""Up to here a double holds every integer."""

_OUT_OF_RANGE: Final = "a date out of the range 0001 to 9999"
_HEX24: Final = re.compile(r"[0-9a-f]{24}")


class Refused(Exception):
    """A value that its field cannot hold. `steps` name the way to it from the outside in; reasons hold no values."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps: list[str] = []

    def under(self, step: str | int) -> Refused:
        # A name that is not Unicode is refused for just that: what says so has to be storable.
        self.steps.insert(0, str(step).encode("utf-8", "backslashreplace").decode())
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
            raise Refused("holds half of a surrogate pair, or bytes that are not UTF-8") from error
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


def moment(value: Any) -> datetime:
    """In UTC, cut to the millisecond, which is all that both stores keep."""
    if not isinstance(value, datetime):
        raise Refused(_OUT_OF_RANGE) if isinstance(value, DatetimeMS) else wrong("a date", value)
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
        raise Refused(_OUT_OF_RANGE) from error


def binary(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise wrong("bytes", value)
    return value


def alike(one: Any, other: Any) -> bool:
    """Equal as canonical values: like `==`, but true is not 1, -0.0 is not 0.0, and NaN is NaN."""
    kind, its = type(one), type(other)
    if kind is dict and its is dict:
        return len(one) == len(other) and all(k in other and alike(v, other[k]) for k, v in one.items())
    if kind is list and its is list:
        return len(one) == len(other) and all(map(alike, one, other))
    if kind is bool or its is bool:
        return one is other
    if kind is float and one == 0 and its is float:
        return other == 0 and copysign(1, one) == copysign(1, other)
    return bool(one == other or (one != one and other != other))
