"""What to call a BSON value's type: the server's own words for `$type`, and three more: `uuid` (binary of subtype 4),
`binData(n)` (of another subtype than 0) and `dateOutOfRange` (beyond the years 1 to 9999)."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final

from bson import DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.binary import Binary
from bson.code import Code
from bson.datetime_ms import DatetimeMS

_NAMES: Final[dict[type, str]] = {
    type(None): "null",
    bool: "bool",
    int: "int",
    Int64: "long",
    float: "double",
    Decimal128: "decimal",
    str: "string",
    datetime: "date",
    DatetimeMS: "dateOutOfRange",
    ObjectId: "objectId",
    uuid.UUID: "uuid",
    bytes: "binData",
    dict: "object",
    list: "array",
    Timestamp: "timestamp",
    Regex: "regex",
    Code: "javascript",
    DBRef: "dbRef",
    MinKey: "minKey",
    MaxKey: "maxKey",
}

NUMBERS: Final = frozenset({"int", "long", "double", "decimal"})


def type_name(value: Any) -> str:
    """Of a value as PyMongo decodes it."""
    name = _NAMES.get(type(value))
    if name is not None:
        return name
    return f"binData({value.subtype})" if isinstance(value, Binary) else type(value).__name__
