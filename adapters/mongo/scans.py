"""Walking a legacy collection in the order of its keys: all of it, a range at a time, or what has changed since a time.

Each batch is a query of its own: nothing is open between them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Any, Final

import bson
from bson import MaxKey, ObjectId
from motor.motor_asyncio import AsyncIOMotorCollection, AsyncIOMotorCursor

from adapters.documents.mapping import Mapper
from adapters.mongo.calls import within
from adapters.mongo.collection import Raw, key_or_text
from adapters.side import Invalid, Key, Range
from config.schema import DefaultCall, Field

_LAST: Final = bson.encode({"_id": MaxKey()}).hex()
_CHUNK: Final = 250
_WINDOW: Final = 5_000
"""Documents that one query looks at where few of them may match: what the deadline is for does not grow with the whole."""


async def keys(
    rows: AsyncIOMotorCollection[Raw], mapper: Mapper, *, batch: int, deadline: float
) -> AsyncIterator[list[Key]]:
    """Every key. An `_id` that is no key is given as its text, which `hold` refuses with the reason."""
    after: str | None = None
    while found := await range_after(rows, mapper, after, most=batch, size=None, deadline=deadline):
        yield list(found.keys)
        after = found.upto


async def range_after(
    rows: AsyncIOMotorCollection[Raw],
    mapper: Mapper,
    after: str | None,
    *,
    most: int,
    size: int | None,
    deadline: float,
) -> Range | None:
    """As `Store.range` says. The size of a document is known before it is sent (MongoDB 4.4 or later)."""
    if after == _LAST:
        return None
    sized: Raw = {"_id": 1} if size is None else {"_id": 1, "size": {"$bsonSize": "$$ROOT"}}
    ranged = rows.find({}, sized, sort=[("_id", 1)], hint=[("_id", 1)]).limit(most + 1)
    if after is not None:
        # A condition on `_id` would leave out ids of other BSON types than the last one's; a bound does not.
        ranged = ranged.min([("_id", _id_at(rows, after))])
    cursor = ranged.batch_size(_CHUNK)
    fresh: list[Raw] = []
    async with within(deadline):
        # In chunks: a document at a time costs more than such small ones do, and all at once the server would measure many
        # large documents for nothing.
        while not fresh or (len(fresh) < most and _fits(fresh, size)):
            if not (chunk := await cursor.to_list(min(_CHUNK, most + 1))):
                break
            fresh += [raw for raw in chunk if _place_of(rows, raw) != after]
        await cursor.close()
        fresh = list(_fitting(fresh[:most], size))
        if not fresh and await rows.find_one({"_id": MaxKey()}, {"_id": 1}):
            fresh = [{"_id": MaxKey()}]  # no bound lets it in
    return Range(tuple(key_or_text(mapper, raw) for raw in fresh), _place_of(rows, fresh[-1])) if fresh else None


def _fits(raws: Iterable[Raw], size: int | None) -> bool:
    return size is None or sum(raw["size"] for raw in raws) <= size


def _fitting(raws: Iterable[Raw], size: int | None) -> Iterator[Raw]:
    """At least one, and no more than take so many bytes."""
    taken = 0
    for raw in raws:
        if taken and size is not None and taken + raw["size"] > size:
            return
        taken += raw.get("size", 0)
        yield raw


def _place_of(rows: AsyncIOMotorCollection[Raw], raw: Raw) -> str:
    """As BSON: of an id that is no number it is the only thing that is equal to itself."""
    return bson.encode({"_id": raw["_id"]}, codec_options=rows.codec_options).hex()


def _id_at(rows: AsyncIOMotorCollection[Raw], place: str) -> Any:
    return bson.decode(bytes.fromhex(place), codec_options=rows.codec_options)["_id"]


async def changed_since(
    rows: AsyncIOMotorCollection[Raw], mapper: Mapper, at: datetime, *, batch: int, deadline: float
) -> AsyncIterator[list[Key]]:
    """The keys of documents that were created or changed at `at` or after it, by their ObjectId, their `@updatedAt` fields
    and those that the schema sets on creation. Who wrote them had a clock of its own."""
    matches = {"$or": _conditions(mapper, at)}
    start: list[tuple[str, Any]] | None = None
    while True:
        window, bound = _in_order(rows, matches), _in_order(rows, {}).skip(_WINDOW).limit(1)
        if start is not None:
            window, bound = window.min(start), bound.min(start)
        async with within(deadline):
            end = [("_id", raw["_id"]) async for raw in bound]
            found = iter([key_or_text(mapper, raw) async for raw in (window.max(end) if end else window)])
        while part := list(islice(found, batch)):
            yield part
        if not end:
            return
        start = end


def _in_order(rows: AsyncIOMotorCollection[Raw], where: Raw) -> AsyncIOMotorCursor[Raw]:
    return rows.find(where, {"_id": 1}, sort=[("_id", 1)], hint=[("_id", 1)])


def _conditions(mapper: Mapper, at: datetime) -> list[Raw]:
    since = at.replace(microsecond=0)  # an ObjectId knows no less than a second
    conditions: list[Raw] = [{"_id": {"$gte": ObjectId.from_datetime(since)}}]
    for field in mapper.model.stored():
        if _tells_of_a_write(field):
            try:
                where = mapper.legacy_where({field.name: since})
            except Invalid:
                continue  # a part of a string: it has no order
            conditions += [{path: {"$gte": equal["$eq"]}} for path, equal in where.items()]
    return conditions


def _tells_of_a_write(field: Field) -> bool:
    created = isinstance(field.default, DefaultCall) and field.default.name == "now"
    return field.type == "DateTime" and not field.is_list and (created or field.updated_at)
