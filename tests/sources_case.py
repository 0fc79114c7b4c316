"""What the tests of entities with several sources stand on: their documents, and a follower that settles what it hears."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from bson import ObjectId

from adapters.mongo.change_stream import ChangeStream
from adapters.mongo.stream_events import Change
from adapters.side import Key, SideName
from tests.proxy_case import DEADLINE
from tests.settle_case import Bench, Json

SOURCES_CONFIG: Final = Path(__file__).with_name("config_sources.yaml")
LATER: Final = timedelta(days=30)
NOW: Final = datetime(2026, 3, 4, 5, 6, 7, 89000, tzinfo=UTC)


def fresh() -> str:
    return secrets.token_hex(6)


@dataclass(frozen=True, slots=True)
class People:
    """The documents of accounts, profiles and videos, past everything that is under test."""

    bench: Bench

    async def user(self, wallet: str, at: datetime = NOW, **fields: Any) -> Key:
        raw = {"_id": ObjectId(), "walletAddress": wallet, "createdAt": at, "updatedAt": at, **fields}
        await self.bench.legacy["users"].insert_one(raw)
        return str(raw["_id"])

    async def account(self, wallet: str, at: datetime = NOW, **fields: Any) -> Key:
        raw = {"_id": ObjectId(), "wallet": {"address": wallet}, "createdAt": at, "updatedAt": at, **fields}
        await self.bench.legacy["accounts"].insert_one(raw)
        return str(raw["_id"])

    async def video(self, account: Key) -> Key:
        job = fresh()
        raw = {"nftId": "nft", "jobId": job, "status": "PENDING", "isPublic": False, "createdAt": NOW, "updatedAt": NOW}
        made = await self.bench.legacy["videos"].insert_one({**raw, "accountId": ObjectId(account)})
        return str(made.inserted_id)

    async def rows(self, wallet: str) -> list[Json]:
        """The rows with this wallet."""
        statement = 'SELECT "_id" AS id, "createdAt" AS created FROM "accounts" WHERE "walletAddress" = $1'
        return await self.bench.stores.engine.query_raw(statement, wallet)

    async def keys(self, wallet: str) -> list[Key]:
        return [row["id"] for row in await self.rows(wallet)]

    async def settle(self, *keys: Key, entity: str = "account") -> None:
        """Settle them, until they have settled or are in quarantine."""
        async with asyncio.timeout(DEADLINE):
            await self.bench.replicator.settle(entity, keys)

    async def differences(self, entity: str) -> list[Key]:
        """The keys that the two stores do not hold alike, as both tell it."""
        stores = self.bench.stores.by_side()
        found: dict[SideName, dict[Key, Any]] = {}
        for side, store in stores.items():
            keys = [key async for batch in store.keys(entity) for key in batch]
            assert len(keys) == len(set(keys))
            held = await store.hold(entity, keys)
            assert not held.refused
            assert held.documents.keys() == set(keys)
            found[side] = dict(held.documents)
        one, other = found["legacy"], found["prisma"]
        return [key for key in one.keys() | other.keys() if one.get(key) != other.get(key)]


@dataclass(frozen=True, slots=True)
class Follower:
    """Takes the change stream, and settles what it names."""

    bench: Bench
    stream: ChangeStream
    heard: list[Change]

    async def caught_up(self) -> None:
        """Return once everything that was committed before has settled, or is in quarantine."""
        async with asyncio.timeout(DEADLINE):
            await self.stream.barrier()
            await self.bench.replicator.drained()

    async def run(self) -> None:
        async for heard in self.stream:
            if isinstance(heard, Change) and heard.key is not None:
                self.heard.append(heard)
                await self.bench.replicator.followed(heard.entity, heard.key, None)


@asynccontextmanager
async def following(bench: Bench) -> AsyncIterator[Follower]:
    stream = bench.stores.legacy.changes(replica=fresh())
    await stream.open()
    follower = Follower(bench, stream, [])
    task = asyncio.create_task(follower.run())
    try:
        yield follower
    finally:
        task.cancel()
        await asyncio.wait([task])
        await stream.close()
