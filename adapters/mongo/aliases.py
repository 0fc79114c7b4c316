"""Which natural keys a document of an entity with several sources was seen with, for when it is deleted, or has another:
a deletion tells nothing but an `_id`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from motor.motor_asyncio import AsyncIOMotorDatabase
from pymongo import ASCENDING, UpdateOne

from adapters.mongo.collection import Raw

_MOST: Final = 16
"""Natural keys that are remembered of one document: it has one, and had others in settles that failed since."""
_KEPT: Final = 30 * 24 * 3600
"""Seconds for which a deleted document is remembered: longer than any oplog, and so any position to go on from, lasts."""

Place = tuple[str, Any]
"""A document: its collection and its `_id`."""


@dataclass(frozen=True, slots=True)
class Alias:
    """What is remembered of a document: its natural keys, the newest last, and whether it has been seen to be gone."""

    naturals: tuple[str, ...]
    gone: bool

    def is_news(self, natural: str) -> bool:
        """Whether it was not seen with this one last."""
        return self.gone or self.naturals[-1] != natural


class Aliases:
    """Collection `strangler_aliases`, of one entity. The caller brings the deadline."""

    def __init__(self, database: AsyncIOMotorDatabase[Raw], entity: str) -> None:
        self._rows = database["strangler_aliases"]
        self._entity = entity

    async def create_indexes(self) -> None:
        await self._rows.create_index([("gone", ASCENDING)], expireAfterSeconds=_KEPT)

    async def of(self, places: Iterable[Place]) -> dict[Place, Alias]:
        """What is remembered of these; those of which nothing is are left out."""
        ids = [self._id(place) for place in places]
        if not ids:
            return {}
        found = self._rows.find({"_id": {"$in": ids}})
        return {(row["_id"]["s"], row["_id"]["i"]): Alias(tuple(row["n"]), "gone" in row) async for row in found}

    async def remember(self, seen: Mapping[Place, str]) -> None:
        """Once this returns, a majority has it."""
        await self._write(
            UpdateOne(self._where(place), [{"$set": {"n": _with(natural)}}, {"$unset": "gone"}], upsert=True)
            for place, natural in seen.items()
        )

    async def forget(self, places: Collection[Place]) -> None:
        """These documents are gone: what is remembered of them will be, after a long while."""
        await self._write(UpdateOne(self._where(place), {"$currentDate": {"gone": True}}) for place in places)

    async def _write(self, updates: Iterable[UpdateOne]) -> None:
        if every := list(updates):
            await self._rows.bulk_write(every, ordered=False)

    def _where(self, place: Place) -> Raw:
        return {"_id": self._id(place)}

    def _id(self, place: Place) -> Raw:
        return {"e": self._entity, "s": place[0], "i": place[1]}


def _with(natural: str) -> Raw:
    """The expression for what is remembered and this one, the newest last."""
    one = [{"$literal": natural}]
    others = {"$filter": {"input": {"$ifNull": ["$n", []]}, "cond": {"$ne": ["$$this", one[0]]}}}
    return {"$slice": [{"$concatArrays": [others, one]}, -_MOST]}
