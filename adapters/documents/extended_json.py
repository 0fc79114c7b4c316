"""What a Json field holds: JSON, and for the BSON values that JSON has no word for, MongoDB Extended JSON v2.

Numbers in JSON are doubles to nearly everybody who reads them, so an integer beyond 2^53 is written `{"$numberLong"}` and
-0.0, NaN and the infinities `{"$numberDouble"}`; a double with an integral value is the integer. Nothing else about a
value is lost, but for the width of a number. An object of the user's own that would be read as such a marker is refused.

Every function raises Refused with the way to what it refused.
"""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from bson import DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.binary import UUID_SUBTYPE, Binary
from bson.code import Code
from bson.datetime_ms import DatetimeMS

from adapters.documents.json_markers import is_marker, read_marker
from adapters.documents.texts import to_millis
from adapters.documents.values import EXACT, INT64, Refused, moment, text, word

DEPTH: Final = 100
"""Levels of nesting that MongoDB itself allows."""

_FLAGS: Final = (("i", re.I), ("l", re.L), ("m", re.M), ("s", re.S), ("u", re.U), ("x", re.X))


# From BSON, as PyMongo gives it.


def from_bson(value: Any, depth: int = 0) -> Any:
    """The JSON for a BSON value."""
    write = _WRITERS.get(type(value)) or _inherited(value)
    if write is None:
        raise Refused(f"BSON has no word for {word(value)}")
    return write(value, depth)


def _inherited(value: Any) -> Callable[[Any, int], Any] | None:
    """For subclasses, such as PyMongo's SON."""
    return next((write for kind, write in _WRITERS.items() if isinstance(value, kind)), None)


def _integer(value: int, _: int) -> Any:
    if -EXACT <= value <= EXACT:
        return int(value)
    if not -INT64 <= value < INT64:
        raise Refused("out of the range of 64 bits")
    return {"$numberLong": str(int(value))}


def _double(value: float, _: int) -> Any:
    if value != value:
        return {"$numberDouble": "NaN"}
    if value in (float("inf"), float("-inf")):
        return {"$numberDouble": "Infinity" if value > 0 else "-Infinity"}
    if value.is_integer() and -EXACT <= value <= EXACT:
        return {"$numberDouble": "-0.0"} if value == 0 and str(value)[0] == "-" else int(value)
    return value


def _date(value: datetime, _: int) -> Any:
    """The specification's relaxed form where it has one: years 1970 to 9999."""
    when = moment(value)
    if when.year < 1970:
        return {"$date": {"$numberLong": str(to_millis(when))}}
    return {"$date": when.isoformat(timespec="milliseconds" if when.microsecond else "seconds")[:-6] + "Z"}


def _far_date(value: DatetimeMS, _: int) -> Any:
    return {"$date": {"$numberLong": str(int(value))}}


def _binary(value: bytes, _: int) -> Any:
    subtype = value.subtype if isinstance(value, Binary) else 0
    return {"$binary": {"base64": base64.b64encode(value).decode(), "subType": f"{subtype:02x}"}}


def _uuid(value: uuid.UUID, depth: int) -> Any:
    return _binary(Binary(value.bytes, UUID_SUBTYPE), depth)


def _regex(value: Regex[Any], _: int) -> Any:
    pattern = value.pattern if isinstance(value.pattern, str) else value.pattern.decode()
    options = "".join(letter for letter, flag in _FLAGS if value.flags & flag)
    return {"$regularExpression": {"pattern": text(pattern), "options": options}}


def _code(value: Code, depth: int) -> Any:
    code = {"$code": text(str(value))}
    return code if value.scope is None else {**code, "$scope": _object(value.scope, depth)}


def _reference(value: DBRef, depth: int) -> Any:
    return {key: from_bson(part, depth + 1) for key, part in value.as_doc().items()}


def _object(value: Mapping[str, Any], depth: int) -> Any:
    result = _plain_object(value, depth, from_bson)
    if any(key[:1] == "$" for key in result) and is_marker(result):
        raise Refused("an object that would be read as Extended JSON")
    return result


