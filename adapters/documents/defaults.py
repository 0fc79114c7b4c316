"""What the Prisma schema fills in by itself, for writes that the proxy performs on the legacy side."""

from __future__ import annotations

import base64
import copy
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from adapters.documents.bodies import needed
from adapters.documents.body_values import from_text, strict
from adapters.documents.slots import Slot
from adapters.documents.values import moment
from adapters.side import Document, Invalid
from config.schema import DefaultCall, Field

Make = Callable[[datetime], Any]


class Defaults:
    def __init__(self, slots: Sequence[Slot]) -> None:
        self._makers = [(slot.name, make) for slot in slots if (make := _maker(slot.field))]
        self._touched = [slot.name for slot in slots if slot.field.updated_at]
        self._needed = [slot for slot in slots if needed(slot)]

    def complete(self, document: Mapping[str, Any], now: datetime) -> Document:
        result = dict(document)
        now = moment(now)
        for name, make in self._makers:
            if name not in result:
                result[name] = make(now)
        for slot in self._needed:
            if result.get(slot.name) is None:
                raise Invalid(slot.body_name, "is required")
        return result

    def touched(self, changes: Mapping[str, Any], now: datetime) -> Document:
        now = moment(now)
        return {**dict.fromkeys(self._touched, now), **changes}


def _maker(field: Field) -> Make | None:
    default = field.default
    if default is None:
        return _now if field.updated_at else _empty_list if field.is_list else None
    if isinstance(default, DefaultCall):
        return {"now": _now, "uuid": _uuid}.get(default.name)
    if field.is_list:
        items = [_constant(field, item) for item in default] if isinstance(default, tuple) else []
        return lambda now: list(items)
    value = _constant(field, default)
    return lambda now: copy.deepcopy(value)  # Json may be changed by whoever gets it


def _constant(field: Field, value: Any) -> Any:
    """Prisma holds constants of types that JSON does not have as text."""
    if field.kind == "enum" or field.type in ("String", "Boolean"):
        return value
    if field.type == "Json":
        return json.loads(value)
    if field.type == "Bytes":
        return base64.b64decode(value)
    return (from_text if isinstance(value, str) and field.type != "DateTime" else strict)(field.type, None)(value)


def _now(now: datetime) -> datetime:
    return now


def _uuid(now: datetime) -> str:
    return str(uuid.uuid4())


def _empty_list(now: datetime) -> list[Any]:
    return []
