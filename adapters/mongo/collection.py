"""How one entity stands in Mongo: its collection, and the mapping between raw documents and canonical ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from adapters.documents.mapping import Mapper, RuleError
from adapters.documents.merging import Merging
from adapters.side import Document, Invalid, Key, SideError
from config.model import Config, Entity
from config.schema import Schema

Raw = dict[str, Any]
"""A document as the driver gives it."""


@dataclass(frozen=True, slots=True)
class Refers:
    """A field, the entity that it refers to, and which of that entity's collections."""

    field: str
    entity: str
    collection: str


@dataclass(frozen=True, slots=True)
class Collection:
    """`merging`: where it is the first of several collections. `refers`: fields that refer to one of several.

    Raises RuleError where the key is not `_id`: settling and the change stream know a document by nothing else.
    """

    name: str
    mapper: Mapper
    merging: Merging | None = None
    refers: tuple[Refers, ...] = ()

    def __post_init__(self) -> None:
        if self.mapper.key_path != "_id":
            raise RuleError(self.mapper.id, f"the key is {self.mapper.key_path} in {self.name}; expected _id")


def collections_of(config: Config, schema: Schema, mappers: Mapping[str, Mapper]) -> dict[str, Collection]:
    """By entity."""
    return {
        name: Collection(
            entity.collection,
            mappers[name],
            Merging(entity, schema.models[entity.model], schema) if entity.also else None,
            tuple(_refers(entity, config, schema)),
        )
        for name, entity in config.entities.items()
    }


def _refers(entity: Entity, config: Config, schema: Schema) -> Iterator[Refers]:
    parents = {one.model: name for name, one in config.entities.items() if one.also}
    models = {one.fields[0]: one.model for one in schema.models[entity.model].parents() if len(one.fields) == 1}
    for field, rule in entity.fields.items():
        if rule.refers is not None:
            yield Refers(field, parents[models[field]], rule.refers)


def read_each(mapper: Mapper, raws: Iterable[Raw]) -> tuple[dict[Key, Document], dict[Key, SideError]]:
    """The documents by key, and those that cannot be mapped with the reason."""
    documents: dict[Key, Document] = {}
    refused: dict[Key, SideError] = {}
    for raw in raws:
        key = mapper.key_of(raw)
        try:
            documents[key] = mapper.from_legacy(raw)
        except Invalid as error:
            refused[key] = error
    return documents, refused


def key_or_text(mapper: Mapper, raw: Raw) -> str:
    """The key; where the `_id` is none, its text."""
    try:
        return mapper.key_of(raw)
    except Invalid:
        return str(raw["_id"]).encode("utf-8", "backslashreplace").decode()


def operators(changed: Mapping[str, Any], gone: Iterable[str]) -> Raw:
    """The update that sets and unsets these paths; empty where there are none."""
    update: Raw = {"$set": dict(changed), "$unset": dict.fromkeys(gone, "")}
    return {name: paths for name, paths in update.items() if paths}