def _plain_object(value: Mapping[str, Any], depth: int, convert: Callable[[Any, int], Any]) -> dict[str, Any]:
    _check_depth(depth)
    result = {}
    key: Any = ""
    try:
        for key, item in value.items():
            result[text(key)] = convert(item, depth + 1)
    except Refused as error:
        raise error.under(key) from error.__cause__
    return result


def _list(value: list[Any] | tuple[Any, ...], depth: int) -> Any:
    return _plain_list(value, depth, from_bson)


def _plain_list(value: list[Any] | tuple[Any, ...], depth: int, convert: Callable[[Any, int], Any]) -> list[Any]:
    _check_depth(depth)
    result: list[Any] = []
    try:
        for item in value:
            result.append(convert(item, depth + 1))
    except Refused as error:
        raise error.under(len(result)) from error.__cause__
    return result


def _check_depth(depth: int) -> None:
    if depth >= DEPTH:
        raise Refused(f"nested deeper than {DEPTH} levels")


_WRITERS: Final[dict[type, Callable[[Any, int], Any]]] = {
    type(None): lambda value, _: value,
    bool: lambda value, _: value,
    Code: _code,
    str: lambda value, _: text(str(value)),
    Int64: _integer,
    int: _integer,
    float: _double,
    datetime: _date,
    DatetimeMS: _far_date,
    ObjectId: lambda value, _: {"$oid": str(value)},
    Decimal128: lambda value, _: {"$numberDecimal": str(value)},
    bytes: _binary,
    Binary: _binary,
    uuid.UUID: _uuid,
    Regex: _regex,
    Timestamp: lambda value, _: {"$timestamp": {"t": value.time, "i": value.inc}},
    MinKey: lambda value, _: {"$minKey": 1},
    MaxKey: lambda value, _: {"$maxKey": 1},
    DBRef: _reference,
    dict: _object,
    list: _list,
    tuple: _list,
    Mapping: _object,
}


# To BSON.


def to_bson(value: Any, depth: int = 0) -> Any:
    """The BSON value of a Json field's value, markers included. A marker that does not hold what it should is refused."""
    if isinstance(value, dict):
        if any(key[:1] == "$" for key in value) and is_marker(value):
            return read_marker(value, lambda parts: _plain_object(parts, depth, to_bson))
        return _plain_object(value, depth, to_bson)
    if isinstance(value, list):
        return _plain_list(value, depth, to_bson)
    return _scalar(value)


def _scalar(value: Any) -> Any:
    kind = type(value)
    if kind is str:
        return text(value)
    if value is None or kind is bool:
        return value
    if kind is int:
        return value if -EXACT <= value <= EXACT else _rounded(value)
    if kind is float:
        if value - value != 0:
            raise Refused("not a finite number")
        return int(value) if value.is_integer() and -EXACT <= value <= EXACT else value
    raise Refused(f"JSON has no word for {word(value)}")


def _rounded(value: int) -> float:
    """JSON's numbers are doubles, however many digits they are written with."""
    try:
        return float(value)
    except OverflowError as error:
        raise Refused("out of the range of a double") from error


# From JSON.


def canonical(value: Any) -> Any:
    """A stored Json value as `from_bson` would have written it: numbers as doubles, markers in their one form."""
    kind = type(value)
    if kind is dict:
        if any(key[:1] == "$" for key in value) and is_marker(value):
            return from_bson(to_bson(value))
        return {key: canonical(item) for key, item in value.items()}
    if kind is list:
        return [canonical(item) for item in value]
    return _scalar(value) if kind is int or kind is float else value


def users(value: Any, depth: int = 0) -> Any:
    """A user's JSON, to be stored as it is. What would be read as a marker is refused."""
    if isinstance(value, dict):
        if any(isinstance(key, str) and key[:1] == "$" for key in value) and is_marker(value):
            raise Refused("an object that would be read as Extended JSON")
        return _plain_object(value, depth, users)
    if isinstance(value, list):
        return _plain_list(value, depth, users)
    return _scalar(value)
