"""Questions to a legacy collection as a whole: values that occur twice, values that it holds, a few of its values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pymongo.read_preferences import PrimaryPreferred

from adapters.mongo.calls import within
from adapters.mongo.collection import Raw
from adapters.mongo.reading import BINARY, COMMENT, Reading

_FEW = 5


@dataclass(frozen=True, slots=True)
class Duplicates:
    """`values` that more than one document has, the `documents` that have them, and the `_id`s of a few that share one."""

    values: int
    documents: int
    ids: tuple[tuple[Any, Any], ...] = ()


async def duplicates(reading: Reading, collection: str, paths: Sequence[str]) -> Duplicates:
    """Of the values at these paths together, where all of them are there and not null: a unique constraint of PostgreSQL
    lets the others be. The server sorts on its disk what its memory does not hold. Raises Unavailable."""
    held: Raw = {path: {"$ne": None} for path in paths}
    value: Raw = {f"v{index}": f"${path}" for index, path in enumerate(paths)}
    count: Raw = {"$group": {"_id": None, "values": {"$sum": 1}, "documents": {"$sum": "$n"}}}
    stages: list[Raw] = [
        {"$match": held},
        {"$group": {"_id": value, "n": {"$sum": 1}, "first": {"$min": "$_id"}, "last": {"$max": "$_id"}}},
        {"$match": {"n": {"$gt": 1}}},
        {"$project": {"_id": 0, "n": 1, "first": 1, "last": 1}},
        {"$facet": {"all": [count], "few": [{"$limit": _FEW}]}},
    ]
    rows = reading.database[collection]
    async with within(reading.seconds):
        [found] = await rows.aggregate(stages, allowDiskUse=True, collation=BINARY, comment=COMMENT).to_list(1)
    if not found["all"]:
        return Duplicates(0, 0)
    [total] = found["all"]
    ids = tuple((group["first"], group["last"]) for group in found["few"])
    return Duplicates(total["values"], total["documents"], ids)


async def held(reading: Reading, collection: str, path: str, values: Sequence[Any]) -> set[Any]:
    """Those of the values (which can be in a set) that some document has at the path. Asks the primary where it can: what
    was written before what a secondary answered is there. Raises Unavailable."""
    stages: list[Raw] = [
        {"$match": {path: {"$in": list(values)}}},
        {"$group": {"_id": f"${path}"}},
        {"$limit": len(values)},
    ]
    rows = reading.database.get_collection(collection, read_preference=PrimaryPreferred())
    async with within(reading.seconds):
        found = rows.aggregate(stages, collation=BINARY, comment=COMMENT)
        return {group["_id"] async for group in found if not isinstance(group["_id"], list | dict)}


async def some(reading: Reading, collection: str, path: str, kind: str, most: int) -> list[Any]:
    """Different values of that BSON type at the path, of at most so many documents, picked by chance. Raises Unavailable."""
    stages: list[Raw] = [
        {"$sample": {"size": most}},
        {"$match": {"$expr": {"$eq": [{"$type": f"${path}"}, kind]}}},
        {"$group": {"_id": f"${path}"}},
    ]
    async with within(reading.seconds):
        found = reading.database[collection].aggregate(stages, allowDiskUse=True, collation=BINARY, comment=COMMENT)
        return [group["_id"] async for group in found]
