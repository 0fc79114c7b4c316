"""What the bench of moving the data stands on: a seeded collection, a running Proxim8 before it, and where to move it to."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Final

from bson import ObjectId
from pymongo import AsyncMongoClient

from config.model import Stage
from examples.databases import drop_database, fresh_database, run_sql, with_database
from examples.proxim8.reach import Reach, reach
from examples.proxim8.stand import Stand, Stores, stand

PER_ACCOUNT: Final = 10
"""Videos of each account."""
ENTITIES: Final = ("account", "video")

_BATCH: Final = 2_000
_BEGIN: Final = datetime(2024, 1, 1, tzinfo=UTC)
_WORDS: Final = (
    *("neon", "harbour", "rain", "drone", "chase", "midnight", "skyline", "courier", "archive", "signal", "rooftop"),
    *("market", "orbit", "garden", "engine", "mirror", "coastline", "lantern", "tunnel", "festival"),
)
_STATUSES: Final = ("COMPLETED", "COMPLETED", "COMPLETED", "COMPLETED", "PENDING", "PROCESSING", "FAILED")
_EMPTY: Final = "TRUNCATE accounts, profiles, videos, notifications, strangler_fence"

Raw = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ground:
    """`documents`: the videos and their accounts together."""

    proxim8: Stand
    reached: Reach
    videos: int
    documents: int

    async def empty(self) -> None:
        """Take out of PostgreSQL what was moved there, and its fences: the next backfill is a first one."""
        await run_sql(self.proxim8.stores.database_url, [_EMPTY])

    async def move(self, stage: Stage) -> None:
        """The flags of both entities to this stage."""
        for entity in ENTITIES:
            async for _ in self.reached.cutover.flip(entity, stage, "bench"):
                pass
        await asyncio.sleep(0.5)  # longer than a replica takes to see it


@asynccontextmanager
async def ground(folder: Path, servers: Stores, name: str, videos: int) -> AsyncIterator[Ground]:
    """Databases of this name on the servers, so many videos in the legacy one, everything running, at `dualwrite`."""
    mongo_url = with_database(servers.mongo_url, name)
    documents = await _seed(mongo_url, videos)
    async with database(servers, name) as database_url:
        own = folder / name
        own.mkdir()
        async with stand(own, Stores(mongo_url, database_url)) as proxim8, reach(proxim8) as reached:
            here = Ground(proxim8, reached, videos, documents)
            await here.move(Stage.DUALWRITE)
            yield here


@asynccontextmanager
async def database(servers: Stores, name: str) -> AsyncIterator[str]:
    """The URL of an empty, migrated PostgreSQL database, dropped at the end."""
    url = await fresh_database(servers.database_url, name)
    try:
        yield url
    finally:
        await drop_database(servers.database_url, name)


async def empty(database_url: str) -> None:
    await run_sql(database_url, [_EMPTY])


def accounts_of(videos: int) -> int:
    """How many accounts the first so many videos belong to."""
    return -(-videos // PER_ACCOUNT)


async def _seed(mongo_url: str, videos: int) -> int:
    """The same documents every time; how many."""
    accounts = accounts_of(videos)
    async with AsyncMongoClient[Raw](mongo_url) as client:
        old = client.get_default_database()
        for name, raws in (("accounts", _accounts(accounts)), ("videos", _videos(videos))):
            while batch := list(islice(raws, _BATCH)):
                await old[name].insert_many(batch, ordered=False)
    return accounts + videos


def _accounts(count: int) -> Iterator[Raw]:
    for number in range(count):
        at = _BEGIN + timedelta(minutes=number)
        wallet = hashlib.sha256(b"%d" % number).hexdigest()[:40]
        yield {"_id": _id(1, number), "walletAddress": f"0x{wallet}", "createdAt": at, "updatedAt": at}


def _videos(count: int) -> Iterator[Raw]:
    """As Mongoose leaves them: a title mostly, a description often, URLs where they were made."""
    rng = Random(4)
    for number in range(count):
        at = _BEGIN + timedelta(seconds=37 * number, milliseconds=rng.randrange(1000))
        job, status = f"job-{rng.getrandbits(64):016x}{number:08x}", rng.choice(_STATUSES)
        raw: Raw = {
            "_id": _id(2, number),
            "accountId": _id(1, rng.randrange(accounts_of(number + 1))),  # one that was there before it
            "nftId": f"nft-{rng.randrange(10_000)}",
            "jobId": job,
            "status": status,
            "isPublic": rng.random() < 0.5,
            "createdAt": at,
            "updatedAt": at + timedelta(milliseconds=rng.randrange(10**9)),
            "__v": 0,
        }
        if rng.random() < 0.9:
            raw["title"] = " ".join(rng.choices(_WORDS, k=4)).capitalize()
        if rng.random() < 0.7:
            raw["description"] = " ".join(rng.choices(_WORDS, k=rng.randrange(10, 40))).capitalize() + "."
        if status == "COMPLETED":
            raw["videoUrl"] = f"https://media.example/videos/{job}/master.mp4"
            raw["thumbnailUrl"] = f"https://media.example/videos/{job}/thumbnail.jpg"
        yield raw


def _id(kind: int, number: int) -> ObjectId:
    """In the order in which they were made, as ObjectIds are."""
    seconds = int(_BEGIN.timestamp()) + 37 * number
    return ObjectId(f"{seconds:08x}{kind:010x}{number % 2**24:06x}")
