"""Reading a legacy database as a guest: nothing is written, not even a collection of our own, and secondaries are asked
first. Every question carries a comment, by which those who run the server find it, and a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import pymongo
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorDatabase
from pymongo.collation import Collation
from pymongo.read_preferences import SecondaryPreferred

from adapters.mongo.calls import GRACE, within
from adapters.mongo.collection import Raw

COMMENT: Final = "strangler inspect"

BINARY: Final = Collation("simple")
"""Strings are equal where their bytes are, as PostgreSQL sees it, whatever the collection's own collation."""

CODEC: Final[CodecOptions[Raw]] = CodecOptions(
    tz_aware=True,
    uuid_representation=UuidRepresentation.STANDARD,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
"""As `MongoStore` reads: a date beyond Python's years is left to the mapping."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A database, and the seconds that one question may take."""

    database: AsyncIOMotorDatabase[Raw]
    seconds: float


@asynccontextmanager
async def reading(url: str, *, connect: float = 3.0, seconds: float = 60.0) -> AsyncIterator[Reading]:
    """The database that `url` names. Raises Unavailable where no server is found within `connect` seconds."""
    client: AsyncIOMotorClient[Raw] = AsyncIOMotorClient(
        url,
        appname="strangler",
        serverSelectionTimeoutMS=int(connect * 1000),
        connectTimeoutMS=int(connect * 1000),
        socketTimeoutMS=int((seconds + GRACE) * 1000),
        maxPoolSize=2,
    )
    database = client.get_default_database(codec_options=CODEC, read_preference=SecondaryPreferred())
    try:
        async with within(connect):
            await database.command("ping", read_preference=SecondaryPreferred())
        yield Reading(database, seconds)
    finally:
        with pymongo.timeout(connect):
            await asyncio.to_thread(client.close)
