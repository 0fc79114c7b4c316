"""Arguments on their way to the engine: what JSON has no word for is tagged, what would change is refused."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final

from adapters.engine.errors import Invalid

_SAFE: Final = 2**53 - 1
_INT64: Final = 2**63
_CHARACTERS_OF_15_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class Json:
    """The value of a Json field: anything that JSON can say. `Json(None)` is JSON's null, `None` the database's."""

    value: Any


@dataclass(frozen=True, slots=True)
class JsonText:
    """The same by its text, which the database will check."""

    text: str


def wire(value: Any) -> Any:
    """A copy of the arguments that any JSON writer can write. Raises Invalid for what would not arrive as it is."""
    encode = _ENCODERS.get(type(value))
    return encode(value) if encode is not None else _other(value)


def _same(value: Any) -> Any:
    return value


def _integer(value: int) -> Any:
    if -_SAFE <= value <= _SAFE:
        return value
    if -_INT64 <= value < _INT64:
        return {"$type": "BigInt", "value": str(value)}
    raise Invalid("an integer is beyond 64 bits")


def _number(value: float) -> Any:
    if not math.isfinite(value):
        raise Invalid("a number is not finite")
    digits = repr(value)
    # Prisma's query compiler rounds a number to 16 digits, but takes a decimal for a Float as it is.
    return value if len(digits) <= _CHARACTERS_OF_15_DIGITS else {"$type": "Decimal", "value": digits}


def _datetime(value: datetime) -> Any:
    # Naive means UTC; what is finer than a millisecond is cut off, as Prisma's DateTime does.
    aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    text = aware.replace(tzinfo=None).isoformat(timespec="milliseconds")
    return {"$type": "DateTime", "value": f"{text}Z"}


def _decimal(value: Decimal) -> Any:
    if not value.is_finite():
        raise Invalid("a decimal is not finite")
    return {"$type": "Decimal", "value": format(value, "f")}


def _bytes(value: bytes | bytearray | memoryview) -> Any:
    return {"$type": "Bytes", "value": base64.b64encode(value).decode("ascii")}


def _json(value: Json) -> Any:
    try:
        text = json.dumps(value.value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise Invalid(f"not a JSON value: {error}") from None
    return {"$type": "Json", "value": text}


def _json_text(value: JsonText) -> Any:
    return {"$type": "Json", "value": value.text}


def _list(value: Any) -> Any:
    return [wire(item) for item in value]


def _mapping(value: Mapping[str, Any]) -> Any:
    if "$type" in value:
        raise Invalid("$type is not a field")
    return {key: wire(item) for key, item in value.items()}


def _other(value: Any) -> Any:
    if isinstance(value, Enum):
        return wire(value.value)
    for kind, encode in _ENCODERS.items():
        if isinstance(value, kind):
            return encode(value)
    if isinstance(value, Mapping):
        return _mapping(value)
    raise Invalid(f"a {type(value).__name__} is no argument")


_ENCODERS: Final[Mapping[type, Callable[[Any], Any]]] = {
    str: str,
    bool: _same,
    type(None): _same,
    int: _integer,
    float: _number,
    dict: _mapping,
    list: _list,
    tuple: _list,
    datetime: _datetime,
    date: date.isoformat,
    Decimal: _decimal,
    bytes: _bytes,
    bytearray: _bytes,
    memoryview: _bytes,
    Json: _json,
    JsonText: _json_text,
    set: _list,
    frozenset: _list,
}
