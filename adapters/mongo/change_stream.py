"""What changes in the legacy collections, whoever changes it: their keys, in the order of the oplog.

Documents never travel, only which ones changed: settling reads their state anyway. A barrier tells that everything
committed before it has come through. The stream survives lost connections and changes of primary; what it cannot survive
is said with `StreamLost`.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Literal

import structlog
from bson import ObjectId, Timestamp
from motor.motor_asyncio import AsyncIOMotorDatabase, AsyncIOMotorLatentCommandCursor
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError

from adapters.documents.mapping import Mapper
from adapters.mongo.calls import name_of, within
from adapters.mongo.collection import Raw
from adapters.mongo.stream_events import BEACONS, Beacon, Change, Meanings, Passed, Position, Transaction, pipeline
from adapters.mongo.stream_events import transaction_of as _transaction_of
from adapters.side import SideError

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

Cause = Literal["too_old", "invalidated", "unauthorised", "unsupported", "refused", "closed"]

_CURSOR_GONE: Final = frozenset({43, 237})
_HISTORY_LOST: Final = frozenset({136, 260, 280, 286})
"""Capped position lost, invalid resume token, fatal error, history lost: there is no going on from the position."""
_TOO_LARGE: Final = frozenset({10334, 17419, 17420})
"""An event over 16 MB: there is no going past it."""
_FORBIDDEN: Final = frozenset({13, 18})
_STANDALONE: Final = 40573

log = structlog.get_logger()


class StreamLost(SideError):
    """The stream cannot go on. `missed`: not from where it was either, so that changes may have been missed."""

    def __init__(self, cause: Cause, detail: str = "") -> None:
        super().__init__(f"{cause}: {detail}" if detail else cause)
        self.cause: Final = cause

    @property
    def missed(self) -> bool:
        return self.cause in ("too_old", "invalidated")


class ChangeStream:
    """An endless async iterator of Change and Beacon for one consumer. Nothing is fetched ahead of it but one batch.
    Changes that are settles of our own do not come.

    `entities`: by the name of the collection, the entity and how its keys are written. `replica` names the process that
    follows; `resume` is the position to go on after, else the stream starts with `open()`. `position` is a place before
    which the consumer is done with everything: it has asked for more since. `opened` is the server's time at `open()`,
    `fetched` the loop's time at which the present batch came, `reading` is set
    once the server has accepted the stream. `reconnects` counts lost connections.
    """

    def __init__(
        self,
        database: AsyncIOMotorDatabase[Raw],
        entities: Mapping[str, tuple[str, Mapper]],
        *,
        replica: str,
        resume: Position | None = None,
        deadline: float = 10.0,
    ) -> None:
        self._database = database
        self._meanings = Meanings(entities)
        self._beacon_id = f"stream {replica}"
        self._deadline = deadline
        self._pipeline = pipeline(list(entities))
        self._cursor: AsyncIOMotorLatentCommandCursor[Raw] | None = None
        self._delay = FIRST_DELAY
        self._linger_next = False
        self._asked = asyncio.Event()
        self._moved = 0.0
        self._waiting: asyncio.Future[None] | None = None
        self._passing: dict[ObjectId, asyncio.Future[None]] = {}
        self._sender: asyncio.Task[None] | None = None
        self._lost: StreamLost | None = None
        self._pending: deque[Change | Beacon] = deque()
        self._taken = resume
        self._transaction: Transaction | None = None
        self.position = resume
        self.opened: Timestamp | None = None
        self.fetched = 0.0
        self.reading = asyncio.Event()
        self.reconnects = 0

    async def open(self) -> None:
        """From here on nothing is missed. Raises Unavailable, and StreamLost on a standalone server."""
        self._moved = asyncio.get_running_loop().time()
        async with within(self._deadline):
            answer = await self._database.command("ping")
        self.opened = answer.get("operationTime")
        if self.opened is None:
            raise StreamLost("unsupported", "only a replica set has change streams")
        if self.position is None:
            self.position = self._taken = {"at": self.opened}

    async def close(self) -> None:
        """Whoever waits for a barrier is told StreamLost."""
        self._end(StreamLost("closed"))
        cursor, self._cursor = self._cursor, None
        if self._sender:
            self._sender.cancel()
            await asyncio.wait([self._sender])
        if cursor:
            async with within(self._deadline):
                await cursor.close()

    def __aiter__(self) -> ChangeStream:
        return self

    async def __anext__(self) -> Change | Beacon:
        """Raises StreamLost. Waiting for it may be cancelled; the next call then opens the stream anew."""
        while not self._pending:
            # Only now: who asks for more is done with what it took before. Never into the middle of a transaction, for
            # whoever resumed there would not know whose it is.
            if self._transaction is None:
                self.position = self._taken
            event = await self._event()
            self._moved = asyncio.get_running_loop().time()
            self._take(event)
        return self._pending.popleft()

    def _take(self, event: Raw) -> None:
        kind = event["operationType"]
        if kind in ("invalidate", "dropDatabase"):
            raise self._end(StreamLost("invalidated", kind))
        transaction = _transaction_of(event)
        if transaction != self._transaction:
            self.position = self._taken
        self._taken, self._transaction = event["_id"], transaction
        for meaning in self._meanings.of(event):
            if not isinstance(meaning, Passed):
                self._pending.append(meaning)
            elif (passing := self._passing.get(meaning.id)) and not passing.done():
                passing.set_result(None)

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
                    await self._database[BEACONS].replace_one(
                        {"_id": self._beacon_id},
                        {"beacon": beacon, "entities": None, "at": datetime.now(UTC)},
                        upsert=True,
                    )
                await asyncio.wait([passing])
            except SideError as error:
                if not passing.done():
                    passing.set_exception(error)
            finally:
                del self._passing[beacon]
                if self._waiting is None:
                    self._asked.clear()

    def _end(self, lost: StreamLost) -> StreamLost:
        """Tell all who wait for a barrier, and all who will."""
        self._lost = lost
        waiting, self._waiting = self._waiting, None
        for future in (*self._passing.values(), waiting):
            if future is not None and not future.done():
                future.set_exception(lost)
        return lost

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
        loop = asyncio.get_running_loop()
        while True:
            cursor = self._cursor or self._opened()
            try:
                # Motor has no other word for the end of a batch, and will have none: it is frozen at its last release.
                if not cursor._buffer_size():
                    await self._linger()
                    self.fetched = 0.0
                event: Raw
                async for event in cursor:
                    self._delay = FIRST_DELAY
                    self._linger_next = True
                    self.fetched = self.fetched or loop.time()
                    self.reading.set()
                    return event
            except PyMongoError as error:
                await self._recover(error)
            except asyncio.CancelledError:
                # Its thread may still be fetching: what it fetches is nobody's, the position has not moved.
                self._cursor = None
                raise
            else:
                self.reading.set()
                if not cursor.delegate.alive:
                    self._cursor = None
                if loop.time() - self._moved > IDLE:
                    self._moved = loop.time()
                    self._beacon()

    def _opened(self) -> AsyncIOMotorLatentCommandCursor[Raw]:
        if not self.position:
            raise StreamLost("refused", "not opened")
        at = self.position.get("at")
        start: Raw = {"startAtOperationTime": at} if at else {"startAfter": self.position}
        cursor = self._database.aggregate(
            [{"$changeStream": start}, *self._pipeline], batchSize=BATCH, maxAwaitTimeMS=int(PATIENCE * 1000)
        )
        self._cursor = cursor
        return cursor

    async def _recover(self, error: PyMongoError) -> None:
        """Wait before the stream is opened again, after its last position. Raises StreamLost where that cannot help."""
        self._cursor = None
        lost = _lost_by(error)
        if lost:
            raise self._end(StreamLost(lost, name_of(error))) from None
        self.reconnects += 1
        log.warning("change_stream_reconnects", cause=name_of(error), reconnects=self.reconnects)
        await asyncio.sleep(random.uniform(self._delay / 2, self._delay))
        self._delay = min(2 * self._delay, LONGEST_DELAY)


def _lost_by(error: PyMongoError) -> Cause | None:
    """None: the stream may be opened again where it was."""
    if not isinstance(error, OperationFailure):
        return None if isinstance(error, ConnectionFailure) else "refused"
    if error.code in _HISTORY_LOST | _TOO_LARGE:
        return "too_old"
    if error.code in _FORBIDDEN:
        return "unauthorised"
    if error.code == _STANDALONE:
        return "unsupported"
    may_resume = error.code in _CURSOR_GONE or error.has_error_label("ResumableChangeStreamError")
    return None if may_resume else "refused"
