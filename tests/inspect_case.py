"""An inspector on a real mongod, the documents that it is given, and the real tables that it compares indexes with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from bson import ObjectId
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from adapters.mongo.reading import reading
from adapters.prisma.indexes import PrismaIndex
from adapters.side import Unavailable
from config.model import Config
from config.schema import Schema, load_schema
from proxy.migration.inspection.inspect import Inspector, TableIndexes
from proxy.migration.inspection.inspection import Inspection
from proxy.migration.inspection.report import as_json

Raw = dict[str, Any]
NOW: Final = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
SCHEMA: Final = load_schema()
ACCOUNT_ID: Final = {"accountId": {"legacy": "objectId"}}
ENTITIES: Final[Mapping[str, Raw]] = {
    "account": {"collection": "accounts", "model": "Account"},
    "profile": {"collection": "profiles", "model": "Profile", "fields": ACCOUNT_ID},
    "video": {"collection": "videos", "model": "Video", "fields": ACCOUNT_ID},
    "notification": {"collection": "notifications", "model": "Notification", "fields": ACCOUNT_ID},
}


def config(entities: Mapping[str, Raw] = ENTITIES) -> Config:
    return Config.model_validate({"upstreams": {}, "entities": entities})


async def no_tables(table: str) -> list[PrismaIndex] | None:
    """A database that nothing was deployed to."""
    return None


async def away(table: str) -> list[PrismaIndex] | None:
    raise Unavailable("the engine is gone")


@dataclass(frozen=True, slots=True)
class Place:
    """A Mongo database as another program writes it, and how it is looked into."""

    url: str
    database: AsyncDatabase[Raw]

    async def inspected(self, *names: str, **options: Any) -> dict[str, Any]:
        """The report, as JSON has it; `options` are those of `inspector`."""
        async with inspector(self.url, **options) as inspector_:
            return as_json(await inspector_.inspect(list(names)))

    async def one(self, name: str, **options: Any) -> dict[str, Any]:
        """What the report says of one collection."""
        [found] = (await self.inspected(name, **options))["collections"]
        return dict(found)

    async def inspection(self, name: str, **options: Any) -> Inspection:
        async with inspector(self.url, **options) as inspector_:
            [found] = (await inspector_.inspect([name])).collections
        return found


@asynccontextmanager
async def place(url: str) -> AsyncIterator[Place]:
    async with AsyncMongoClient[Raw](url, tz_aware=True, uuidRepresentation="standard") as client:
        yield Place(url, client.get_default_database())


@asynccontextmanager
async def inspector(
    url: str,
    *,
    entities: Mapping[str, Raw] = ENTITIES,
    schema: Schema = SCHEMA,
    tables: TableIndexes = no_tables,
    wanted: int | None = None,
    seconds: float = 20.0,
) -> AsyncIterator[Inspector]:
    async with reading(url, seconds=seconds) as legacy:
        yield Inspector(config(entities), schema, legacy, tables, wanted, lambda *_: None)


def account(wallet: Any, **fields: Any) -> Raw:
    return {"_id": ObjectId(), "walletAddress": wallet, "createdAt": NOW, "updatedAt": NOW, **fields}


def profile(account_id: Any, username: Any, **fields: Any) -> Raw:
    return {
        "_id": ObjectId(),
        "accountId": account_id,
        "username": username,
        "createdAt": NOW,
        "updatedAt": NOW,
        **fields,
    }


def fields(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What the report says of each path."""
    return {field["path"]: field for field in found["fields"]}


def reasons(found: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    """By path: why documents are refused, and how many."""
    return {one["path"]: (one["reason"], one["documents"]) for one in found["refused"]["reasons"]}
