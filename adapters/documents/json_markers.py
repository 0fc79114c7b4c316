"""MongoDB Extended JSON v2: the objects that say what JSON has no word for, and the BSON values that they stand for."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from bson import DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.binary import Binary
from bson.code import Code
from bson.datetime_ms import DatetimeMS
from bson.errors import InvalidId

from adapters.documents.texts import EPOCH
from adapters.documents.values import INT64, Refused, moment

_SHAPES: Final = frozenset(
    frozenset(shape)
    for shape in (
        ["$oid"],
        ["$date"],
        ["$numberLong"],
        ["$numberDouble"],
        ["$numberDecimal"],
        ["$binary"],
        ["$regularExpression"],
        ["$timestamp"],
        ["$code"],
        ["$code", "$scope"],
        ["$minKey"],
        ["$maxKey"],
    )
)


def is_marker(value: Mapping[str, Any]) -> bool:
    """Whether the keys are those of a marker, whatever its values."""
    return ("$ref" in value and "$id" in value) or frozenset(value) in _SHAPES


def read_marker(value: dict[str, Any], parts: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """The BSON value of a marker; `parts` converts what stands inside a reference or a scope. Raises Refused where the
    marker does not hold what it should."""
    name = "$ref" if "$ref" in value else next(key for key in value if key != "$scope")
    try:
        match name:
            case "$ref":
                rest = parts(value)
                return DBRef(_string(rest.pop("$ref")), rest.pop("$id"), rest.pop("$db", None), rest)
            case "$code":
                return Code(_string(value["$code"]), parts(value["$scope"]) if "$scope" in value else None)
        return _READERS[name](value[name])
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError, InvalidId, binascii.Error) as error:
        raise Refused(f"not a well-formed {name} of Extended JSON") from error


def _read_date(value: Any) -> Any:
    if isinstance(value, str):
        return moment(datetime.fromisoformat(value))
    milliseconds = int(_read_long(value["$numberLong"]))
    try:
        return EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return DatetimeMS(milliseconds)


def _read_long(value: Any) -> Int64:
    number = int(_string(value))
    if not -INT64 <= number < INT64:
        raise ValueError("beyond 64 bits")
    return Int64(number)


def _read_binary(value: Any) -> Any:
    data = base64.b64decode(_string(value["base64"]), validate=True)
    subtype = int(_string(value["subType"]), 16)
    return Binary(data, subtype) if subtype else data


def _read_timestamp(value: Any) -> Timestamp:
    return Timestamp(int(value["t"]), int(value["i"]))


def _read_regex(value: Any) -> Regex[str]:
    return Regex(_string(value["pattern"]), _string(value["options"]))


def _string(value: Any) -> str:
    if type(value) is not str:
        raise TypeError("not a string")
    return value


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "$oid": lambda value: ObjectId(_string(value)),
    "$date": _read_date,
    "$numberLong": _read_long,
    "$numberDouble": lambda value: float(_string(value)),
    "$numberDecimal": lambda value: Decimal128(_string(value)),
    "$binary": _read_binary,
    "$regularExpression": _read_regex,
    "$timestamp": _read_timestamp,
    "$minKey": lambda value: MinKey(),
    "$maxKey": lambda value: MaxKey(),
}
