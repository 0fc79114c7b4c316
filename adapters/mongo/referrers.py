"""What refers to documents of an entity with several sources, and has to be settled again when they change their record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from motor.motor_asyncio import AsyncIOMotorCollection

from adapters.documents.mapping import Mapper
from adapters.documents.merging import Source
from adapters.mongo.collection import Raw, key_or_text
from adapters.mongo.outbox import Outbox
from adapters.side import Key

_MARKED: Final = 500
"""Keys that are marked at a time."""


@dataclass(frozen=True, slots=True)
class Referrers:
    """The documents of an entity with a field that holds the `_id` of one of the sources' documents."""

    entity: str
    rows: AsyncIOMotorCollection[Raw]
    mapper: Mapper
    path: str
    source: Source
    outbox: Outbox

    async def mark(self, ids: Sequence[Any]) -> None:
        """Leave a mark for each that refers to one of these."""
        found: list[Key] = []
        async for raw in self.rows.find({self.path: {"$in": list(ids)}}, {"_id": 1}):
            found.append(key_or_text(self.mapper, raw))
            if len(found) == _MARKED:
                await self.outbox.leave(self.entity, found)
                found = []
        if found:
            await self.outbox.leave(self.entity, found)
