"""What the schema says of a model's fields: their names, which of them a new document needs, what they can hold."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from config.model import LegacyType
from config.schema import Field, Model, Schema

_LEGACY_FORMS: Final[Mapping[str, tuple[LegacyType, ...]]] = {
    "String": ("string", "objectId", "uuid", "int32", "int64"),
    "Enum": ("string",),
    "Int": ("int32", "int64", "double", "decimal128", "string"),
    "BigInt": ("int32", "int64", "double", "decimal128", "string", "timestamp"),
    "Float": ("double", "int32", "int64", "decimal128"),
    "Decimal": ("decimal128", "double", "string", "int32", "int64"),
    "Boolean": ("bool",),
    "DateTime": ("date", "string", "int64", "double", "timestamp"),
    "Bytes": ("binary",),
    "Json": (),
}


def legacy_forms(field: Field) -> tuple[LegacyType, ...]:
    """The BSON types that a field's value can have on the legacy side; none: it is embedded as it is."""
    return _LEGACY_FORMS["Enum" if field.kind == "enum" else field.type]


def entity_models(schema: Schema) -> list[str]:
    """The models that an entity may have: all but the proxy's own."""
    return [name for name in schema.models if not name.startswith("Strangler")]


def stored(model: Model) -> list[str]:
    """The names of the fields that are columns."""
    return [field.name for field in model.stored()]


def needed_to_create(model: Model) -> list[str]:
    """The fields without which no document can be made: not the id, which the proxy makes."""
    return [
        field.name
        for field in model.stored()
        if field.required
        and field.default is None
        and not (field.updated_at or field.is_list or field.name in model.ids)
    ]


def expected(field: Field, schema: Schema, value: Any) -> str | None:
    """What the field takes, when it does not take the value; None when it does. Dates are ISO 8601 with an offset."""
    if value is None:
        return f"a value: {field.name} cannot be null" if field.required else None
    if field.is_list:
        if not isinstance(value, list):
            return "a list"
        return next((problem for item in value if (problem := _one(field, schema, item))), None)
    return _one(field, schema, value)


def expected_text(field: Field, schema: Schema, text: str) -> str | None:
    """The same for a value that arrives as text, as those of a path, a query or the environment do."""
    if field.is_list:
        return "a list, which text cannot be"
    try:
        value = _from_text(field, text)
    except ValueError:
        value = text
    return _one(field, schema, value)


def _from_text(field: Field, text: str) -> Any:
    match field.type:
        case "Int" | "BigInt":
            return int(text)
        case "Float":
            return float(text)
        case "Boolean":
            return {"true": True, "false": False}.get(text, text)
        case "Json":
            return json.loads(text)
    return text


def _one(field: Field, schema: Schema, value: Any) -> str | None:
    if field.kind == "enum":
        values = schema.enums[field.type]
        return None if value in values else f"one of {', '.join(values)}"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match field.type:
        case "String":
            return None if isinstance(value, str) else "text"
        case "Boolean":
            return None if isinstance(value, bool) else "true or false"
        case "Int":
            return None if number and isinstance(value, int) and -(2**31) <= value < 2**31 else "a 32-bit whole number"
        case "BigInt":
            return None if number and isinstance(value, int) and -(2**63) <= value < 2**63 else "a 64-bit whole number"
        case "Float":
            return None if number else "a number"
        case "Decimal":
            return None if number or _is(Decimal, value) else "a decimal number"
        case "DateTime":
            return None if _is(_instant, value) else "a date and time such as 2026-01-31T12:00:00Z"
        case "Bytes":
            return None if _is(lambda text: b64decode(text, validate=True), value) else "bytes in base64"
    return None


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError("no offset")
    return instant


def _is(parse: Any, value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        parse(value)
    except (ValueError, InvalidOperation):
        return False
    return True
