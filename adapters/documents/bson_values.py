"""BSON values as PyMongo gives them, to and from canonical values: one pair of functions a Prisma type and BSON type.

Reading accepts every BSON number that the Prisma type can hold, whatever the declared type: collections that grew over
the years mix Int32, Int64 and Double. Writing uses the declared type, and what the Prisma type implies where none is:

    String string · Int int32 · BigInt int64 · Float double · Decimal decimal128 · Boolean bool · DateTime date ·
    Bytes binary (subtype 0) · Json embedded · an enum string
"""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, DecimalException
from typing import Any, Final

from bson import Decimal128, Int64, ObjectId, Timestamp
from bson.binary import UUID_SUBTYPE, Binary, UuidRepresentation

from adapters.documents import extended_json
from adapters.documents.texts import EPOCH, iso, millis_date, parse_date, parse_decimal, parse_integer, to_millis
from adapters.documents.values import EXACT, INT32, INT64, Convert, Refused, moment, number, object_id, wrong
from config.model import LegacyType


@dataclass(frozen=True, slots=True)
class Codec:
    """`read` turns what a store holds into a value of the canonical type, `write` a canonical value into what it stores."""

    read: Convert
    write: Convert


def bson_codec(prisma_type: str, legacy: LegacyType | None) -> Codec:
    """For one value of a scalar type (`Enum` for every enum). Raises KeyError where the type has no such form in BSON."""
    return _CODECS[prisma_type, legacy]


def default_type(prisma_type: str) -> LegacyType | None:
    """The BSON type that the Prisma type implies; None for Json, which is embedded."""
    return _DEFAULTS[prisma_type]


def forms(prisma_type: str) -> list[str]:
    """The BSON types that `legacy` may name for the Prisma type."""
    return sorted(legacy for its, legacy in _CODECS if its == prisma_type and legacy)


# Reading


def as_is(value: Any) -> Any:
    return value


def _object_id(value: Any) -> str:
    if not isinstance(value, ObjectId):
        raise wrong("an ObjectId", value)
    return str(value)


def _uuid_text(value: Any) -> str:
    if isinstance(value, Binary) and value.subtype == UUID_SUBTYPE and len(value) == 16:
        return str(value.as_uuid(UuidRepresentation.STANDARD))
    if isinstance(value, uuid.UUID):
        return str(value)
    raise wrong("a UUID (binary of subtype 4)", value)


def _whole(value: Any) -> int:
    kind = type(value)
    if kind is int:
        return int(value)
    if kind is Int64:
        return int(value)
    if kind is float:
        if not value.is_integer():  # False for NaN and the infinities too
            raise Refused("expected an integer, got a number with a fraction")
        return int(value)
    if kind is Decimal128:
        return int(_whole_decimal(value.to_decimal()))
    raise wrong("an integer", value)


def _whole_decimal(value: Decimal) -> Decimal:
    if not value.is_finite() or value.adjusted() > 20 or value != value.to_integral_value():
        raise Refused("expected an integer, got another decimal")
    return value


def _whole_text(value: Any) -> int:
    if type(value) is not str:
        return _whole(value)
    return parse_integer(value)


def _integer_text(value: Any) -> str:
    return str(_within_int64(_whole(value)))


def _within_int64(value: int) -> int:
    if not -INT64 <= value < INT64:
        raise Refused("out of the range of 64 bits")
    return value


def _double(value: Any) -> float:
    if type(value) is Int64:
        return number(int(value))
    return number(value)


def _decimal128_double(value: Any) -> float:
    if not isinstance(value, Decimal128):
        return _double(value)
    decimal = value.to_decimal()
    return math.nan if decimal.is_nan() else _nearest_double(decimal)


def _decimal(value: Any) -> Decimal:
    kind = type(value)
    if kind is Decimal128:
        return Decimal(value.to_decimal())
    if kind is int or kind is Int64:
        return Decimal(int(value))
    if kind is float:
        return Decimal(repr(value))
    raise wrong("a decimal", value)


def _decimal_text(value: Any) -> Decimal:
    return parse_decimal(value) if type(value) is str else _decimal(value)


def _date_text(value: Any) -> datetime:
    return parse_date(value) if type(value) is str else moment(value)


def _date_millis(value: Any) -> datetime:
    return millis_date(_whole(value)) if type(value) in (int, Int64, float) else moment(value)


def _timestamp_date(value: Any) -> datetime:
    if not isinstance(value, Timestamp):
        raise wrong("a timestamp", value)
    return EPOCH + timedelta(seconds=value.time)


def _timestamp_number(value: Any) -> int:
    if not isinstance(value, Timestamp):
        raise wrong("a timestamp", value)
    return value.time << 32 | value.inc


def _binary(value: Any) -> bytes:
    if isinstance(value, Binary) and value.subtype:
        raise Refused(f"expected binary of subtype 0, got subtype {value.subtype}")
    return bytes(value) if isinstance(value, bytes) else value


# Writing


def to_object_id(value: Any) -> ObjectId:
    return ObjectId(object_id(value))


def _to_uuid(value: Any) -> Binary:
    try:
        parsed = uuid.UUID(value)
    except ValueError as error:
        raise Refused("expected a UUID") from error
    if str(parsed) != value:
        raise Refused("expected a UUID in lower case with dashes")
    return Binary.from_uuid(parsed)


