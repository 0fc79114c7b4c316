"""Documents between the two sides: one `Mapper` an entity, compiled from its configuration and the Prisma schema.

What is canonical is said in `adapters.documents.values` and, for Json, in `adapters.documents.extended_json`; which BSON
types there are in `adapters.documents.bson_values`. Every method raises `side.Invalid` for a value that its field cannot
hold, named by its path in the collection, its name in the body, or its field, according to where it came from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from adapters.documents.bodies import Bodies
from adapters.documents.defaults import Defaults
from adapters.documents.legacy_documents import LegacyDocuments
from adapters.documents.rows import Rows
from adapters.documents.slots import RuleError, Slot, compile_slot
from adapters.documents.values import Refused
from adapters.side import Document, Key
from config.model import Entity, FieldRule
from config.schema import Model, Schema

__all__ = ["Mapper", "RuleError"]

_NO_RULE = FieldRule()


class Mapper:
    """Every stored field of the model is mapped, by its rule or by the rule that is implied. `natural` names the field by
    which documents of several collections are known to be one record, where there are several.

    Raises RuleError, on construction, for rules that cannot be followed.
    """

    def __init__(self, entity: Entity, model: Model, schema: Schema) -> None:
        self.model = model
        slots = _slots(entity, model, schema)
        self._slots = {slot.name: slot for slot in slots}
        self._id = self._slots[_key_field(model)]
        self.natural = entity.also[0].by if entity.also else None
        self._field_of = {slot.dotted: slot.name for slot in slots}
        self._legacy = LegacyDocuments([slot for slot in slots if slot.name not in entity.lacks], self._id)
        self._rows = Rows(slots)
        self._bodies = Bodies(slots)
        self._defaults = Defaults(slots)

    # Names

    @property
    def id(self) -> str:
        """The name of the field that holds the key."""
        return self._id.name

    @property
    def key_path(self) -> str:
        """Where the key is in the collection."""
        return self._id.dotted

    def path_of(self, field: str) -> str:
        """Where the collection has the field. Raises Invalid for a part of a string, which has no place of its own."""
        [(path, _)] = self._legacy.order([(field, False)])
        return path

    def field_of(self, path: str) -> str:
        """The field that a path in the collection holds; the path itself where none does."""
        return self._field_of.get(path, path)

    def body_name(self, field: str) -> str:
        """What bodies call the field; its own name where it is no field."""
        slot = self._slots.get(field)
        return slot.body_name if slot else field

    # The legacy collection

    def from_legacy(self, raw: Mapping[str, Any]) -> Document:
        """The canonical form of a raw document, as PyMongo decodes it with aware dates. All fields are present: None
        where the document has null or nothing, [] for lists."""
        return self._legacy.from_legacy(raw)

    def to_legacy(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The whole legacy document, `_id` included, for an insert. Nothing is written for None."""
        return self._legacy.to_legacy(document)

    def legacy_changes(
        self, raw: Mapping[str, Any] | None, document: Mapping[str, Any], only: Collection[str] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The least `$set` and `$unset` after which `raw` maps to `document`: only mapped fields whose canonical value
        differs, so that everything else keeps its value, type and order. Without `raw`, all that an upsert has to set
        beside the key. The key itself is never among them. `only` names the fields that may change."""
        return self._legacy.changes(raw, document, only)

    def holds(self, field: str) -> bool:
        """Whether the collection has the field."""
        return self._legacy.holds(field)

    def legacy_value(self, raw: Mapping[str, Any], field: str) -> Any:
        """The canonical value of one field that the collection has; None where there is nothing."""
        return self._legacy.value_in(raw, field)

    def nothing(self, field: str) -> Any:
        """What stands for a field that is nowhere: None, or []. Raises Invalid where it is required."""
        try:
            return self._slots[field].nothing()
        except Refused as error:
            raise error.invalid(self._slots[field].dotted) from error

    def key_of(self, raw: Mapping[str, Any]) -> Key:
        return self._legacy.key_of(raw)

    def legacy_key(self, key: Key) -> Any:
        """The BSON value of a key."""
        return self._legacy.value(self._id.name, key)

    def legacy_where(self, where: Mapping[str, Any]) -> dict[str, Any]:
        """Equalities as a filter. Values are checked and stand behind `$eq`: none can be an operator."""
        return self._legacy.where(where)

    def legacy_order(self, order: Sequence[tuple[str, bool]]) -> list[tuple[str, int]]:
        """Pairs of field and descending, as pairs of path and 1 or -1."""
        return self._legacy.order(order)

    # The Prisma side

    def from_row(self, row: Mapping[str, Any]) -> Document:
        """From a row as the engine answers it."""
        return self._rows.from_row(row)

    def to_row(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that the document has, checked, as arguments of the engine."""
        return self._rows.to_row(document)

    def sql_row(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Every column, as JSON that `json_populate_recordset` makes the very same row of."""
        return self._rows.sql_row(document)

    # The bodies of the old endpoint

    def from_body(
        self, value: Any, *, partial: bool, accepts: Collection[str] | None = None, given: Collection[str] = ()
    ) -> Document:
        """The fields of a request's body. Unknown ones are ignored. `accepts` names the fields that are read (all but
        the id and the times that the schema sets itself, unless said); `given` those that come from elsewhere.
        Unless `partial`, a required field without default has to be there."""
        return self._bodies.from_body(value, partial=partial, accepts=accepts, given=given)

    def to_body(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The body that the old endpoint would have sent: JSON, as `adapters.documents.stringified` says; None is left out."""
        return self._bodies.to_body(document)

    def record_body(self, record: Any) -> dict[str, Any]:
        """The same of a record of the Python client."""
        return self._bodies.to_body(self._rows.from_record(record))

    def document_from_answer(self, value: Any) -> Document:
        """What an old endpoint's answer says of a document, to compare it with `answered` ones. Fields that it does not
        have are None."""
        return self._bodies.document_from_answer(value)

    def answered(self, document: Document) -> Document:
        """A document as it would be read back from an answer: inside Json, dates, ObjectIds and the like are only
        strings there. Everything else is as it was."""
        return self._bodies.answered(document)

    def parse(self, field: str, value: Any) -> Any:
        """The canonical value of a text from a path, query or claim, or of a JSON or canonical value from elsewhere."""
        return self._bodies.parse(field, value)

    # What the schema fills in

    def defaults(self, document: Mapping[str, Any], now: datetime | None = None) -> Document:
        """With the schema's defaults, for a create that the proxy performs itself. Raises Invalid for a required field
        that has none and is not there."""
        return self._defaults.complete(document, now or datetime.now(UTC))

    def touched(self, changes: Mapping[str, Any], now: datetime | None = None) -> Document:
        """The changes of an update with the `@updatedAt` fields that they do not set themselves."""
        return self._defaults.touched(changes, now or datetime.now(UTC))


def _slots(entity: Entity, model: Model, schema: Schema) -> list[Slot]:
    stored = {field.name: field for field in model.stored()}
    for name in entity.fields:
        if name not in stored:
            raise RuleError(name, f"model {model.name} has no such field; expected one of {', '.join(stored)}")
    rules = {name: entity.fields.get(name, _NO_RULE) for name in stored}
    parts = Counter(rule.source for rule in rules.values() if rule.split)
    return [compile_slot(field, rules[name], schema, parts[rules[name].source] - 1) for name, field in stored.items()]


def _key_field(model: Model) -> str:
    ids = [model.fields[name] for name in model.ids]
    if len(ids) != 1 or ids[0].type != "String" or ids[0].is_list:
        kinds = ", ".join(f"{field.name} {field.type}" for field in ids)
        raise RuleError(model.ids[0], f"the id of model {model.name} is ({kinds}); expected one field of type String")
    return ids[0].name
