"""The quarantine of the legacy side: keys that the other side cannot take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorDatabase
from pymongo import ASCENDING, DeleteOne, UpdateOne

from adapters.mongo.calls import seconds_since, within
from adapters.side import Key, Refusal

Raw = dict[str, Any]


class MongoQuarantine:
    """Collection `strangler_quarantine`. Every call has the deadline `deadline` (seconds) and raises Unavailable."""

    def __init__(self, database: AsyncIOMotorDatabase[Raw], deadline: float) -> None:
        self._rows = database["strangler_quarantine"]
        self._deadline = deadline

    async def create_indexes(self) -> None:
        await self._rows.create_index([("at", ASCENDING)])
        await self._rows.create_index([("_id.e", ASCENDING), ("at", ASCENDING)])

    async def put(self, entity: str, reasons: Mapping[Key, str]) -> None:
        if not reasons:
            return
        async with within(self._deadline, write=True):
            await self._rows.bulk_write(
                [UpdateOne({"_id": _id(entity, key)}, _tried(reason), upsert=True) for key, reason in reasons.items()],
                ordered=False,
            )

    async def refusals(self, entity: str | None = None, *, limit: int = 1000) -> list[Refusal]:
        stages: list[Raw] = [
            {"$match": {} if entity is None else {"_id.e": entity}},
            {"$sort": {"at": 1}},
            {"$limit": limit},
            {"$set": {"age": seconds_since("$at")}},
        ]
        async with within(self._deadline):
            rows = await self._rows.aggregate(stages).to_list(None)
        return [
            Refusal(row["_id"]["e"], row["_id"]["k"], row["reason"], row["since"], row["tries"], row["age"])
            for row in rows
        ]

    async def stamps(self, entity: str, keys: Sequence[Key]) -> dict[Key, str]:
        wanted = {"_id": {"$in": [_id(entity, key) for key in keys]}}
        async with within(self._deadline):
            rows = await self._rows.find(wanted, {"stamp": 1}).to_list(None)
        return {row["_id"]["k"]: row["stamp"] for row in rows}

    async def release(self, entity: str, stamps: Mapping[Key, str]) -> int:
        if not stamps:
            return 0
        gone = [DeleteOne({"_id": _id(entity, key), "stamp": stamp}) for key, stamp in stamps.items()]
        async with within(self._deadline, write=True):
            result = await self._rows.bulk_write(gone, ordered=False)
        return int(result.deleted_count)

    async def take(self, entity: str, keys: Sequence[Key]) -> int:
        if not keys:
            return 0
        async with within(self._deadline, write=True):
            result = await self._rows.delete_many({"_id": {"$in": [_id(entity, key) for key in keys]}})
        return int(result.deleted_count)

    async def sizes(self) -> dict[str, int]:
        count: list[Raw] = [{"$group": {"_id": "$_id.e", "keys": {"$sum": 1}}}]
        async with within(self._deadline):
            return {row["_id"]: row["keys"] for row in await self._rows.aggregate(count).to_list(None)}


def _id(entity: str, key: Key) -> Raw:
    return {"e": entity, "k": key}


def _tried(reason: str) -> list[Raw]:
    fields = {
        "reason": {"$literal": reason},
        "stamp": {"$literal": str(ObjectId())},
        "since": {"$ifNull": ["$since", "$$NOW"]},
        "at": "$$NOW",
        "tries": {"$add": [{"$ifNull": ["$tries", 0]}, 1]},
    }
    return [{"$set": fields}]
