"""What one field can hold on both sides: the check of its canonical values, by its Prisma type and its column's `@db` type.

PostgreSQL rounds, cuts, pads and folds what a column has no room for, without a word. What would come back as another value
is refused here instead, before it is written.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from adapters.documents.values import (
    INT32,
    INT64,
    Convert,
    Refused,
    binary,
    boolean,
    integer,
    moment,
    number,
    text,
    wrong,
)
from config.schema import Field

_MILLIS: Final = 3
"""Digits of a second that a canonical date has."""


def scalar_check(field: Field, enums: Mapping[str, tuple[str, ...]]) -> Convert | None:
    """The check of one value (one element, for a list field); None for Json, which is checked as it is translated.

    Raises LookupError for a type that the schema language does not have.
    """
    if field.kind == "enum":
        return one_of(enums[field.type])
    native, arguments = (field.native[0], [int(a) for a in field.native[1:]]) if field.native else ("", [])
    match field.type:
        case "String":
            return _string(native, arguments)
        case "Int":
            return integer(1 << 15, "SmallInt") if native == "SmallInt" else integer(INT32, "Int, 32 bits")
        case "BigInt":
            return integer(INT64, "BigInt, 64 bits")
        case "Float":
            return real if native == "Real" else number
        case "Decimal":
            digits = arguments or ([19, 2] if native == "Money" else [65, 30])
            return decimal(digits[0], digits[1] if len(digits) > 1 else 0)
        case "Boolean":
            return boolean
        case "DateTime":
            return _date(native, arguments)
        case "Bytes":
            return binary
        case "Json":
            return None
    raise LookupError(f"no canonical value for the type {field.type}")


def one_of(values: tuple[str, ...]) -> Convert:
    known = frozenset(values)

    def check(value: Any) -> str:
        if type(value) is not str:
            raise wrong("a string", value)
        if value not in known:
            raise Refused(f"expected one of {', '.join(values)}")
        return value

    return check


def _string(native: str, arguments: list[int]) -> Convert:
    match native, arguments:
        case "VarChar", [most]:
            return at_most(most)
        case "Char", _:
            return exactly(arguments[0] if arguments else 1)
        case "Uuid", _:
            return uuid_text
    return text


def at_most(length: int) -> Convert:
    def check(value: Any) -> str:
        if len(text(value)) > length:
            raise Refused(f"longer than {length} characters")
        return str(value)

    return check


def exactly(length: int) -> Convert:
    def check(value: Any) -> str:
        if len(text(value)) != length:
            raise Refused(f"not of {length} characters, to which its column pads it")
        return str(value)

    return check


def uuid_text(value: Any) -> str:
    try:
        same = str(uuid.UUID(text(value))) == value
    except ValueError as error:
        raise Refused("expected a UUID") from error
    if not same:
        raise Refused("expected a UUID in lower case with dashes")
    return str(value)


def decimal(precision: int, scale: int) -> Convert:
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


def real(value: Any) -> float:
    """A number that four bytes hold as it is printed."""
    wide = number(value)
    if wide - wide != 0:
        return wide
    try:
        narrow = _narrow(wide)
    except OverflowError as error:
        raise Refused("out of the range of a Real") from error
    shortest = next(digits for digits in range(1, 10) if _narrow(float(f"{narrow:.{digits}g}")) == narrow)
    if float(f"{narrow:.{shortest}g}") != wide:
        raise Refused("a number that a Real cannot hold")
    return wide


def _narrow(value: float) -> float:
    narrow: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return narrow


def _date(native: str, arguments: list[int]) -> Convert:
    match native, arguments:
        case "Date", _:
            return whole_day
        case (("Timestamp" | "Timestamptz"), [digits]) if digits < _MILLIS:
            return no_finer_than(digits)
        case (("Time" | "Timetz"), _):
            return time_of_day
    return moment


def whole_day(value: Any) -> datetime:
    when = moment(value)
    if (when.hour, when.minute, when.second, when.microsecond) != (0, 0, 0, 0):
        raise Refused("not the beginning of a day, all that its column holds")
    return when


def no_finer_than(digits: int) -> Convert:
    unit: int = 10 ** (6 - digits)

    def check(value: Any) -> datetime:
        when = moment(value)
        if when.microsecond % unit:
            raise Refused(f"finer than the {digits} digits of a second that its column holds")
        return when

    return check


def time_of_day(value: Any) -> datetime:
    when = moment(value)
    if (when.year, when.month, when.day) != (1970, 1, 1):
        raise Refused("not on 1970-01-01, the day of what its column holds")
    return when
