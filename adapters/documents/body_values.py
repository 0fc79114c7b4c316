"""JSON values of requests and answers, and texts of paths, queries and claims, to canonical values.

`strict` is for what a client asks the proxy to do: nothing is coerced that is not the same thing written in JSON, so that
an object, and with it an operator, can never stand where a scalar belongs. `lenient` is for what an old server answered:
it also knows the forms that its drivers print. `from_text` is for what has no types.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import uuid
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from adapters.documents import extended_json
from adapters.documents.texts import millis_date, parse_date, parse_decimal, parse_integer
from adapters.documents.values import Convert, Refused, wrong
from config.model import LegacyType

_HEX24: Final = re.compile(r"[0-9a-fA-F]{24}")


def strict(prisma_type: str, legacy: LegacyType | None) -> Convert:
    """For one value; what it gives is still to be checked by the field's canonical check."""
    if prisma_type == "String":
        return {"objectId": _hex, "uuid": _uuid, "int32": _digits, "int64": _digits}.get(legacy or "", _same)
    return _STRICT.get(prisma_type, _same)


def lenient(prisma_type: str, legacy: LegacyType | None) -> Convert:
    if prisma_type == "String" and legacy == "objectId":
        return _reference
    return _LENIENT.get(prisma_type) or strict(prisma_type, legacy)


def from_text(prisma_type: str, legacy: LegacyType | None) -> Convert:
    """For a str. Json takes it as a JSON string."""
    return _TEXT.get(prisma_type) or strict(prisma_type, legacy)


def _same(value: Any) -> Any:
    return value


def _hex(value: Any) -> str:
    if type(value) is not str or not _HEX24.fullmatch(value):
        raise Refused("expected 24 hex digits")
    return value.lower()


def _reference(value: Any) -> str:
    """A populated reference is the document that it refers to."""
    if isinstance(value, Mapping):
        value = value.get("_id", value.get("id", value.get("$oid")))
    return _hex(value)


def _uuid(value: Any) -> str:
    try:
        return str(uuid.UUID(value))
    except (ValueError, AttributeError, TypeError) as error:
        raise Refused("expected a UUID") from error


def _digits(value: Any) -> str:
    return str(parse_integer(value) if type(value) is str else _integer(value))


def _integer(value: Any) -> int:
    if type(value) is float and value.is_integer():
        return int(value)
    if type(value) is not int:
        raise wrong("an integer", value)
    return value


def _big_integer(value: Any) -> int:
    return parse_integer(value) if type(value) is str else _integer(value)


def _number(value: Any) -> float:
    if type(value) is int:
        try:
            return float(value)
        except OverflowError as error:
            raise Refused("out of the range of a double") from error
    if type(value) is not float or not math.isfinite(value):
        raise wrong("a number", value)
    return value


def _decimal(value: Any) -> Decimal:
    if type(value) is str:
        return parse_decimal(value)
    if type(value) is int:
        return Decimal(value)
    if type(value) is not float:
        raise wrong("a decimal number", value)
    return Decimal(repr(value))


def _date(value: Any) -> datetime:
    """ISO 8601, or milliseconds since 1970, as JavaScript's Date takes them."""
    if type(value) is str:
        return parse_date(value)
    return millis_date(_integer_or("a date", value))


def _integer_or(expected: str, value: Any) -> int:
    if type(value) not in (int, float):
        raise wrong(expected, value)
    return _integer(value)


def _bytes(value: Any) -> bytes:
    if type(value) is not str:
        raise wrong("base64", value)
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused("expected base64") from error


_STRICT: Final[dict[str, Convert]] = {
    "Int": _integer,
    "BigInt": _big_integer,
    "Float": _number,
    "Decimal": _decimal,
    "DateTime": _date,
    "Bytes": _bytes,
    "Json": extended_json.users,
}


# Answers


def _marked(value: Any, key: str) -> Any:
    return value[key] if isinstance(value, Mapping) and key in value else value


def _any_integer(value: Any) -> int:
    """Also a Long beyond 2^53, a timestamp and a decimal, as their classes print them."""
    if isinstance(value, Mapping) and type(value.get("low")) is int and type(value.get("high")) is int:
        return int(value["high"]) << 32 | int(value["low"]) & 0xFFFFFFFF
    return _big_integer(_marked(_marked(value, "$timestamp"), "$numberDecimal"))


def _any_number(value: Any) -> float:
    found = _marked(value, "$numberDecimal")
    return float(parse_decimal(found)) if type(found) is str else _number(found)


def _any_date(value: Any) -> datetime:
    found = _marked(value, "$timestamp")
    return _date(found) if found is value else millis_date((parse_integer(str(found)) >> 32) * 1000)


def _any_bytes(value: Any) -> bytes:
    data = value.get("data") if isinstance(value, Mapping) else None
    if isinstance(data, list) and all(type(byte) is int and 0 <= byte < 256 for byte in data):
        return bytes(data)  # a Buffer of Node
    return _bytes(value)


def plain_json(value: Any) -> Any:
    """JSON as JavaScript reads it: every number a double. Markers mean nothing here."""
    if isinstance(value, dict):
        return {key: plain_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain_json(item) for item in value]
    return extended_json.users(value) if type(value) in (int, float) else value


_LENIENT: Final[dict[str, Convert]] = {
    "Int": _any_integer,
    "BigInt": _any_integer,
    "Float": _any_number,
    "Decimal": lambda value: _decimal(_marked(value, "$numberDecimal")),
    "DateTime": _any_date,
    "Bytes": _any_bytes,
    "Json": plain_json,
}


# Texts


def _text_number(value: str) -> float:
    number = float(parse_decimal(value))
    if not math.isfinite(number):
        raise Refused("expected a finite number")
    return number


def _text_boolean(value: str) -> bool:
    if value not in ("true", "false"):
        raise Refused("expected true or false")
    return value == "true"


_TEXT: Final[dict[str, Convert]] = {
    "Int": parse_integer,
    "BigInt": parse_integer,
    "Float": _text_number,
    "Decimal": parse_decimal,
    "Boolean": _text_boolean,
}
