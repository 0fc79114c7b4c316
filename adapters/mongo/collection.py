"""How one entity stands in Mongo: its collection, and the mapping between raw documents and canonical ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from adapters.documents.mapping import Mapper, RuleError
from adapters.side import Document, Invalid, Key, SideError

Raw = dict[str, Any]
"""A document as the driver gives it."""


@dataclass(frozen=True, slots=True)
class Collection:
    """Raises RuleError where the key is not `_id`: settling and the change stream know a document by nothing else."""

    name: str
    mapper: Mapper

    def __post_init__(self) -> None:
        if self.mapper.key_path != "_id":
            raise RuleError(self.mapper.id, f"the key is {self.mapper.key_path} in {self.name}; expected _id")


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
        return str(raw["_id"])


def operators(changed: Mapping[str, Any], gone: Iterable[str]) -> Raw:
    """The update that sets and unsets these paths; empty where there are none."""
    update: Raw = {"$set": dict(changed), "$unset": dict.fromkeys(gone, "")}
    return {name: paths for name, paths in update.items() if paths}
