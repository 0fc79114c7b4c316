"""What the tests of settling stand on: both stores with a replicator between them, no proxy and no follower."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from bson import ObjectId
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from adapters.side import Operation, Refusal, SideName, Store
from config.load import load
from config.model import Entity, Stage
from config.schema import load_schema
from config.settings import read_settings
from proxy.app import Stores, build_stores, parents_of
from proxy.flags.view import Flags
from proxy.idle import Idle
from proxy.metrics import Metrics
from proxy.replication.quarantine import Quarantines
from proxy.replication.replicator import Replicator
from proxy.replication.settle import Parents, Settler
from proxy.replication.steps import Step
from proxy.replication.sweep import Sweep
from tests.proxy_case import COLLECTION_CONFIG, DEADLINE, databases

Json = dict[str, Any]
LONG_AGO: Final = timedelta(minutes=5)


class Steps:
    """The steps that were reached; one at which everybody waits until it is let go on."""

    def __init__(self) -> None:
        self.seen: list[Step] = []
        self._at: Step | None = None
        self._there = asyncio.Event()
        self._on = asyncio.Event()

    async def __call__(self, step: Step) -> None:
        self.seen.append(step)
        if step == self._at:
            self._there.set()
            await self._on.wait()

    @asynccontextmanager
    async def stopped(self, at: Step, work: Callable[[], Any]) -> AsyncIterator[asyncio.Task[Any]]:
        """Begin the work, and enter the block when it has come to that step; at the block's end it goes on."""
        self._at = at
        self._there.clear()
        self._on.clear()
        task = asyncio.ensure_future(work())
        there = asyncio.ensure_future(self._there.wait())
        try:
            async with asyncio.timeout(DEADLINE):
                await asyncio.wait([there, task], return_when=asyncio.FIRST_COMPLETED)
            assert there.done(), f"it ended before it was {at}: {self.seen}"
            yield task
        finally:
            there.cancel()
            self._at = None
            self._on.set()


@dataclass(frozen=True, slots=True)
class Ground:
    """Two stores that are connected, and what is in them by their own account. A process with this environment has the
    same ones."""

    environment: Mapping[str, str]
    stores: Stores
    entities: Mapping[str, Entity]
    parents: Parents
    legacy: AsyncDatabase[Json]


