"""Bodies of the old endpoint, to and from canonical documents. What is wrong is named as the body names it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from adapters.documents import body_values
from adapters.documents.paths import ABSENT, place
from adapters.documents.slots import Slot, elementwise, finder
from adapters.documents.splitting import join
from adapters.documents.stringified import stringified
from adapters.documents.values import Convert, Refused
from adapters.side import Document, Invalid
from config.schema import DefaultCall


class Bodies:
    def __init__(self, slots: Sequence[Slot]) -> None:
        self._slots = [_Entry(slot) for slot in slots]
        self._by_name = {entry.slot.name: entry for entry in self._slots}
        self._unasked = frozenset(slot.name for slot in slots if _is_own_business(slot))
        self._printed_otherwise = [slot for slot in slots if slot.field.type in ("Json", "Float") and not slot.always]

    def from_body(
        self, value: Any, *, partial: bool, accepts: Collection[str] | None, given: Collection[str] = ()
    ) -> Document:
        if not isinstance(value, dict):
            raise Invalid("body", "is not an object")
        document: Document = {}
        for entry in self._slots:
            slot = entry.slot
            if slot.name in given or (slot.name in self._unasked if accepts is None else slot.name not in accepts):
                continue
            try:
                found = entry.find(value)
                if found is not ABSENT:
                    document[slot.name] = slot.nothing() if found is None else entry.strict(found)
                elif not partial and needed(slot):
                    raise Refused("is required")
            except Refused as error:
                raise error.invalid(slot.body_name) from error
        return document

    def document_from_answer(self, value: Any) -> Document:
        if not isinstance(value, dict):
            raise Invalid("body", "is not an object")
        document: Document = {}
        for entry in self._slots:
            slot = entry.slot
            try:
                found = entry.find(value)
                if found is not None and found is not ABSENT:
                    document[slot.name] = entry.lenient(found)
                else:
                    document[slot.name] = [] if slot.field.is_list else None
            except Refused as error:
                raise error.invalid(slot.body_name) from error
        return document

    def to_body(self, document: Mapping[str, Any]) -> dict[str, Any]:
        body: dict[str, Any] = {}
        joined: dict[tuple[str, ...], list[_Entry]] = {}
        for entry in self._slots:
            slot = entry.slot
            if slot.body_cut:
                joined.setdefault(slot.body, []).append(entry)
                continue
            value = document.get(slot.name)
            if value is None and not slot.always:
                continue
            try:
                stored = slot.stored(value)
            except Refused as error:
                raise error.invalid(slot.name) from error
            if stored is not None:
                if len(slot.body) == 1:
                    body[slot.body[0]] = stringified(stored)
                else:
                    place(body, slot.body, stringified(stored))
        for path, entries in joined.items():
            self._place_joined(body, path, entries, document)
        return body

    def answered(self, document: Document) -> Document:
        """The document as `document_from_answer` reads it back from `to_body`."""
        answered = dict(document)
        for slot in self._printed_otherwise:
            value = document.get(slot.name)
            if value is not None:
                try:
                    answered[slot.name] = body_values.plain_json(stringified(slot.write(value)))
                except Refused as error:
                    raise error.invalid(slot.name) from error
        return answered

    def parse(self, name: str, value: Any) -> Any:
        entry = self._by_name.get(name)
        if entry is None:
            raise Invalid(name, "no such field")
        slot = entry.slot
        try:
            if value is None:
                return slot.nothing()
            if isinstance(value, str):
                return entry.text(value)
            return slot.check(value) if isinstance(value, datetime | Decimal | bytes) else entry.strict_value(value)
        except Refused as error:
            raise error.invalid(slot.body_name) from error

    def _place_joined(
        self, body: dict[str, Any], path: tuple[str, ...], entries: list[_Entry], document: Mapping[str, Any]
    ) -> None:
        parts = sorted(entries, key=lambda entry: entry.slot.body_cut.part if entry.slot.body_cut else 0)
        cut = parts[0].slot.body_cut
        if cut is None:
            return
        try:
            whole = join(cut.by, [entry.slot.stored(document.get(entry.slot.name)) for entry in parts])
        except Refused as error:
            raise error.invalid(parts[0].slot.name) from error
        if whole is not None:
            place(body, path, whole)


def needed(slot: Slot) -> bool:
    """Whether a create has to be told the field's value: nothing else gives it one."""
    field = slot.field
    return field.required and not (field.is_list or field.id or field.updated_at or field.default is not None)


class _Entry:
    """A slot with its readers of bodies. `strict_value` takes no value for one of the legacy side's."""

    __slots__ = ("find", "lenient", "slot", "strict", "strict_value", "text")

    def __init__(self, slot: Slot) -> None:
        kind = "Enum" if slot.field.kind == "enum" else slot.field.type
        self.slot = slot
        self.find: Callable[[Any], Any] = finder(slot.body, slot.body_cut)
        self.strict_value = _whole(slot, body_values.strict(kind, slot.legacy))
        self.text = _whole(slot, body_values.from_text(kind, slot.legacy))
        self.strict = slot.read if slot.always else self.strict_value
        self.lenient = slot.read if slot.always else _from_answer(slot, body_values.lenient(kind, slot.legacy))


def _whole(slot: Slot, convert: Convert) -> Convert:
    check = slot.check
    one = elementwise(convert) if slot.field.is_list else convert
    return lambda value: check(one(value))


def _from_answer(slot: Slot, convert: Convert) -> Convert:
    """Null in a list is what JSON has for NaN and for what was null in the collection: it stays, to be compared. Json
    is what was printed: what looks like a marker there is only an object."""
    if slot.field.type == "Json":
        return elementwise(convert, nulls=True) if slot.field.is_list else convert
    if not slot.field.is_list:
        return _whole(slot, convert)
    check = slot.check

    def checked(item: Any) -> Any:
        [value] = check([convert(item)])
        return value

    return elementwise(checked, nulls=True)


def _is_own_business(slot: Slot) -> bool:
    """Ids and times of creation and change: nobody is asked for them unless the route says so."""
    field = slot.field
    return field.id or field.updated_at or field.default == DefaultCall("now")
