"""A model and a configuration for a collection that has none yet, from what was seen in it: something to start from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from adapters.documents.paths import parse_path
from adapters.mongo.catalogue import LegacyIndex
from config.model import Entity, LegacyType
from config.schema import Field, Model, Schema
from proxy.migration.inspection.profile import Node, Profile
from proxy.migration.inspection.proposed_names import entity_name, enum_name, field_name, model_name
from proxy.migration.inspection.proposed_types import Proposed, id_form, proposed_type

FIELDS: Final = 200


@dataclass(frozen=True, slots=True)
class ProposedField:
    """`key` is what the documents call it. `required`: all have it; `remark` says what a reader should know."""

    name: str
    key: str
    type: str
    is_enum: bool = False
    is_list: bool = False
    required: bool = True
    unique: bool = False
    legacy: LegacyType | None = None
    remark: str = ""

    @property
    def is_id(self) -> bool:
        return self.key == "_id"

    @property
    def indexable(self) -> bool:
        return not self.is_list and self.type not in ("Json", "Bytes")


@dataclass(frozen=True, slots=True)
class ProposedIndex:
    """By field names, over several or not unique: a unique one of one field is said at the field."""

    fields: tuple[str, ...]
    unique: bool = False
    hash: bool = False


@dataclass(frozen=True, slots=True)
class Proposal:
    """`remarks` say what is left out, and why."""

    collection: str
    entity: str
    model: str
    fields: tuple[ProposedField, ...]
    enums: Mapping[str, tuple[str, ...]]
    indexes: tuple[ProposedIndex, ...]
    remarks: tuple[str, ...]

    def schema(self) -> Schema:
        """As the schema language would have it, to try it on documents."""
        fields = {
            its.name: Field(
                name=its.name,
                column=its.key if its.is_id else its.name,
                type=its.type,
                kind="enum" if its.is_enum else "scalar",
                is_list=its.is_list,
                required=its.required,
                unique=its.unique,
                id=its.is_id,
            )
            for its in self.fields
        }
        id = next(its.name for its in self.fields if its.is_id)
        uniques = tuple((its.name,) for its in self.fields if its.unique)
        model = Model(self.model, self.collection, MappingProxyType(fields), (id,), uniques)
        return Schema(MappingProxyType({self.model: model}), self.enums)

    def settings(self) -> dict[str, Any]:
        """The entity's entry in the configuration."""
        rules = {its.name: rule for its in self.fields if (rule := _rule(its))}
        entry: dict[str, Any] = {"collection": self.collection, "model": self.model}
        return {**entry, "fields": rules} if rules else entry

    def as_entity(self) -> Entity:
        return Entity.model_validate(self.settings())


def propose(
    collection: str,
    profile: Profile,
    indexes: Sequence[LegacyIndex],
    *,
    models: Collection[str],
    enums: Collection[str],
    entities: Collection[str],
) -> Proposal | str:
    """Names that are taken are left to those that have them. A text says why there is nothing to propose."""
    id = profile.root.fields.get("_id")
    if id is None:
        return "there are no documents to learn from"
    form, remark = id_form(id)
    if form is None:
        return remark
    model = model_name(collection, {*models, *enums})
    unique = {index.paths[0] for index in indexes if index.guards and len(index.paths) == 1}
    key = ProposedField("id", "_id", "String", legacy=None if form == "objectId" else form, remark=remark)
    fields, remarks, made = [key], [], dict[str, tuple[str, ...]]()
    for name, node in profile.root.fields.items():
        if name == "_id":
            continue
        if (why := _left_out(name)) or len(fields) >= FIELDS:
            remarks.append(f"left out: {name} ({why or 'too many fields'})")
            continue
        proposed = proposed_type(node)
        called = field_name(name, {its.name for its in fields})
        if proposed.constants:
            enum = enum_name(model, called, {*models, *enums, *made, model})
            made[enum] = proposed.constants
            proposed = proposed.of_enum(enum)
        fields.append(_field(called, name, node, profile.root.seen, proposed, name in unique))
    pairs, more = _indexes(fields, indexes)
    if profile.left_out:
        remarks.append(f"{profile.left_out} values are at paths too many, or too deep, to be looked at")
    entity = entity_name(collection, entities)
    return Proposal(collection, entity, model, tuple(fields), MappingProxyType(made), pairs, (*remarks, *more))


def _field(name: str, key: str, node: Node, documents: int, proposed: Proposed, unique: bool) -> ProposedField:
    everywhere = node.seen == documents and not node.nulls
    field = ProposedField(
        name,
        key,
        proposed.type,
        is_enum=bool(proposed.constants),
        is_list=proposed.is_list,
        required=everywhere or proposed.is_list,
        legacy=proposed.legacy,
        remark=proposed.remark,
    )
    return replace(field, unique=unique and field.indexable)


def _left_out(key: str) -> str | None:
    if key == "__v":
        return "Mongoose's own version of the document"
    if "." in key:
        return "a dot in its name: no path leads there"
    try:
        parse_path(key)
    except ValueError:
        return "its name is no path"
    return None


def _indexes(
    fields: Sequence[ProposedField], indexes: Sequence[LegacyIndex]
) -> tuple[tuple[ProposedIndex, ...], list[str]]:
    """Those that the schema language has a word for, each once, and remarks on the others."""
    by_key = {its.key: its for its in fields}
    found: dict[ProposedIndex, None] = {}
    remarks: list[str] = []
    for index in indexes:
        if index.paths == ("_id",):
            continue
        its = [by_key.get(path) for path in index.paths]
        if why := _unlike(index, its):
            remarks.append(f"no index for {index.name}: {why}")
            continue
        names = tuple(field.name for field in its if field)
        if index.ttl is not None:
            remarks.append(f"{index.name} deletes documents after {index.ttl:,.0f} s: nothing in PostgreSQL does")
        if index.collation is not None:
            remarks.append(f"{index.name} has the collation {index.collation}: what it holds for equal may differ")
        if not (index.guards and len(names) == 1):
            kinds = {kind for _, kind in index.keys}
            found[ProposedIndex(names, index.guards, kinds == {"hashed"})] = None
    return tuple(found), remarks


def _unlike(index: LegacyIndex, fields: Sequence[ProposedField | None]) -> str | None:
    """Why an index has no counterpart."""
    if any(field is None for field in fields):
        return "not all that it holds is a field of its own"
    if any(field and not field.indexable for field in fields):
        return "it is over a list, bytes or Json"
    if index.unique and not index.guards:
        return "what is unique only for some documents has no word in the schema"
    kinds = {kind for _, kind in index.keys if isinstance(kind, str)}
    if kinds - {"hashed"} or (kinds and len(index.keys) > 1):
        return f"it is of the kind {', '.join(sorted(kinds))}"
    return None


def _rule(field: ProposedField) -> dict[str, str]:
    """Only what is not implied."""
    rule: dict[str, str] = {}
    if not field.is_id and field.key != field.name:
        rule["from"] = field.key
    if field.legacy is not None:
        rule["legacy"] = field.legacy
    return rule