@dataclass(frozen=True, slots=True)
class Bench:
    """Keys settle when a test says so, or when a sweep that it starts does."""

    stores: Stores
    legacy: AsyncDatabase[Json]
    parents: Parents
    flags: Flags
    settler: Settler
    quarantines: Quarantines
    replicator: Replicator
    metrics: Metrics
    steps: Steps = field(default_factory=Steps)

    # Legacy documents that nobody has been told of

    async def account(self, *, wallet: str | None = None) -> ObjectId:
        return await self.insert("accounts", walletAddress=wallet or secrets.token_hex(6))

    async def profile(self, account: ObjectId, **fields: Any) -> str:
        key = await self.insert("profiles", **{"accountId": account, "username": secrets.token_hex(6), **fields})
        return str(key)

    async def insert(self, collection: str, **fields: Any) -> ObjectId:
        now = datetime.now(UTC).replace(microsecond=0)
        document = {"_id": ObjectId(), "createdAt": now, "updatedAt": now, **fields}
        await self.legacy[collection].insert_one(document)
        return ObjectId(document["_id"])

    async def change(self, key: str, **fields: Any) -> None:
        await self.legacy["profiles"].update_one({"_id": ObjectId(key)}, {"$set": fields})

    # Rows of Prisma

    async def create(self, entity: str, **data: Any) -> str:
        """A row, made by the store itself, that nobody has been told of; its key."""
        [key] = (await self.stores.prisma.perform(Operation(entity, "create", data=data))).keys
        return key

    async def row(self, key: str, entity: str = "profile") -> Json | None:
        found = await self.stores.prisma.perform(Operation(entity, "read", {"id": key}))
        return found.documents[0] if found.documents else None

    async def document(self, collection: str, key: str) -> Json | None:
        return await self.legacy[collection].find_one({"_id": ObjectId(key)})

    # Waiting

    async def settled(self, *keys: str, entity: str = "profile") -> None:
        async with asyncio.timeout(DEADLINE):
            await self.replicator.settled(entity, keys)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not holds():
                await asyncio.sleep(0.01)

    async def unmarked(self, *sides: SideName, entity: str = "profile") -> None:
        """Return once these outboxes, or both, have no mark of the entity."""
        stores = self.stores.by_side()
        async with asyncio.timeout(DEADLINE):
            for side in sides or stores:
                while await stores[side].marks(entity, 1):
                    await asyncio.sleep(0.02)

    # Marks, tokens, quarantine

    async def tokens(self) -> int:
        """How many settles of legacy have begun, by the counter that each takes its token from."""
        found = await self.legacy["strangler_tokens"].find_one({"_id": "token"})
        return 0 if found is None else int(found["value"])

    async def marked(self, key: str | None, *, entity: str = "profile", side: SideName = "legacy") -> str:
        """A mark, as a write that is under way leaves it."""
        [mark] = await self.stores.by_side()[side].mark(entity, [key])
        return mark

    async def left(self, key: str | None, *, entity: str = "profile", side: SideName = "legacy") -> str:
        """A mark as a writer that was killed has left it."""
        mark = await self.marked(key, entity=entity, side=side)
        if side == "legacy":
            at = datetime.now(UTC) - LONG_AGO
            await self.legacy["strangler_marks"].update_one({"_id": ObjectId(mark)}, {"$set": {"at": at}})
        else:
            statement = 'UPDATE "strangler_mark" SET "at" = "at" - interval \'5 minutes\' WHERE "id" = $1'
            assert await self.stores.engine.execute_raw(statement, mark) == 1
        return mark

    async def marks(self) -> set[str]:
        """Those in the legacy outbox."""
        return {str(row["_id"]) async for row in self.legacy["strangler_marks"].find({})}

    async def refusals(self, side: SideName = "legacy", entity: str = "profile") -> dict[str, Refusal]:
        store: Store = self.stores.by_side()[side]
        return {one.key: one for one in await store.quarantine.refusals(entity)}

    async def quarantined(self, key: str, side: SideName = "legacy", entity: str = "profile") -> Refusal:
        """Return once the key is there."""
        async with asyncio.timeout(DEADLINE):
            while key not in (found := await self.refusals(side, entity)):
                await asyncio.sleep(0.02)
        return found[key]

    # What was counted

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def failures(self) -> float:
        families = self.metrics.settle_failures.collect()
        return sum(sample.value for family in families for sample in family.samples if sample.name.endswith("_total"))

    # Trouble

    @asynccontextmanager
    async def locked(self, key: str) -> AsyncIterator[None]:
        """A settle of this key waits until the block ends."""
        engine = self.stores.engine
        lock = await engine.begin()
        await engine.query_raw('SELECT 1 AS one FROM "profiles" WHERE "_id" = $1 FOR UPDATE', key, tx=lock)
        try:
            yield
        finally:
            await engine.rollback(lock)

    @asynccontextmanager
    async def table_away(self, table: str) -> AsyncIterator[None]:
        """Nothing can be settled to this table, or read from it, until the block ends."""
        engine = self.stores.engine
        await engine.execute_raw(f'ALTER TABLE "{table}" RENAME TO "{table}_away"')
        try:
            yield
        finally:
            await engine.execute_raw(f'ALTER TABLE "{table}_away" RENAME TO "{table}"')

    @asynccontextmanager
    async def sweeping(self, side: SideName, *, replica: str = "a", write: float = 1.0) -> AsyncIterator[Sweep]:
        """The sweep of a store, as the replica of that name does it, until the block ends."""
        sweep = Sweep(
            side,
            replica,
            self.stores.by_side(),
            self.flags,
            self.parents,
            self.settler,
            self.replicator,
            self.quarantines,
            self.metrics,
            write_deadline=timedelta(seconds=write),
        )
        sweep.start()
        try:
            yield sweep
        finally:
            await sweep.stop()


@asynccontextmanager
async def grounds(
    mongo_url: str, postgres_url: str, template: str, *, config_file: Path = COLLECTION_CONFIG
) -> AsyncIterator[Ground]:
    schema = load_schema()
    async with databases(mongo_url, postgres_url, template) as urls:
        environment = {
            "MONGO_URL": urls.mongo_url,
            "DATABASE_URL": urls.database_url,
            "CORE_URL": "http://127.0.0.1:1",
            "JWT_SECRET": "the secret of tests that know no callers",
            "STRANGLER_CONFIG": str(config_file),
        }
        settings = read_settings(environment)
        config = load(Path(environment["STRANGLER_CONFIG"]), environment, schema)
        built = build_stores(config, settings, schema)
        async with AsyncMongoClient[Json](urls.mongo_url, tz_aware=True) as client:
            for store in built.by_side().values():
                await store.connect()
            yield Ground(environment, built, config.entities, parents_of(config, schema), client.get_default_database())
            for store in built.by_side().values():
                await store.disconnect()


@asynccontextmanager
async def bench_at(
    stage: Stage, ground: Ground, *, bound: int = 1000, stages: Mapping[str, Stage] | None = None
) -> AsyncIterator[Bench]:
    """Every entity at this stage but for those in `stages`, as configured: nobody has set a flag."""
    staged = {
        name: entity.model_copy(update={"stage": (stages or {}).get(name, stage)})
        for name, entity in ground.entities.items()
    }
    by_side, metrics, steps = ground.stores.by_side(), Metrics(), Steps()
    flags = Flags(staged, by_side)
    settler = Settler(by_side, flags, ground.parents, reached=steps)
    quarantines = Quarantines(by_side)
    replicator = Replicator(settler, by_side, quarantines, flags, staged, Idle(), metrics, bound=bound, reached=steps)
    replicator.start()
    try:
        yield Bench(
            ground.stores, ground.legacy, ground.parents, flags, settler, quarantines, replicator, metrics, steps
        )
    finally:
        await replicator.stop()
