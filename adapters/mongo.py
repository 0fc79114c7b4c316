"""The legacy side: its collections in MongoDB, through Motor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pymongo
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.read_preferences import Primary

from adapters.change_stream import ChangeStream, Position
from adapters.mongo_calls import within
from adapters.mongo_collection import Collection, Raw, key_or_text
from adapters.mongo_operations import Operations
from adapters.mongo_outbox import Outbox
from adapters.mongo_settle import MAJORITY, Settling
from adapters.mongo_state import MongoState
from adapters.side import Applied, Document, Held, Key, Mark, Operation, Outcome, SideError, Unavailable

__all__ = ["Collection", "MongoStore"]


class StandaloneServer(SideError):
    """What was asked needs transactions, and so a replica set (one node is enough)."""


class MongoStore:
    """The legacy side as a `Store`.

    `url` names the database. Times are in seconds: `read` and `write` are the deadlines of one operation, `connect`
    that of finding a server.
    """

    def __init__(
        self,
        url: str,
        collections: Mapping[str, Collection],
        *,
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
        )
        # A date beyond Python's years is one document's trouble, not that of its batch: it is left to the mapping.
        codec: CodecOptions[Raw] = CodecOptions(
            tz_aware=True,
            uuid_representation=UuidRepresentation.STANDARD,
            datetime_conversion=DatetimeConversion.DATETIME_AUTO,
        )
        self._database = self._client.get_default_database(
            codec_options=codec, read_preference=Primary(), write_concern=MAJORITY
        )
        self._collections = collections
        self._connect = connect
        self._read = read
        self._write = write
        self._outbox = Outbox(self._database, write)
        self._operations = Operations(self._database, collections, self._outbox, read=read, write=write)
        self._settling = Settling(self._client, self._database, collections, write)
        self.state = MongoState(self._database, write)
        self.is_replica_set = False
        self._prepared = False

    async def connect(self) -> None:
        """Find the server, make the collections and indexes of our own. Raises Unavailable: then try again, or leave it to
        the first `apply`."""
        async with within(self._write, write=True):
            hello = await self._database.command("hello")
            self.is_replica_set = "setName" in hello
            await self._settling.create_collections()
            await self._outbox.create_indexes()
            await self.state.create_indexes()
        self._prepared = True

    async def disconnect(self) -> None:
        """Say goodbye to the server, which may not be listening: not longer than connecting may take."""
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
        return await self._operations.perform(operation, mark=mark)

    async def marks(self, entity: str, limit: int) -> list[Mark]:
        return await self._outbox.oldest(entity, limit)

    async def unmark(self, ids: Sequence[str]) -> None:
        await self._outbox.remove(ids)

    async def hold(self, entity: str, keys: Sequence[Key]) -> Held:
        return await self._settling.hold(entity, keys)

    async def apply(self, entity: str, token: int, documents: Mapping[Key, Document | None]) -> Applied:
        """As `Store.apply` says. Raises StandaloneServer where there are no transactions."""
        if not self._prepared:
            await self.connect()
        if not self.is_replica_set:
            raise StandaloneServer("settling to Mongo needs transactions: run it as a replica set (one node is enough)")
        return await self._settling.apply(entity, token, documents)

    def changes(self, *, replica: str, resume: Position | None = None) -> ChangeStream:
        """The change stream of all collections, not opened yet, for the process of that name."""
        return ChangeStream(self._database, self._collections, replica=replica, resume=resume, deadline=self._write)

    async def keys(self, entity: str, *, batch: int = 500) -> AsyncIterator[list[Key]]:
        """As `Store.keys` says. Each batch is a range of its own: nothing is open between them.

        An `_id` that is no key is given as its text, which `hold` refuses with the reason.
        """
        collection = self._collections[entity]
        rows = self._database[collection.name]
        last: Any = None
        while True:
            # A condition on `_id` would leave out ids of other BSON types than the last one's; a bound does not.
            ranged = rows.find({}, {"_id": 1}, sort=[("_id", 1)], hint=[("_id", 1)], limit=batch + 1)
            if last is not None:
                ranged = ranged.min([("_id", last)])
            async with within(self._read):
                found = [raw async for raw in ranged]
            fresh = [raw for raw in found if last is None or raw["_id"] != last][:batch]
            if not fresh:
                return
            last = fresh[-1]["_id"]
            yield [key_or_text(collection.mapper, raw) for raw in fresh]

    @property
    def retries(self) -> int:
        """Transactions that met another and were run again."""
        return self._settling.retries

    async def count(self, entity: str) -> int:
        async with within(self._read):
            return int(await self._database[self._collections[entity].name].count_documents({}))


async def existing_collections(url: str, *, deadline: float = 3.0) -> set[str] | None:
    """The names of the database's collections; None where there is no asking."""
    client: AsyncIOMotorClient[Raw] = AsyncIOMotorClient(url, serverSelectionTimeoutMS=int(deadline * 1000))
    try:
        async with within(deadline):
            return set(await client.get_default_database().list_collection_names())
    except Unavailable:
        return None
    finally:
        client.close()
