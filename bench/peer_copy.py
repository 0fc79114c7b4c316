"""The peers of `bench/move.py`: straight scripts that copy accounts and videos from Mongo to PostgreSQL, once.

`python -m bench.peer_copy WAY MONGO_URL DATABASE_URL ACCOUNTS VIDEOS` copies the first so many and prints {"documents",
"seconds"}. Both read with PyMongo; `create` writes with Prisma Client's `createMany`, `copy` with `COPY`. They know nothing
of traffic, nor of what is there already.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final

import asyncpg
import orjson
import uvloop
from pymongo import MongoClient
from pymongo.database import Database

from adapters.engine import Engine

Raw = dict[str, Any]

_BATCH: Final = 50  # with more rows in a statement, Prisma Client takes longer for each
_IN_FLIGHT: Final = 4
_ACCOUNT: Final = ("id", "walletAddress", "createdAt", "updatedAt")
_VIDEO: Final = (
    *("id", "accountId", "nftId", "jobId", "status", "title", "description", "videoUrl", "thumbnailUrl", "isPublic"),
    *("createdAt", "updatedAt"),
)


@dataclass(frozen=True, slots=True)
class Source:
    """The first so many of each, in the order in which they were made."""

    database: Database[Raw]
    accounts: int
    videos: int


async def create(source: Source, database_url: str) -> int:
    """Some batches at once: a batch is read while others are written."""
    engine = Engine(database_url, connect=60, timeout=60)
    await engine.connect()
    try:
        accounts = await _create(engine, "Account", _ACCOUNT, _accounts(source, _text))
        return accounts + await _create(engine, "Video", _VIDEO, _videos(source, _text))
    finally:
        await engine.disconnect()


async def _create(engine: Engine, model: str, fields: tuple[str, ...], rows: Iterator[tuple[Any, ...]]) -> int:
    written, places = 0, asyncio.Semaphore(_IN_FLIGHT)

    async def write(batch: list[tuple[Any, ...]]) -> None:
        nonlocal written
        try:
            data = [dict(zip(fields, row, strict=True)) for row in batch]
            made = await engine.call(model, "createMany", {"data": data})
            written += made["count"]
        finally:
            places.release()

    async with asyncio.TaskGroup() as writes:
        while batch := list(islice(rows, _BATCH)):
            await places.acquire()
            writes.create_task(write(batch))
    return written


async def copy(source: Source, database_url: str) -> int:
    connection = await asyncpg.connect(database_url)
    try:
        accounts = await _copy(connection, "accounts", ("_id", *_ACCOUNT[1:]), _accounts(source, _as_it_is))
        return accounts + await _copy(connection, "videos", ("_id", *_VIDEO[1:]), _videos(source, _as_it_is))
    finally:
        await connection.close()


async def _copy(connection: Any, table: str, columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> int:
    return int((await connection.copy_records_to_table(table, records=rows, columns=columns)).split()[-1])


def _accounts(source: Source, moment: Callable[[datetime], Any]) -> Iterator[tuple[Any, ...]]:
    for raw in source.database["accounts"].find(sort=[("_id", 1)], limit=source.accounts):
        yield str(raw["_id"]), raw["walletAddress"], moment(raw["createdAt"]), moment(raw["updatedAt"])


def _videos(source: Source, moment: Callable[[datetime], Any]) -> Iterator[tuple[Any, ...]]:
    for raw in source.database["videos"].find(sort=[("_id", 1)], limit=source.videos):
        get = raw.get
        yield (
            str(raw["_id"]),
            str(raw["accountId"]),
            raw["nftId"],
            raw["jobId"],
            raw["status"],
            get("title"),
            get("description"),
            get("videoUrl"),
            get("thumbnailUrl"),
            raw["isPublic"],
            moment(raw["createdAt"]),
            moment(raw["updatedAt"]),
        )


def _text(moment: datetime) -> str:
    return f"{moment.isoformat(timespec='milliseconds')}Z"


def _as_it_is(moment: datetime) -> datetime:
    return moment


async def measure(way: str, mongo_url: str, database_url: str, accounts: str, videos: str) -> None:
    write = {"create": create, "copy": copy}[way]
    with MongoClient[Raw](mongo_url) as client:
        source = Source(client.get_default_database(), int(accounts), int(videos))
        begun = time.perf_counter()
        documents = await write(source, database_url)
    sys.stdout.write(orjson.dumps({"documents": documents, "seconds": time.perf_counter() - begun}).decode())


if __name__ == "__main__":
    uvloop.run(measure(*sys.argv[1:]))
