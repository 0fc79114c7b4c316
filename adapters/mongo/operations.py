"""Create, read, list, update and delete on the legacy collections."""

from __future__ import annotations

from collections.abc import Mapping

from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorCollection, AsyncIOMotorDatabase
from pymongo import ReturnDocument

from adapters.documents.mapping import Mapper
from adapters.mongo.calls import translated, within
from adapters.mongo.collection import Collection, Raw, operators
from adapters.mongo.outbox import Attempt, Outbox
from adapters.side import Document, Invalid, Operation, Outcome, Unavailable, Unreadable


class Operations:
    """`read` and `write` are the deadlines of one operation in seconds."""

    def __init__(
        self,
        database: AsyncIOMotorDatabase[Raw],
        collections: Mapping[str, Collection],
        outbox: Outbox,
        *,
        read: float,
        write: float,
    ) -> None:
        self._database = database
        self._collections = collections
        self._outbox = outbox
        self._read = read
        self._write = write

    async def perform(self, operation: Operation, *, mark: bool) -> Outcome:
        """As `Side.perform` says. Update and delete find the document first, so that the mark knows its key."""
        match operation.do:
            case "read" | "list":
                async with within(self._read):
                    return await self._find(operation)
            case "create" | "update" | "delete":
                perform = self._create if operation.do == "create" else self._change
                async with (
                    self._outbox.attempt(operation.entity, mark=mark) as attempt,
                    within(self._write, write=True),
                ):
                    return await perform(operation, attempt)

    async def _find(self, operation: Operation) -> Outcome:
        rows, mapper = self._of(operation)
        take = 1 if operation.do == "read" else operation.take
        if take == 0:
            return Outcome()
        order = mapper.legacy_order(operation.order) or None
        # Mongo takes 0 for no limit.
        where = mapper.legacy_where(operation.where)
        found = rows.find(where, sort=order, skip=operation.skip, limit=take or 0)
        return Outcome(tuple([_read(mapper, raw) async for raw in found]))

    async def _create(self, operation: Operation, attempt: Attempt) -> Outcome:
        rows, mapper = self._of(operation)
        key = operation.data.get(mapper.id) or str(ObjectId())
        raw = mapper.to_legacy(mapper.defaults({**operation.data, mapper.id: key}))
        document = mapper.from_legacy(raw)
        await attempt.begin(key)
        with translated(mapper.field_of):
            await rows.insert_one(raw)
        return attempt.outcome(document, key)

    async def _change(self, operation: Operation, attempt: Attempt) -> Outcome:
        rows, mapper = self._of(operation)
        where = mapper.legacy_where(operation.where)
        raw = await rows.find_one(where)
        if raw is None:
            return Outcome()
        document = _read(mapper, raw)
        changes: Raw = {}
        if operation.do == "update":
            changes = operators(*mapper.legacy_changes(raw, {**document, **mapper.touched(operation.data)}))
            if not changes:
                return Outcome((document,))
        same = {**where, "_id": raw["_id"]}
        key = mapper.key_of(raw)
        await attempt.begin(key)
        with translated(mapper.field_of):
            if changes:
                after = await rows.find_one_and_update(same, changes, return_document=ReturnDocument.AFTER)
            else:
                after = await rows.find_one_and_delete(same)
        try:
            return attempt.outcome(mapper.from_legacy(after) if after else None, key)
        except Invalid as error:
            # Somebody made it so between the two: it is written all the same.
            raise Unavailable(f"written, but cannot be read: {error}", sent=True) from error

    def _of(self, operation: Operation) -> tuple[AsyncIOMotorCollection[Raw], Mapper]:
        collection = self._collections[operation.entity]
        return self._database[collection.name], collection.mapper


def _read(mapper: Mapper, raw: Raw) -> Document:
    try:
        return mapper.from_legacy(raw)
    except Invalid as error:
        raise Unreadable(f"a stored document cannot be mapped: {error}") from error
