"""What settling reads of an entity's documents, and what it plans to write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pymongo import DeleteOne, InsertOne, UpdateOne

from adapters.mongo.collection import Raw
from adapters.side import Document, Key, SideError

Write = InsertOne[Raw] | UpdateOne | DeleteOne


@dataclass(frozen=True, slots=True)
class Read:
    """What there is of some keys: as `Held` has it."""

    documents: Mapping[Key, Document]
    refused: Mapping[Key, SideError]


@dataclass(frozen=True, slots=True)
class Plan:
    """What makes the present documents what they should be, by collection (`in_order`, where it matters), and the keys for
    which nothing can. `fences`: entities and keys beside those of the settle, whose fences tell the change stream that
    these changes are ours."""

    writes: Mapping[str, Sequence[Write]]
    refused: Mapping[Key, SideError]
    fences: frozenset[tuple[str, Key]] = frozenset()
    in_order: bool = False
