"""Documents of a legacy collection, to be looked at: a random part of them or all, in parts that memory holds easily.

They come undecoded, so that one that is no valid BSON (old drivers wrote such strings) spoils nothing but itself.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import bson
from bson import MaxKey
from bson.errors import BSONError, InvalidBSON
from bson.raw_bson import RawBSONDocument
from motor.motor_asyncio import AsyncIOMotorCollection

from adapters.mongo.calls import within
from adapters.mongo.catalogue import Listed
from adapters.mongo.collection import Raw
from adapters.mongo.reading import CODEC, COMMENT, Reading
from adapters.side import Invalid

_PART: Final = 500
_BYTES: Final = 8 << 20
"""Documents, and bytes of them, that are handed over at a time."""

_RANGE: Final = 5_000
"""Documents of one query of a walk: nothing stays open on the server for longer."""

_RANDOM: Final = 20
"""The server picks documents without reading the rest where at most one in so many is wanted."""

_RAW: Final = CODEC.with_options(document_class=RawBSONDocument)
_ESCAPED: Final = CODEC.with_options(unicode_decode_error_handler="surrogateescape")
_LENIENT: Final = CODEC.with_options(unicode_decode_error_handler="replace")

_END: Final = bson.encode({"_id": MaxKey()})

Bytes = bytes
"""One document as it is stored."""


def decoded(document: Bytes) -> Raw:
    """Raises Invalid for what is no valid BSON."""
    try:
        return bson.decode(document, CODEC)
    except InvalidBSON as error:
        raise Invalid("document", "is no valid BSON") from error


def id_of(document: Bytes) -> Any:
    """The `_id` also of a document whose strings are no valid UTF-8; None where that is not all that is wrong with it."""
    try:
        return bson.decode(document, _LENIENT).get("_id")
    except InvalidBSON:
        return None


async def sample(reading: Reading, collection: Listed, wanted: int, total: int) -> AsyncGenerator[list[Bytes], None]:
    """About `wanted` of the `total` documents, picked by chance; one may come twice. Raises Unavailable."""
    share = wanted / total
    picks = share * _RANDOM <= 1 and collection.kind != "view"
    # Beyond that share the server would sort all of the collection by chance: to throw a die for each is cheaper.
    stage: Raw = {"$sample": {"size": wanted}} if picks else {"$match": {"$sampleRate": min(share, 1.0)}}
    cursor = _rows(reading, collection).aggregate([stage], allowDiskUse=True, batchSize=_PART, comment=COMMENT)
    async with aclosing(_parts(cursor, reading.seconds)) as parts:
        async for part in parts:
            yield part


async def scan(reading: Reading, collection: Listed) -> AsyncGenerator[list[Bytes], None]:
    """Every document, in the order of `_id` where there is an index to walk by. Raises Unavailable, and Invalid where the
    walk cannot go on past an `_id` that is no valid BSON."""
    rows = _rows(reading, collection)
    if not collection.ordered:
        async with aclosing(_parts(rows.find({}, batch_size=_PART, comment=COMMENT), reading.seconds)) as parts:
            async for part in parts:
                yield part
        return
    last: Bytes | None = None
    while True:
        cursor = rows.find({}, sort=[("_id", 1)], hint=[("_id", 1)], batch_size=_PART, comment=COMMENT).limit(_RANGE)
        if last is not None:
            cursor = cursor.min([("_id", bson.decode(last, CODEC)["_id"])])
        fresh = 0
        async with aclosing(_parts(cursor, reading.seconds)) as parts:
            async for part in parts:
                new = [document for document in part if _key(document) != last]
                fresh += len(new)
                if new:
                    last = _key(new[-1])
                    yield new
        if not fresh:
            break
    if last is not None and last != _END:  # where a walk with a lower bound does not get to
        async with aclosing(_parts(rows.find({"_id": MaxKey()}, comment=COMMENT), reading.seconds)) as parts:
            async for part in parts:
                yield part


async def _parts(cursor: Any, seconds: float) -> AsyncGenerator[list[Bytes], None]:
    """Each under a deadline of its own, which is over before the part is handed on."""
    try:
        while True:
            part: list[Bytes] = []
            taken = 0
            async with within(seconds):
                while len(part) < _PART and taken < _BYTES and (found := await anext(cursor, None)) is not None:
                    part.append(found.raw)
                    taken += len(part[-1])
            if not part:
                return
            yield part
    finally:
        async with within(seconds):
            await cursor.close()


def _rows(reading: Reading, collection: Listed) -> AsyncIOMotorCollection[Any]:
    return reading.database.get_collection(collection.name, codec_options=_RAW)


def _key(document: Bytes) -> Bytes:
    """The `_id` alone, as a document: of bytes it can be said whether they are the same, of NaN it cannot."""
    try:
        return bson.encode({"_id": bson.decode(document, _ESCAPED)["_id"]}, codec_options=CODEC)
    except (BSONError, UnicodeEncodeError) as error:
        raise Invalid("_id", "is no valid BSON") from error
