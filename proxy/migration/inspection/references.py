"""References that point nowhere: values of a foreign key whose parent is not in its legacy collection. A backfill would
put their documents into quarantine, as it would the children of parents that are refused themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bson.binary import UUID_SUBTYPE, Binary, UuidRepresentation

from adapters.documents.mapping import Mapper
from adapters.mongo.lookups import held
from adapters.mongo.reading import Reading
from adapters.side import Document, Invalid, Key
from config.model import Config, FieldRule
from config.schema import Schema
from proxy.migration.inspection.questions import Questions
from proxy.migration.inspection.refusals import KEYS
from proxy.migration.inspection.sources import Source, sources

_NO_RULE = FieldRule()


@dataclass(frozen=True, slots=True)
class Parents:
    """A collection of those that a foreign key refers to: `field` is theirs, `path` where it is."""

    collection: str
    field: str
    path: str
    mapper: Mapper

    async def existing(self, reading: Reading, values: Sequence[Any]) -> set[Any]:
        """Those of the canonical values that a parent has. Raises Unavailable."""
        stored: dict[Any, Any] = {}
        for value in values:
            try:
                [equal] = self.mapper.legacy_where({self.field: value}).values()
            except Invalid:
                continue  # no parent can have it
            stored[_comparable(equal["$eq"])] = value
        if not stored:
            return set()
        return {stored[value] for value in await held(reading, self.collection, self.path, list(stored))}


@dataclass(slots=True)
class Reference:
    """One relation whose foreign key the entity holds, in the field `by`. `checked` documents have a value there, `missing`
    ones one that is nobody's; `keys` are those of the first of them."""

    by: str
    entity: str
    parents: tuple[Parents, ...]
    checked: int = 0
    missing: int = 0
    keys: list[Key] = field(default_factory=list)

    async def check(self, reading: Reading, documents: Mapping[Key, Document]) -> int:
        """Look for the parents of these documents; how many are missing so far. Raises Unavailable."""
        wanted: dict[Any, list[Key]] = {}
        for key, document in documents.items():
            if document[self.by] is not None:
                wanted.setdefault(document[self.by], []).append(key)
        orphaned = set(wanted)
        for parents in self.parents:
            orphaned -= await parents.existing(reading, list(orphaned))
        for value, keys in wanted.items():
            self.checked += len(keys)
            if value in orphaned:
                self.missing += len(keys)
                self.keys += keys[: max(0, KEYS - len(self.keys))]
        return self.missing


def references(source: Source, config: Config, schema: Schema, questions: Questions) -> list[Reference]:
    """The relations of the source that can be checked in the legacy database; the rest are left to `questions`."""
    entities = {its.model: name for name, its in config.entities.items()}
    found: list[Reference] = []
    for relation in source.model.parents():
        what = f"references by {', '.join(relation.fields)}"
        name = entities.get(relation.model)
        if name is None:
            questions.skip(what, f"no entity has the model {relation.model}")
            continue
        if len(relation.fields) != 1:
            questions.skip(what, "they are of several fields")
            continue
        [by], [target] = relation.fields, relation.references
        if by not in source.model.fields:
            continue  # another collection of the entity has it
        refers = source.entity.fields.get(by, _NO_RULE).refers
        holders = [one for one in sources(name, config, schema) if refers in (None, one.collection)]
        parents = [Parents(one.collection, target, path, one.mapper) for one in holders if (path := one.path(target))]
        if parents:
            found.append(Reference(by, name, tuple(parents)))
        else:
            questions.skip(what, f"{name}.{target} is not stored as it is")
    return found


def _comparable(value: Any) -> Any:
    """As the driver would read it."""
    if isinstance(value, Binary) and value.subtype == UUID_SUBTYPE:
        return value.as_uuid(UuidRepresentation.STANDARD)
    return value
