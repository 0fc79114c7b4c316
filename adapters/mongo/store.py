"""The legacy side: its collections in MongoDB, through Motor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Final

import pymongo
import structlog
from bson.codec_options import CodecOptions, DatetimeConversion
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient
from pymongo.read_preferences import Primary

from adapters.documents.mapping import Mapper
from adapters.mongo.beacons import Beacons
from adapters.mongo.calls import within
from adapters.mongo.change_stream import ChangeStream
from adapters.mongo.collection import Collection, Raw
from adapters.mongo.operations import Operations
from adapters.mongo.outbox import Outbox
from adapters.mongo.positions import Positions
from adapters.mongo.quarantine import MongoQuarantine
from adapters.mongo.rows import rows_of
from adapters.mongo.runs import MongoRuns
from adapters.mongo.sessions import Sessions
from adapters.mongo.settle import MAJORITY, Settling
from adapters.mongo.source_operations import SourceOperations
from adapters.mongo.sources import Sources
from adapters.mongo.state import MongoState
from adapters.mongo.stream_events import Position
from adapters.side import Applied, Backlog, Document, Held, Key, Mark, Operation, Outcome, Range, SideError, Unavailable

__all__ = ["Collection", "MongoStore"]

POOL: Final = 64
"""Connections that a process holds at most."""

log = structlog.get_logger()


class StandaloneServer(SideError):
    """What was asked needs transactions, and so a replica set (one node is enough)."""


class MongoStore:
    """The legacy side as a `Store`.

    `url` names the database. Times are in seconds: `read` and `write` are the deadlines of one operation, `connect`
    that of finding a server. `replica` names the process in the registry of replicas; a command is none and has no name.
    """

    def __init__(
        self,
        url: str,
        collections: Mapping[str, Collection],
        *,
        replica: str | None = None,
        connect: float = 3.0,
        read: float = 10.0,
        write: float = 10.0,
    ) -> None:
        self._client: AsyncIOMotorClient[Raw] = AsyncIOMotorClient(
            url,
            appname="strangler",
            serverSelectionTimeoutMS=int(connect * 1000),
            connectTimeoutMS=int(connect * 1000),
            socketTimeoutMS=int(max(read, write) * 1000),
            maxPoolSize=POOL,
            waitQueueTimeoutMS=int(connect * 1000),
        )
        # A date beyond Python's years, a string that is no UTF-8, a UUID cut short: one document's trouble, not that of its
        # batch. They are left to the mapping, which names their place.
        codec: CodecOptions[Raw] = CodecOptions(
            tz_aware=True,
            datetime_conversion=DatetimeConversion.DATETIME_AUTO,
            unicode_decode_error_handler="surrogateescape",
        )
        self._database = self._client.get_default_database(
            codec_options=codec, read_preference=Primary(), write_concern=MAJORITY
        )
        self._connect = connect
        self._read = read
        self._write = write
        self._outbox = Outbox(self._database, write)
        self._rows = rows_of(self._database, collections, self._outbox, read)
        self._operations = Operations(self._database, collections, self._outbox, read=read, write=write)
        self._several = {name: rows for name, rows in self._rows.items() if isinstance(rows, Sources)}
        self._of_several = SourceOperations(self._database, self._several, self._outbox, read=read, write=write)
        self._sessions = Sessions(self._client, self._database, replica, write)
        self._settling = Settling(self._client, self._database, self._rows, self._sessions, write)
        self.beacons = Beacons(self._database, write)
        self.positions = Positions(self._database, write)
        self.state = MongoState(self._database, self._sessions, connect)
        self.quarantine = MongoQuarantine(self._database, write)
        self.runs = MongoRuns(self._database, write)
        self.is_replica_set = False
        self._prepared = False

    async def connect(self) -> None:
        """Find the server, make the collections and indexes of our own. Raises Unavailable: then try again, or leave it to
        the first `apply`."""
        async with within(self._connect):
            hello = await self._database.command("hello")
        self.is_replica_set = "setName" in hello
        async with within(self._write, write=True):
            await self._settling.create_collections()
            for part in (self._outbox, self.beacons, self.state, self._sessions, self.quarantine):
                await part.create_indexes()
            for several in self._several.values():
                await several.prepare()
            await self._sessions.take_over()
        self._prepared = True

    async def disconnect(self) -> None:
        """Say goodbye to the server, which may not be listening: not longer than connecting may take."""
        try:
            await self._sessions.close()
        except Unavailable as error:
            log.warning("sessions_left", cause=str(error))
        with pymongo.timeout(self._connect):
            await asyncio.to_thread(self._client.close)

    async def is_healthy(self) -> bool:
        try:
            async with within(self._connect):
                await self._database.command("ping")
        except Unavailable:
            return False
        return True

    async def perform(self, operation: Operation, *, mark: bool = False) -> Outcome:
        performs = self._of_several if operation.entity in self._several else self._operations
        return await performs.perform(operation, mark=mark)

    async def mark(self, entity: str, keys: Sequence[Key | None]) -> list[str]:
        return await self._outbox.leave(entity, keys)

    async def marks(self, entity: str, limit: int, *, older: float = 0.0) -> list[Mark]:
        return await self._outbox.oldest(entity, limit, older=older)

    async def outbox(self) -> dict[str, Backlog]:
        return await self._outbox.backlogs()

    async def unmark(self, ids: Sequence[str]) -> None:
        await self._outbox.remove(ids)

    async def together(self, entity: str, keys: Sequence[Key]) -> Mapping[Key, Key]:
        return await self._rows[entity].together(keys)

    async def hold(self, entity: str, keys: Sequence[Key]) -> Held:
        return await self._settling.hold(entity, keys)

    async def apply(self, entity: str, term: int, token: int, documents: Mapping[Key, Document | None]) -> Applied:
        """As `Store.apply` says. Raises StandaloneServer where there are no transactions."""
        if not self._prepared:
            await self.connect()
        if not self.is_replica_set:
            raise StandaloneServer("settling to Mongo needs transactions: run it as a replica set (one node is enough)")
        return await self._settling.apply(entity, term, token, documents)

    async def turn(self, entity: str, term: int) -> None:
        await self._settling.turn(entity, term)

    def changes(self, *, replica: str, resume: Position | None = None) -> ChangeStream:
        """The change stream of all collections, not opened yet, for the process of that name."""
        return ChangeStream(self._database, self._places(), replica=replica, resume=resume, deadline=self._write)

    def keys(self, entity: str, *, batch: int = 500) -> AsyncIterator[list[Key]]:
        return self._rows[entity].keys(batch=batch)

    async def range(self, entity: str, after: str | None, *, most: int, size: int | None = None) -> Range | None:
        return await self._rows[entity].range(after, most=most, size=size)

    async def same(self, entity: str, documents: Mapping[Key, Document]) -> frozenset[Key]:
        return await self._rows[entity].same(documents)

    async def present(self, entity: str, keys: Sequence[Key]) -> frozenset[Key]:
        return await self._rows[entity].present(keys)

    def changed_since(self, entity: str, at: datetime, *, batch: int = 500) -> AsyncIterator[list[Key]]:
        return self._rows[entity].changed_since(at, batch=batch)

    @property
    def retries(self) -> int:
        """Transactions that met another and were run again."""
        return self._settling.retries

    async def count(self, entity: str) -> int:
        return await self._rows[entity].count()

    def _places(self) -> dict[str, tuple[str, Mapper]]:
        """By collection, its entity and how its `_id`s are written."""
        return {place: (entity, mapper) for entity, rows in self._rows.items() for place, mapper in rows.places.items()}


async def existing_collections(url: str, *, deadline: float = 1.0) -> set[str] | None:
    """The names of the database's collections; None where there is no asking. Leaves no thread behind: what asks may fork."""
    async with AsyncMongoClient[Raw](url, serverSelectionTimeoutMS=int(deadline * 1000)) as client:
        try:
            async with within(deadline):
                return set(await client.get_default_database().list_collection_names())
        except Unavailable:
            return None