def _to_integer_text(value: Any) -> int:
    number = parse_integer(value)
    if str(number) != value:
        raise Refused("expected an integer in decimal digits, none of them more than needed")
    return _within_int64(number)


def _to_int64_text(value: Any) -> Int64:
    return Int64(_to_integer_text(value))


def _to_int32(value: Any) -> int:
    """PyMongo writes an int as int32 where it fits, as int64 where not."""
    return int(value)


def _to_whole(value: Any) -> int:
    """From Float or Decimal."""
    if value - value != 0 or value != int(value) or not -INT64 <= value < INT64:
        raise Refused("not an integer within 64 bits")
    return int(value)


def _to_whole64(value: Any) -> Int64:
    return Int64(_to_whole(value))


def _to_decimal128(value: Any) -> Decimal128:
    try:
        return Decimal128(value if isinstance(value, Decimal) else repr(value))
    except DecimalException as error:
        raise Refused("more than the 34 digits of a Decimal128") from error


def _nearest_double(value: Any) -> float:
    """Of a decimal that is what the double prints as: one with more digits, or beyond a double's range, is refused."""
    result = float(value)
    if Decimal(repr(result)) != value:
        raise Refused("a decimal that a double cannot hold")
    return result


def _to_iso(value: Any) -> str:
    return iso(value)


def _to_millis64(value: Any) -> Int64:
    return Int64(to_millis(value))


def _to_millis_double(value: Any) -> float:
    return float(to_millis(value))


def _to_timestamp(value: Any) -> Timestamp:
    millis = to_millis(value)
    if millis % 1000 or not 0 <= millis // 1000 < 1 << 32:
        raise Refused("not a whole second from 1970 to 2106, all that a BSON timestamp holds")
    return Timestamp(millis // 1000, 0)


def _number_to_timestamp(value: Any) -> Timestamp:
    if value < 0:
        raise Refused("a negative number is no BSON timestamp")
    return Timestamp(value >> 32, value & 0xFFFFFFFF)


def _exact_double(value: Any) -> float:
    if not -EXACT <= value <= EXACT and int(float(value)) != value:
        raise Refused("an integer that a double cannot hold exactly")
    return float(value)


def _fits_int32(value: Any) -> int:
    if not -INT32 <= value < INT32:
        raise Refused("out of the range of 32 bits")
    return int(value)


_DEFAULTS: Final[dict[str, LegacyType | None]] = {
    "String": "string",
    "Enum": "string",
    "Int": "int32",
    "BigInt": "int64",
    "Float": "double",
    "Decimal": "decimal128",
    "Boolean": "bool",
    "DateTime": "date",
    "Bytes": "binary",
    "Json": None,
}

_CODECS: Final[dict[tuple[str, LegacyType | None], Codec]] = {
    ("String", "string"): Codec(as_is, as_is),
    ("String", "objectId"): Codec(_object_id, to_object_id),
    ("String", "uuid"): Codec(_uuid_text, _to_uuid),
    ("String", "int32"): Codec(_integer_text, lambda value: _fits_int32(_to_integer_text(value))),
    ("String", "int64"): Codec(_integer_text, _to_int64_text),
    ("Enum", "string"): Codec(as_is, as_is),
    ("Int", "int32"): Codec(_whole, _to_int32),
    ("Int", "int64"): Codec(_whole, Int64),
    ("Int", "double"): Codec(_whole, float),
    ("Int", "decimal128"): Codec(_whole, lambda value: Decimal128(str(value))),
    ("Int", "string"): Codec(_whole_text, str),
    ("BigInt", "int32"): Codec(_whole, _to_int32),
    ("BigInt", "int64"): Codec(_whole, Int64),
    ("BigInt", "double"): Codec(_whole, _exact_double),
    ("BigInt", "decimal128"): Codec(_whole, lambda value: Decimal128(str(value))),
    ("BigInt", "string"): Codec(_whole_text, str),
    ("BigInt", "timestamp"): Codec(_timestamp_number, _number_to_timestamp),
    ("Float", "double"): Codec(_double, float),
    ("Float", "int32"): Codec(_double, _to_whole),
    ("Float", "int64"): Codec(_double, _to_whole64),
    ("Float", "decimal128"): Codec(_decimal128_double, _to_decimal128),
    ("Decimal", "decimal128"): Codec(_decimal, _to_decimal128),
    ("Decimal", "double"): Codec(_decimal, _nearest_double),
    ("Decimal", "string"): Codec(_decimal_text, lambda value: format(value, "f")),
    ("Decimal", "int32"): Codec(_decimal, _to_whole),
    ("Decimal", "int64"): Codec(_decimal, _to_whole64),
    ("Boolean", "bool"): Codec(as_is, as_is),
    ("DateTime", "date"): Codec(as_is, as_is),
    ("DateTime", "string"): Codec(_date_text, _to_iso),
    ("DateTime", "int64"): Codec(_date_millis, _to_millis64),
    ("DateTime", "double"): Codec(_date_millis, _to_millis_double),
    ("DateTime", "timestamp"): Codec(_timestamp_date, _to_timestamp),
    ("Bytes", "binary"): Codec(_binary, as_is),
    ("Json", None): Codec(extended_json.from_bson, extended_json.to_bson),
}
