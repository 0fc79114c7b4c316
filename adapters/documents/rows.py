"""Rows of the Prisma side, to and from canonical documents: as Prisma Client answers and takes them, and as SQL takes them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, Final

import orjson

from adapters.documents import extended_json
from adapters.documents.slots import Slot, elementwise
from adapters.documents.values import Convert, Refused, moment
from adapters.engine.values import Json
from adapters.side import Document, Invalid
from config.schema import Field


class Rows:
    """`from_row` is on the path of every read: fields that need no conversion are only looked up."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        fields = [slot.field for slot in slots]
        self._names = [field.name for field in fields]
        self._lists = [field.name for field in fields if field.is_list]
        self._read = [(field.name, _each(field, _FROM_ROW[field.type])) for field in fields if field.type in _FROM_ROW]
        self._checks = {slot.name: slot for slot in slots}
        self._json = frozenset(field.name for field in fields if field.type == "Json")
        self._columns = [
            (field.name, field.column, _to_sql(field), slot) for field, slot in zip(fields, slots, strict=True)
        ]

    def from_row(self, row: Mapping[str, Any]) -> Document:
        get = row.get
        document = {name: get(name) for name in self._names}
        for name, convert in self._read:
            value = document[name]
            if value is not None:
                try:
                    document[name] = convert(value)
                except Refused as error:
                    raise error.invalid(name) from error
        for name in self._lists:
            if document[name] is None:
                document[name] = []
        return document

    def from_record(self, record: Any) -> Document:
        return self.from_row({name: _plain(getattr(record, name)) for name in self._names})

    def to_row(self, document: Mapping[str, Any]) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for name, value in document.items():
            slot = self._checks.get(name)
            if slot is None:
                raise Invalid(name, "no such field")
            try:
                checked = slot.nothing() if value is None else slot.check(value)
            except Refused as error:
                raise error.invalid(name) from error
            row[name] = _wrapped(checked) if name in self._json and checked is not None else checked
        return row

    def sql_row(self, document: Mapping[str, Any]) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for name, column, convert, slot in self._columns:
            value = document.get(name)
            if value is None:
                try:
                    row[column] = slot.nothing()
                except Refused as error:
                    raise error.invalid(name) from error
            else:
                row[column] = convert(value) if convert else value
        return row


def _each(field: Field, convert: Convert) -> Convert:
    return elementwise(convert) if field.is_list else convert


def _wrapped(value: Any) -> Any:
    return [Json(item) for item in value] if isinstance(value, list) else Json(value)


def _plain(value: Any) -> Any:
    """A value of a record of the Python client as the engine would have sent it."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _date(value: Any) -> datetime:
    try:
        return moment(datetime.fromisoformat(value) if type(value) is str else value)
    except ValueError as error:
        raise Refused("a date out of the range 0001 to 9999") from error


def _decimal(value: Any) -> Decimal:
    try:
        return value if isinstance(value, Decimal) else Decimal(value)
    except (InvalidOperation, TypeError) as error:
        raise Refused("not a decimal") from error


def _bytes(value: Any) -> bytes:
    try:
        return value if type(value) is bytes else base64.b64decode(str(value), validate=True)
    except binascii.Error as error:
        raise Refused("not base64") from error


_FROM_ROW: Final[dict[str, Convert]] = {
    "BigInt": int,
    "Float": float,  # JavaScript prints a large double as an integer, of digits that are not all its own
    "Decimal": _decimal,
    "DateTime": _date,
    "Bytes": _bytes,
    "Json": extended_json.canonical,
}


def _to_sql(field: Field) -> Convert | None:
    """What `json_populate_recordset` reads as the value; None: the canonical value itself."""
    if field.type == "Json" and field.is_list:
        return _sql_json_array
    one = _one_to_sql(field)
    return one and _each(field, one)


def _one_to_sql(field: Field) -> Convert | None:
    """Numbers beyond 2^53 and decimals travel as text, so that no reader of the JSON on the way can round them. SQL has the
    labels of an enum, Prisma Client its names."""
    if field.labels:
        return dict(field.labels).__getitem__
    match field.type:
        case "BigInt" | "Decimal":
            return str
        case "Float":
            return _sql_float
        case "DateTime":
            return _sql_instant if field.native[:1] == ("Timestamptz",) else _sql_moment
        case "Bytes":
            return _sql_bytes
    return None


def _sql_float(value: float) -> Any:
    if value - value == 0:
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def _sql_moment(value: datetime) -> str:
    return value.replace(tzinfo=None).isoformat(timespec="milliseconds")


def _sql_instant(value: datetime) -> str:
    return value.isoformat(timespec="milliseconds")


def _sql_bytes(value: bytes) -> str:
    return "\\x" + value.hex()


def _sql_json_array(values: list[Any]) -> str:
    """As an array literal: in a JSON array, PostgreSQL would take an inner list for the array's second dimension."""
    texts = (orjson.dumps(value).decode().replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return "{" + ",".join(f'"{text}"' for text in texts) + "}"
