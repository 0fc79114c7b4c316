"""A BSON value as the old servers answered it: what JavaScript's JSON.stringify makes of it, as the MongoDB driver for
Node (bson 6, default options: numbers and regular expressions promoted) hands it out."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from bson import DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.binary import UUID_SUBTYPE, Binary, UuidRepresentation
from bson.code import Code
from bson.datetime_ms import DatetimeMS

from adapters.documents.texts import EPOCH, iso
from adapters.documents.values import EXACT

_DATE_LIMIT: Final = 8_640_000_000_000_000
_CYCLE: Final = 146_097 * 86_400_000
"""Milliseconds of 400 years, after which the calendar repeats."""


def stringified(value: Any) -> Any:
    """Raises TypeError for what is no BSON value."""
    write = _WRITERS.get(type(value))
    if write is None:
        write = next((write for kind, write in _WRITERS.items() if isinstance(value, kind)), None)
        if write is None:
            raise TypeError(f"{type(value).__name__} is no BSON value")
    return write(value)


def _same(value: Any) -> Any:
    return value


def _number(value: float) -> Any:
    if value - value != 0:
        return None
    return int(value) if value.is_integer() and -EXACT <= value <= EXACT else value


def _long(value: int) -> Any:
    """The driver promotes a Long to a number where that is exact; otherwise its parts are what is printed."""
    if -EXACT <= value <= EXACT:
        return int(value)
    low = value & 0xFFFFFFFF
    return {"low": low - (1 << 32) if low >> 31 else low, "high": value >> 32, "unsigned": False}


def _far_date(value: DatetimeMS) -> Any:
    """ECMAScript's expanded years. Beyond its time range a date is invalid, which is printed as null."""
    milliseconds = int(value)
    if abs(milliseconds) > _DATE_LIMIT:
        return None
    cycles, rest = divmod(milliseconds, _CYCLE)
    when = EPOCH + timedelta(milliseconds=rest)
    year = when.year + 400 * cycles
    rest_of_it = iso(when)[4:]
    return f"{year:04d}{rest_of_it}" if 0 <= year <= 9999 else f"{'-' if year < 0 else '+'}{abs(year):06d}{rest_of_it}"


def _binary(value: bytes) -> Any:
    if isinstance(value, Binary) and value.subtype == UUID_SUBTYPE and len(value) == 16:
        return str(value.as_uuid(UuidRepresentation.STANDARD))
    return base64.b64encode(value).decode()


def _code(value: Code) -> Any:
    code = {"code": str(value)}
    return code if value.scope is None else {**code, "scope": stringified(value.scope)}


def _object(value: Mapping[str, Any]) -> Any:
    return {key: stringified(item) for key, item in value.items()}


def _list(value: Any) -> Any:
    return [stringified(item) for item in value]


_WRITERS: Final[dict[type, Callable[[Any], Any]]] = {
    type(None): _same,
    bool: _same,
    Code: _code,
    str: _same,
    Int64: _long,
    int: _long,
    float: _number,
    datetime: iso,
    DatetimeMS: _far_date,
    ObjectId: str,
    Decimal128: lambda value: {"$numberDecimal": str(value)},
    Binary: _binary,
    bytes: _binary,
    uuid.UUID: str,
    Regex: lambda value: {},
    Timestamp: lambda value: {"$timestamp": str(value.time << 32 | value.inc)},
    MinKey: lambda value: {},
    MaxKey: lambda value: {},
    DBRef: lambda value: _object(value.as_doc()),
    dict: _object,
    list: _list,
    tuple: _list,
    Mapping: _object,
}
