"""A store on a real mongod, the documents that it is given, and the server's fail points."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

from bson import ObjectId
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from adapters.documents.mapping import Mapper
from adapters.mongo.store import Collection, MongoStore
from adapters.side import Document, Operation
from config.model import Entity
from config.schema import load_schema

Raw = dict[str, Any]
Database = AsyncDatabase[Raw]

ENTITIES: Final = {
    "account": Entity(collection="accounts", model="Account"),
    "notification": Entity.model_validate(
        {"collection": "notifications", "model": "Notification", "fields": {"accountId": {"legacy": "objectId"}}}
    ),
}
LOOKS: Final = 5_000
PAUSE: Final = 0.002
"""Looks for what has to come, and seconds between them, before the test fails."""


def collections() -> dict[str, Collection]:
    schema = load_schema()
    return {
        name: Collection(entity.collection, Mapper(entity, schema.models[entity.model], schema))
        for name, entity in ENTITIES.items()
    }


@asynccontextmanager
async def connected(
    url: str, *, replica: str | None = None, term: int = 1, **times: float
) -> AsyncIterator[MongoStore]:
    """A store of which every entity is at the term at least."""
    store = MongoStore(url, collections(), replica=replica, **times)
    try:
        await store.connect()
        for entity in ENTITIES:
            await store.turn(entity, term)
        yield store
    finally:
        await store.disconnect()


@asynccontextmanager
async def another_program(url: str) -> AsyncIterator[Database]:
    """The same database as another program sees it."""
    client: AsyncMongoClient[Raw] = AsyncMongoClient(url, tz_aware=True)
    async with client:
        yield client.get_default_database()


def account(wallet: str, key: str | None = None) -> Document:
    at = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    return {"id": key or str(ObjectId()), "walletAddress": wallet, "createdAt": at, "updatedAt": at}


def create(wallet: str, **fields: Any) -> Operation:
    return Operation("account", "create", data={"walletAddress": wallet, **fields})


@asynccontextmanager
async def failing(url: str, point: str, data: Raw, *, times: int | None = None) -> AsyncIterator[None]:
    """A fail point of the server, for commands of the store only."""
    client: AsyncMongoClient[Raw] = AsyncMongoClient(url)
    if point == "failCommand":
        data = {**data, "appName": "strangler"}
    async with client:
        mode = {"times": times} if times else "alwaysOn"
        await client.admin.command("configureFailPoint", point, mode=mode, data=data)
        try:
            yield
        finally:
            await client.admin.command("configureFailPoint", point, mode="off")


async def operations(database: Database, **where: Any) -> list[Raw]:
    """What runs on the server now, idle sessions with an open transaction included, as `$currentOp` tells it."""
    stages = [{"$currentOp": {"allUsers": True, "idleSessions": True}}, {"$match": where}]
    async with await database.client.admin.aggregate(stages) as cursor:
        return await cursor.to_list()


async def until_operation(database: Database, **where: Any) -> Raw:
    """Wait until such an operation runs on the server."""
    for _ in range(LOOKS):
        found = await operations(database, **where)
        if found:
            return found[0]
        await asyncio.sleep(PAUSE)
    raise AssertionError("no such operation on the server")


async def until(holds: Callable[[], bool]) -> None:
    """Wait until it holds."""
    for _ in range(LOOKS):
        if holds():
            return
        await asyncio.sleep(PAUSE)
    raise AssertionError("it never held")
