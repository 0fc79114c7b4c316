"""The outbox of the legacy side: a mark before every write, gone again when nothing was written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorCollection, AsyncIOMotorDatabase
from pymongo import ASCENDING, UpdateOne

from adapters.mongo.calls import seconds_since, within
from adapters.mongo.collection import Raw
from adapters.side import Backlog, Document, Key, Mark, Outcome, SideError, Unavailable

WITHDRAWAL: Final = 1.0
"""Seconds that a client may wait for the mark of its failed write to be taken back. What stays is swept."""

log = structlog.get_logger()


class Outbox:
    """Collection `strangler_marks`. Every call has the deadline `deadline` (seconds) and raises Unavailable."""

    def __init__(self, database: AsyncIOMotorDatabase[Raw], deadline: float) -> None:
        # The write concern is the writes' own, majority: a mark that only the primary's memory holds could be lost, by a
        # crash or a change of primary, before the write that it is for, and that write kept.
        self._marks = database["strangler_marks"]
        self._deadline = deadline

    async def create_indexes(self) -> None:
        await self._marks.create_index([("entity", ASCENDING), ("at", ASCENDING)])

    @asynccontextmanager
    async def attempt(self, entity: str, *, mark: bool) -> AsyncIterator[Attempt]:
        """A write. When it fails, `sent` says whether it was; when it surely did nothing, its mark is taken back.

        The write's deadline belongs inside, so that it does not end the taking back.
        """
        attempt = Attempt(self._marks, entity, mark)
        try:
            yield attempt
        except Unavailable as error:
            if error.sent and attempt.ready:
                raise
            await self._withdraw(attempt)
            raise Unavailable(str(error)) from error
        except SideError:
            await self._withdraw(attempt)
            raise
        if not attempt.written:
            await self._withdraw(attempt)

    async def _withdraw(self, attempt: Attempt) -> None:
        if attempt.mark is None:
            return
        try:
            async with within(WITHDRAWAL, write=True):
                await self._marks.delete_one({"_id": attempt.mark})
        except Unavailable as error:
            log.warning("mark_left", entity=attempt.entity, mark=str(attempt.mark), cause=str(error))

    async def leave(self, entity: str, keys: Sequence[Key | None]) -> list[str]:
        """A mark for each key; their ids, in the same order."""
        ids = [ObjectId() for _ in keys]
        if ids:
            marks = [UpdateOne({"_id": id}, _mark(entity, key), upsert=True) for id, key in zip(ids, keys, strict=True)]
            async with within(self._deadline, write=True):
                await self._marks.bulk_write(marks, ordered=False)
        return [str(id) for id in ids]

    async def oldest(self, entity: str, limit: int, *, older: float = 0.0) -> list[Mark]:
        where: Raw = {"entity": entity}
        if older:
            where["$expr"] = {"$lt": ["$at", {"$subtract": ["$$NOW", int(older * 1000)]}]}
        stages: list[Raw] = [
            {"$match": where},
            {"$sort": {"at": 1}},
            {"$limit": limit},
            {"$set": {"age": seconds_since("$at")}},
        ]
        async with within(self._deadline):
            rows = await self._marks.aggregate(stages).to_list(None)
        return [Mark(str(row["_id"]), row["entity"], row["key"], row["at"], row["age"]) for row in rows]

    async def backlogs(self) -> dict[str, Backlog]:
        stages: list[Raw] = [
            # The order of the index, which holds all that is asked for.
            {"$sort": {"entity": 1, "at": 1}},
            {"$group": {"_id": "$entity", "marks": {"$sum": 1}, "oldest": {"$first": "$at"}}},
            {"$set": {"oldest": seconds_since("$oldest")}},
        ]
        async with within(self._deadline):
            rows = await self._marks.aggregate(stages).to_list(None)
        return {row["_id"]: Backlog(row["marks"], row["oldest"]) for row in rows}

    async def remove(self, ids: Sequence[str]) -> None:
        """Delete exactly these marks; those already gone are no error."""
        if ids:
            async with within(self._deadline, write=True):
                await self._marks.delete_many({"_id": {"$in": [ObjectId(id) for id in ids]}})


class Attempt:
    """One write: `ready` when it may be sent, its mark being there; `written` when it changed something."""

    def __init__(self, marks: AsyncIOMotorCollection[Raw], entity: str, marked: bool) -> None:
        self._marks = marks
        self.entity = entity
        self._marked = marked
        self.mark: ObjectId | None = None
        self.ready = False
        self.written = False

    async def begin(self, key: Key) -> None:
        """Leave the mark, before the write."""
        if self._marked:
            self.mark = ObjectId()
            await self._marks.update_one({"_id": self.mark}, _mark(self.entity, key), upsert=True)
        self.ready = True

    def outcome(self, document: Document | None, key: Key) -> Outcome:
        """Of the write that returned this document; None where there was none to write to."""
        self.written = document is not None
        if document is None:
            return Outcome()
        return Outcome((document,), (key,), (str(self.mark),) if self.mark else ())


def _mark(entity: str, key: Key | None) -> dict[str, Any]:
    """An upsert's changes: an insert could not take the time from the server."""
    return {"$set": {"entity": entity, "key": key}, "$currentDate": {"at": True}}
