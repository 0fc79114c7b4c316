"""The collections of an entity, each as if it were the only one: its own rules, and those fields that it has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from adapters.documents.mapping import Mapper
from adapters.documents.paths import is_index
from adapters.mongo.catalogue import LegacyIndex
from config.model import Also, Config, Entity, FieldRule
from config.schema import Field, Model, Schema
from proxy.migration.inspection.profile import Profile

_NO_RULE: Final = FieldRule()


@dataclass(frozen=True, slots=True)
class Source:
    """`entity` and `model` say of one collection what the configuration and the schema say of the whole. Where several
    collections make one record, its documents are found by the natural key, the field `by`, and no other field is required
    of each: `elsewhere` are those that another may have."""

    name: str
    entity: Entity
    model: Model
    mapper: Mapper
    by: str | None = None
    elsewhere: frozenset[str] = frozenset()

    @property
    def collection(self) -> str:
        return self.entity.collection

    def path(self, field: str) -> str | None:
        """Where the field is; None where what is stored there is not its value alone: a part of a string, what a function
        makes a value of, an element of an array."""
        rule = self.entity.fields.get(field, _NO_RULE)
        path = rule.source or ("_id" if field in self.model.ids else field)
        odd = field not in self.model.fields or rule.split or rule.functions or any(map(is_index, path.split(".")))
        return None if odd else path

    def column(self, path: str) -> str | None:
        """The column that a path is in; None: no field is mapped to exactly that."""
        return next((field.column for field in self.model.stored() if self.path(field.name) == path), None)

    def wants(self, profile: Profile, indexes: Sequence[LegacyIndex]) -> Iterator[str]:
        """What this collection does not have, though its records need it."""
        for field in sorted(self.elsewhere):
            path = self.path(field)
            node = profile.at(path) if path else None
            lacking = profile.root.seen - (node.seen - node.nulls if node else 0)
            if path and lacking:
                yield f"{lacking} without {path}, which another collection of {self.name} has to have"
        key = self.path(self.by) if self.by else None
        if key and not any(index.paths[0] == key and not index.partial for index in indexes):
            yield f"no index on {key}, by which its documents are found"


def sources(name: str, config: Config, schema: Schema) -> list[Source]:
    """In the order of their precedence."""
    entity = config.entities[name]
    model = schema.models[entity.model]
    by = entity.also[0].by if entity.also else None
    first = Also(collection=entity.collection, by=by or "", fields=entity.fields, lacks=entity.lacks)
    return [_source(name, entity, model, schema, by, part) for part in (first, *entity.also)]


def every_source(config: Config, schema: Schema) -> Iterator[Source]:
    for name in config.entities:
        yield from sources(name, config, schema)


def _source(name: str, entity: Entity, model: Model, schema: Schema, by: str | None, part: Also) -> Source:
    kept = {field.name: field for field in model.fields.values() if field.name not in part.lacks}
    elsewhere = {its.name for its in kept.values() if by is not None and its.required and _may_lack(its, by)}
    fields = {n: replace(field, required=False) if n in elsewhere else field for n, field in kept.items()}
    rules = {n: rule for n, rule in part.fields.items() if n in fields}
    uniques = tuple(names for names in model.uniques if set(names) <= fields.keys())
    alone = {"collection": part.collection, "fields": rules, "also": [], "lacks": [], "merge": {}}
    its_entity, its_model = (
        entity.model_copy(update=alone),
        replace(model, fields=MappingProxyType(fields), uniques=uniques),
    )
    return Source(name, its_entity, its_model, Mapper(its_entity, its_model, schema), by, frozenset(elsewhere))


def _may_lack(field: Field, by: str) -> bool:
    return field.stored and not field.id and not field.is_list and field.name != by
