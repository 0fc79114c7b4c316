"""What changes in the legacy collections, whoever changes it: their keys, in the order of the oplog.

Documents never travel, only which ones changed: settling reads their state anyway. A barrier tells that everything
committed before it has come through. The stream survives lost connections and changes of primary; what it cannot survive
is said with `StreamLost`, and then only a verification can tell what was missed.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import structlog
from bson import ObjectId, Timestamp
from motor.motor_asyncio import AsyncIOMotorDatabase, AsyncIOMotorLatentCommandCursor
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError

from adapters.mongo_calls import name_of, within
from adapters.mongo_collection import Collection, Raw
from adapters.side import Invalid, Key, SideError

Kind = Literal["insert", "update", "replace", "delete", "drop", "rename", "unreadable"]
Position = Mapping[str, Any]
"""A resume token: what to go on after."""

BEACONS: Final = "strangler_beacons"
BATCH: Final = 500
"""Events fetched at a time, and held at most."""

PATIENCE: Final = 1.0
"""Seconds that the server waits for an event before it answers without one."""

IDLE: Final = 30.0
"""Seconds without an event after which the stream sends itself one, so that its position does not fall off the oplog."""

LINGER: Final = 0.03
"""Seconds that the stream waits between two batches for more to come."""

FIRST_DELAY: Final = 0.05
LONGEST_DELAY: Final = 10.0

_CURSOR_GONE: Final = frozenset({43, 237})
_WRITES: Final = ("insert", "update", "replace", "delete")

log = structlog.get_logger()


class StreamLost(SideError):
    """The stream cannot go on from where it was: changes may have been missed."""


@dataclass(frozen=True, slots=True)
class Change:
    """A key that changed at `clock` (the server's, comparable with `Held.clock`), and where to resume after it.

    No key: the whole collection changed (`drop`, `rename`), or a document whose `_id` is no key (`unreadable`).
    """

    entity: str
    key: Key | None
    clock: Timestamp
    kind: Kind
    position: Position


class ChangeStream:
    """An endless async iterator of Change for one consumer. Nothing is fetched ahead of it but one batch.

    `replica` names the process that follows; `resume` is the position to go on after, else the stream starts with
    `open()`. `position` is that of the last event the consumer is done with: it has asked for more since. `reconnects`
    counts lost connections.
    """

    def __init__(
        self,
        database: AsyncIOMotorDatabase[Raw],
        collections: Mapping[str, Collection],
        *,
        replica: str,
        resume: Position | None = None,
        deadline: float = 10.0,
    ) -> None:
        self._database = database
        self._entities = {collection.name: (entity, collection.mapper) for entity, collection in collections.items()}
        self._replica = replica
        self._deadline = deadline
        self._pipeline = _pipeline(list(self._entities), replica)
        self._cursor: AsyncIOMotorLatentCommandCursor[Raw] | None = None
        self._start: Timestamp | None = None
        self._delay = FIRST_DELAY
        self._linger_next = False
        self._asked = asyncio.Event()
        self._moved = 0.0
        self._waiting: asyncio.Future[None] | None = None
        self._passing: dict[ObjectId, asyncio.Future[None]] = {}
        self._sender: asyncio.Task[None] | None = None
        self._lost: StreamLost | None = None
        self._pending: deque[Change] = deque()
        self._taken = resume
        self.position = resume
        self.reconnects = 0

    async def open(self) -> None:
        """From here on nothing is missed. Raises Unavailable, and StreamLost on a standalone server."""
        self._moved = asyncio.get_running_loop().time()
        async with within(self._deadline):
            answer = await self._database.command("ping")
        self._start = answer.get("operationTime")
        if self._start is None:
            raise StreamLost("only a replica set has change streams")

    async def close(self) -> None:
        """Whoever waits for a barrier is told StreamLost."""
        self._end("closed")
        cursor, self._cursor = self._cursor, None
        if self._sender:
            self._sender.cancel()
            await asyncio.wait([self._sender])
        if cursor:
            async with within(self._deadline):
                await cursor.close()

    def __aiter__(self) -> ChangeStream:
        return self

    async def __anext__(self) -> Change:
        """Raises StreamLost. Waiting for it may be cancelled; the next call then opens the stream anew."""
        while not self._pending:
            # Only now: who asks for more is done with what it took before.
            self.position = self._taken
            event = await self._event()
            self._moved = asyncio.get_running_loop().time()
            self._pending.extend(self._changes(event))
            self._taken = event["_id"]
        return self._pending.popleft()

    async def barrier(self) -> None:
        """Returns when the consumer has taken every change that was committed before the call.

        The stream must be iterated meanwhile. Calls that come while a beacon is under way share the next one. Raises
        Unavailable when the beacon could not be written, StreamLost with the stream; the caller brings the deadline.
        """
        await asyncio.shield(self._beacon())

    def _beacon(self) -> asyncio.Future[None]:
        if self._lost:
            raise self._lost
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_future()
            self._asked.set()
            # Its failure is told to whoever waits; nobody has to.
            self._waiting.add_done_callback(lambda future: future.cancelled() or future.exception())
            if self._sender is None or self._sender.done():
                self._sender = asyncio.create_task(self._send_beacons())
        return self._waiting

    async def _send_beacons(self) -> None:
        """One beacon at a time, each for all who asked before it was written."""
        while self._waiting is not None:
            passing, self._waiting = self._waiting, None
            beacon = ObjectId()
            self._passing[beacon] = passing
            try:
                async with within(self._deadline, write=True):
                    await self._database[BEACONS].update_one(
                        {"_id": self._replica}, {"$set": {"beacon": beacon}}, upsert=True
                    )
                await asyncio.wait([passing])
            except SideError as error:
                if not passing.done():
                    passing.set_exception(error)
            finally:
                del self._passing[beacon]
                if self._waiting is None:
                    self._asked.clear()

    def _end(self, reason: str) -> StreamLost:
        """Tell all who wait for a barrier, and all who will."""
        self._lost = StreamLost(reason)
        waiting, self._waiting = self._waiting, None
        for future in (*self._passing.values(), waiting):
            if future is not None and not future.done():
                future.set_exception(self._lost)
        return self._lost

    async def _linger(self) -> None:
        """Let events gather between two batches, unless somebody waits for a barrier: who asks at once is woken for each
        single write, by the very commit whose client waits for its answer."""
        if not self._linger_next:
            return
        self._linger_next = False
        try:
            async with asyncio.timeout(LINGER):
                await self._asked.wait()
        except TimeoutError:
            return

    async def _event(self) -> Raw:
        while True:
            cursor = self._cursor or self._opened()
            try:
                # Motor has no other word for the end of a batch, and will have none: it is frozen at its last release.
                if not cursor._buffer_size():
                    await self._linger()
                event: Raw
                async for event in cursor:
                    self._delay = FIRST_DELAY
                    self._linger_next = True
                    return event
            except PyMongoError as error:
                await self._recover(error)
            except asyncio.CancelledError:
                # Its thread may still be fetching: what it fetches is nobody's, the position has not moved.
                self._cursor = None
                raise
            else:
                if not cursor.delegate.alive:
                    self._cursor = None
                if asyncio.get_running_loop().time() - self._moved > IDLE:
                    self._moved = asyncio.get_running_loop().time()
                    self._beacon()

    def _opened(self) -> AsyncIOMotorLatentCommandCursor[Raw]:
        if self.position:
            start: Raw = {"startAfter": self.position}
        elif self._start:
            start = {"startAtOperationTime": self._start}
        else:
            raise StreamLost("not opened")
        cursor = self._database.aggregate(
            [{"$changeStream": start}, *self._pipeline], batchSize=BATCH, maxAwaitTimeMS=int(PATIENCE * 1000)
        )
        self._cursor = cursor
        return cursor

    async def _recover(self, error: PyMongoError) -> None:
        """Wait before the stream is opened again, after its last position. Raises StreamLost where that cannot help."""
        self._cursor = None
        if not _may_resume(error):
            raise self._end(name_of(error)) from None
        self.reconnects += 1
        log.warning("change_stream_reconnects", cause=name_of(error), reconnects=self.reconnects)
        await asyncio.sleep(random.uniform(self._delay / 2, self._delay))
        self._delay = min(2 * self._delay, LONGEST_DELAY)

    def _changes(self, event: Raw) -> Iterator[Change]:
        """None for a beacon, two for a rename of one followed collection to another."""
        kind, clock, position = event["operationType"], event["clusterTime"], event["_id"]
        if kind in ("invalidate", "dropDatabase"):
            raise self._end(kind)
        if event["ns"]["coll"] == BEACONS:
            passing = self._passing.get(event["beacon"])
            if passing and not passing.done():
                passing.set_result(None)
        elif kind in ("drop", "rename"):
            names = {event[place]["coll"] for place in ("ns", "to") if place in event}
            for name in sorted(names & self._entities.keys()):
                yield Change(self._entities[name][0], None, clock, kind, position)
        else:
            entity, mapper = self._entities[event["ns"]["coll"]]
            try:
                yield Change(entity, mapper.key_of(event["documentKey"]), clock, kind, position)
            except Invalid:
                yield Change(entity, None, clock, "unreadable", position)


def _pipeline(collections: list[str], replica: str) -> list[Raw]:
    of_entity = {"ns.coll": {"$in": collections}, "operationType": {"$in": [*_WRITES, "drop", "rename"]}}
    renamed = {"to.coll": {"$in": collections}, "operationType": "rename"}
    beacon = {"ns.coll": BEACONS, "documentKey._id": replica}
    ended = {"operationType": {"$in": ["dropDatabase", "invalidate"]}}
    sent = {"$ifNull": ["$updateDescription.updatedFields.beacon", "$fullDocument.beacon"]}
    kept = dict.fromkeys(("operationType", "clusterTime", "documentKey", "ns", "to"), 1)
    return [
        {"$match": {"$or": [of_entity, renamed, beacon, ended]}},
        {"$project": {**kept, "beacon": {"$cond": [{"$eq": ["$ns.coll", BEACONS]}, sent, "$$REMOVE"]}}},
    ]


def _may_resume(error: PyMongoError) -> bool:
    if isinstance(error, OperationFailure):
        return error.code in _CURSOR_GONE or error.has_error_label("ResumableChangeStreamError")
    return isinstance(error, ConnectionFailure)
