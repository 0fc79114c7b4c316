"""Settling on real stores: keys coalesce, the refused wait by themselves, and a mark goes when its write has settled."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pymongo import AsyncMongoClient

from adapters.side import Invalid, Operation, Orphan, SideName
from config.load import load
from config.model import Stage
from config.schema import load_schema
from config.settings import read_settings
from proxy.app import Stores, build_stores, parents_of
from proxy.flags import Flags
from proxy.idle import Idle
from proxy.metrics import Metrics
from proxy.replicator import Replicator
from proxy.settle import Settler
from proxy.sweep import Sweep
from tests.proxy_case import COLLECTION_CONFIG, DEADLINE, databases

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bench:
    """Both stores with a replicator between them, no proxy and no follower: keys settle when a test says so."""

    stores: Stores
    legacy: Any
    settler: Settler
    replicator: Replicator
    metrics: Metrics
    flags: Flags
    entities: tuple[str, ...]

    async def account(self, *, wallet: str | None = None) -> ObjectId:
        return await self.insert("accounts", walletAddress=wallet or secrets.token_hex(6))

    async def profile(self, account: ObjectId, **fields: Any) -> str:
        """A profile in the collection that nobody has been told of."""
        key = await self.insert("profiles", **{"accountId": account, "username": secrets.token_hex(6), **fields})
        return str(key)

    async def insert(self, collection: str, **fields: Any) -> ObjectId:
        key, now = ObjectId(), datetime.now(UTC).replace(microsecond=0)
        await self.legacy[collection].insert_one({"_id": key, "createdAt": now, "updatedAt": now, **fields})
        return key

    async def change(self, key: str, **fields: Any) -> None:
        await self.legacy["profiles"].update_one({"_id": ObjectId(key)}, {"$set": fields})

    async def row(self, key: str) -> Json | None:
        found = await self.stores.prisma.perform(Operation("profile", "read", {"id": key}))
        return found.documents[0] if found.documents else None

    async def settled(self, *keys: str) -> None:
        async with asyncio.timeout(DEADLINE):
            await self.replicator.settled("profile", keys)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not holds():
                await asyncio.sleep(0.01)

    async def tokens(self) -> int:
        """How many settles have begun, by the counter that each takes its token from."""
        found = await self.legacy["strangler_tokens"].find_one({"_id": "token"})
        return 0 if found is None else int(found["value"])

    async def marked(self, key: str) -> str:
        """A mark in the legacy outbox, as a write that is under way leaves it."""
        mark = ObjectId()
        row = {"_id": mark, "entity": "profile", "key": key, "at": datetime.now(UTC)}
        await self.legacy["strangler_marks"].insert_one(row)
        return str(mark)

    async def marks(self) -> set[str]:
        return {str(row["_id"]) async for row in self.legacy["strangler_marks"].find({})}

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def failures(self) -> float:
        families = self.metrics.settle_failures.collect()
        return sum(sample.value for family in families for sample in family.samples if sample.name.endswith("_total"))

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


@pytest.fixture(scope="module")
async def stores(
    mongo_url: str, postgres_url: str, migrated_template: str
) -> AsyncIterator[tuple[Stores, dict[str, Any], Any]]:
    schema = load_schema()
    async with databases(mongo_url, postgres_url, migrated_template) as urls:
        environment = {
            "MONGO_URL": urls.mongo_url,
            "DATABASE_URL": urls.database_url,
            "CORE_URL": "http://127.0.0.1:1",
            "JWT_SECRET": "the secret of tests that know no callers",
            "STRANGLER_CONFIG": str(COLLECTION_CONFIG),
        }
        settings = read_settings(environment)
        config = load(Path(environment["STRANGLER_CONFIG"]), environment, schema)
        built = build_stores(config, settings, schema)
        async with AsyncMongoClient[Json](urls.mongo_url, tz_aware=True) as client:
            for store in built.by_side().values():
                await store.connect()
            yield built, dict(config.entities), (client.get_default_database(), parents_of(config, schema))
            for store in built.by_side().values():
                await store.disconnect()


@asynccontextmanager
async def bench_at(
    stage: Stage, stores: tuple[Stores, dict[str, Any], Any], *, bound: int = 1000
) -> AsyncIterator[Bench]:
    built, entities, (legacy, parents) = stores
    staged = {name: entity.model_copy(update={"stage": stage}) for name, entity in entities.items()}
    by_side, metrics = built.by_side(), Metrics()
    flags = Flags(staged, by_side.values())
    settler = Settler(by_side, flags, parents)
    replicator = Replicator(settler, by_side, flags, staged, Idle(), metrics, bound=bound)
    replicator.start()
    try:
        yield Bench(built, legacy, settler, replicator, metrics, flags, tuple(staged))
    finally:
        await replicator.stop()


@pytest.fixture
async def bench(stores: tuple[Stores, dict[str, Any], Any]) -> AsyncIterator[Bench]:
    async with bench_at(Stage.DUALWRITE, stores) as found:
        yield found


@pytest.fixture
async def reverse(stores: tuple[Stores, dict[str, Any], Any]) -> AsyncIterator[Bench]:
    async with bench_at(Stage.LIVE, stores) as found:
        yield found


# Coalescing


async def test_many_changes_of_one_key_are_one_settle(bench: Bench) -> None:
    key = await bench.profile(await bench.account())
    before = await bench.tokens()
    for _ in range(100):
        bench.replicator.changed("profile", [key])
    assert bench.replicator.backlog("profile") == 1
    await bench.settled(key)
    # One for the profile, and one for the account, which was not there yet.
    assert await bench.tokens() == before + 2
    assert await bench.row(key) is not None
    assert bench.count("strangler_settled_total", entity="profile", outcome="written") == 1


async def test_many_keys_settle_in_batches(bench: Bench) -> None:
    account = await bench.account()
    keys = [await bench.profile(account) for _ in range(450)]
    await bench.settler.settle("account", [str(account)])
    before = await bench.tokens()
    bench.replicator.changed("profile", keys)
    await bench.settled(*keys)
    assert await bench.tokens() <= before + 3
    rows = await bench.stores.engine.query_raw(
        'SELECT count(*)::int AS n FROM "profiles" WHERE "accountId" = $1', str(account)
    )
    assert rows[0]["n"] == 450


async def test_a_key_that_changes_while_it_settles_settles_again(bench: Bench) -> None:
    key = await bench.profile(await bench.account(), bio="first")
    bench.replicator.changed("profile", [key])
    await bench.settled(key)
    before = await bench.tokens()
    async with bench.locked(key):
        await bench.change(key, bio="second")
        bench.replicator.changed("profile", [key])
        await bench.until(lambda: bench.count("strangler_backlog", entity="profile") == 1)
        async with asyncio.timeout(DEADLINE):
            while await bench.tokens() == before:  # the settle of the second has read what it will write
                await asyncio.sleep(0.01)
        await bench.change(key, bio="third")
        bench.replicator.changed("profile", [key])
    await bench.settled(key)
    row = await bench.row(key)
    assert row is not None
    assert row["bio"] == "third"
    assert await bench.tokens() == before + 2


# Marks


async def test_a_mark_goes_with_the_settle_of_its_own_write_only(bench: Bench) -> None:
    """Two writes of a key have left marks; only the first has finished."""
    key = await bench.profile(await bench.account())
    finished, under_way = await bench.marked(key), await bench.marked(key)
    bench.replicator.changed("profile", [key], [("legacy", finished)])
    await bench.settled(key)
    assert await bench.marks() == {under_way}
    bench.replicator.changed("profile", [key], [("legacy", under_way)])
    await bench.settled(key)
    assert await bench.marks() == set()


async def test_a_mark_stays_while_its_settle_is_under_way(bench: Bench) -> None:
    key = await bench.profile(await bench.account())
    bench.replicator.changed("profile", [key])
    await bench.settled(key)
    mark = await bench.marked(key)
    before = await bench.tokens()
    async with bench.locked(key):
        await bench.change(key, bio="to settle")
        bench.replicator.changed("profile", [key], [("legacy", mark)])
        async with asyncio.timeout(DEADLINE):
            while await bench.tokens() == before:
                await asyncio.sleep(0.01)
        assert await bench.marks() == {mark}
    await bench.settled(key)
    assert await bench.marks() == set()


async def test_a_refused_key_keeps_its_mark(bench: Bench) -> None:
    orphan = await bench.profile(ObjectId())
    mark = await bench.marked(orphan)
    bench.replicator.changed("profile", [orphan], [("legacy", mark)])
    await bench.until(lambda: bench.count("strangler_settle_failures_total", entity="profile", cause="Orphan") > 1)
    assert await bench.marks() == {mark}
    await bench.legacy["profiles"].delete_one({"_id": ObjectId(orphan)})
    bench.replicator.changed("profile", [orphan])
    await bench.settled(orphan)
    assert await bench.marks() == set()


async def test_where_nothing_settles_marks_are_only_taken_away(stores: Any) -> None:
    async with bench_at(Stage.COMPLETE, stores) as bench:
        key = await bench.profile(await bench.account())
        mark = await bench.marked(key)
        bench.replicator.changed("profile", [key], [("legacy", mark)])
        await bench.settled(key)
        assert await bench.marks() == set()
        assert await bench.row(key) is None


# What is refused


async def test_parents_settle_first(bench: Bench) -> None:
    account = await bench.account()
    key = await bench.profile(account)
    bench.replicator.changed("profile", [key])
    await bench.settled(key)
    row = await bench.row(key)
    assert row is not None
    assert row["accountId"] == str(account)
    assert (await bench.stores.prisma.perform(Operation("account", "read", {"id": str(account)}))).documents


async def test_an_orphan_waits_by_itself_and_settles_when_its_parent_comes(bench: Bench) -> None:
    here, missing = await bench.account(), ObjectId()
    others = [await bench.profile(here) for _ in range(9)]
    orphan = await bench.profile(missing)
    bench.replicator.changed("profile", [*others[:4], orphan, *others[4:]])
    await bench.settled(*others)
    for key in others:
        assert await bench.row(key) is not None
    assert bench.replicator.pending("profile", orphan)
    assert bench.count("strangler_settle_failures_total", entity="profile", cause="Orphan") >= 1

    now = datetime.now(UTC)
    document = {"_id": missing, "walletAddress": secrets.token_hex(6), "createdAt": now, "updatedAt": now}
    await bench.legacy["accounts"].insert_one(document)
    await bench.settled(orphan)  # tried again by itself: nobody tells
    assert await bench.row(orphan) is not None


@pytest.mark.parametrize(
    "wrong",
    [{"bio": "a\0b"}, {"bio": 7}, {"createdAt": "yesterday"}, {"username": None}],
    ids=["NUL", "a number for a text", "a text for a date", "null where there has to be one"],
)
async def test_a_value_that_prisma_refuses_waits_until_its_document_changes(bench: Bench, wrong: Json) -> None:
    account = await bench.account()
    good = await bench.profile(account)
    key = await bench.profile(account, **wrong)
    settled = await bench.settler.settle("profile", [good, key])
    assert settled.written == {good}
    assert isinstance(settled.refused[key], Invalid)

    bench.replicator.changed("profile", [good, key])
    await bench.settled(good)
    assert bench.replicator.pending("profile", key)
    fixed = {"bio": "fine", "createdAt": datetime(2026, 1, 1, tzinfo=UTC), "username": secrets.token_hex(6)}
    await bench.change(key, **fixed)
    bench.replicator.changed("profile", [key])
    await bench.settled(key)
    row = await bench.row(key)
    assert row is not None
    assert (row["bio"], row["username"]) == ("fine", fixed["username"])


async def test_a_unique_value_that_another_row_holds_waits_for_it(bench: Bench) -> None:
    account = await bench.account()
    holder = await bench.profile(account, username="wanted")
    bench.replicator.changed("profile", [holder])
    await bench.settled(holder)
    await bench.change(holder, username="given up")
    key = await bench.profile(account, username="wanted")
    bench.replicator.changed("profile", [key])  # before the holder is heard of
    await bench.until(lambda: bench.count("strangler_settle_failures_total", entity="profile", cause="Conflict") > 0)
    bench.replicator.changed("profile", [holder])
    await bench.settled(holder, key)
    row = await bench.row(key)
    assert row is not None
    assert row["username"] == "wanted"


async def test_an_orphan_is_named(bench: Bench) -> None:
    orphan = await bench.profile(ObjectId())
    settled = await bench.settler.settle("profile", [orphan])
    assert isinstance(settled.refused[orphan], Orphan)
    assert settled.refused[orphan].args == ("accountId refers to nothing",)


# A secondary that fails


async def test_a_settle_that_fails_is_tried_again_until_it_succeeds(bench: Bench) -> None:
    key = await bench.profile(await bench.account())
    mark = await bench.marked(key)
    engine = bench.stores.engine
    await engine.execute_raw('ALTER TABLE "profiles" RENAME TO "profiles_away"')
    try:
        bench.replicator.changed("profile", [key], [("legacy", mark)])
        assert bench.failures() == 0
        await bench.until(lambda: bench.failures() >= 2)
        assert bench.replicator.pending("profile", key)
        assert await bench.marks() == {mark}
    finally:
        await engine.execute_raw('ALTER TABLE "profiles_away" RENAME TO "profiles"')
    await bench.settled(key)
    assert await bench.row(key) is not None
    assert await bench.marks() == set()


# Fences


async def test_an_older_settle_changes_nothing_on_prisma(bench: Bench) -> None:
    key = await bench.profile(await bench.account(), bio="old")
    await bench.settler.settle("profile", [key])
    old = await bench.stores.legacy.hold("profile", [key])
    await bench.change(key, bio="new")
    assert (await bench.settler.settle("profile", [key])).written == {key}
    late = await bench.stores.prisma.apply("profile", old.token, {key: old.documents[key]})
    assert late.superseded == {key}
    assert not late.written
    gone = await bench.stores.prisma.apply("profile", old.token, {key: None})
    assert gone.superseded == {key}
    row = await bench.row(key)
    assert row is not None
    assert row["bio"] == "new"


async def test_an_older_settle_changes_nothing_on_legacy(reverse: Bench) -> None:
    data = {"nftId": secrets.token_hex(6), "walletAddress": "w", "contractAddress": "c", "tokenId": "old"}
    made = await reverse.stores.prisma.perform(Operation("nft_ownership", "create", data=data))
    [key] = made.keys
    old = await reverse.stores.prisma.hold("nft_ownership", [key])
    change = Operation("nft_ownership", "update", {"id": key}, {"tokenId": "new"})
    await reverse.stores.prisma.perform(change)
    assert (await reverse.settler.settle("nft_ownership", [key])).written == {key}
    late = await reverse.stores.legacy.apply("nft_ownership", old.token, {key: old.documents[key]})
    assert late.superseded == {key}
    assert not late.written
    found = await reverse.legacy["nft_ownership"].find_one({"_id": ObjectId(key)})
    assert found["tokenId"] == "new"


async def test_a_deleted_document_is_deleted_and_stays_so(bench: Bench) -> None:
    key = await bench.profile(await bench.account())
    await bench.settler.settle("profile", [key])
    old = await bench.stores.legacy.hold("profile", [key])
    await bench.legacy["profiles"].delete_one({"_id": ObjectId(key)})
    assert (await bench.settler.settle("profile", [key])).written == {key}
    assert await bench.row(key) is None
    late = await bench.stores.prisma.apply("profile", old.token, {key: old.documents[key]})
    assert late.superseded == {key}
    assert await bench.row(key) is None


# Bounds, the change stream, the sweep


async def test_past_the_bound_a_marked_key_is_shed_and_the_sweep_finds_it(stores: Any) -> None:
    async with bench_at(Stage.DUALWRITE, stores, bound=2) as bench:
        account = await bench.account()
        keys = [await bench.profile(account) for _ in range(4)]
        old = datetime.now(UTC) - timedelta(minutes=5)
        marks = [ObjectId() for _ in keys]
        for mark, key in zip(marks, keys, strict=True):
            await bench.legacy["strangler_marks"].insert_one({"_id": mark, "entity": "profile", "key": key, "at": old})
            bench.replicator.changed("profile", [key], [("legacy", str(mark))])
        assert bench.count("strangler_shed_total", queue="settle") == 2
        await bench.settled(*keys)
        assert await bench.marks() == {str(mark) for mark in marks[2:]}
        assert await bench.row(keys[3]) is None

        sweep = Sweep(bench.stores.by_side(), bench.entities, bench.replicator, write_deadline=timedelta(seconds=1))
        sweep.start()
        async with asyncio.timeout(DEADLINE):
            while await bench.marks():
                await asyncio.sleep(0.02)
        await sweep.stop()
        for key in keys:
            assert await bench.row(key) is not None


@pytest.mark.parametrize("side", ["legacy", "prisma"])
async def test_the_sweep_settles_marks_of_either_outbox_from_the_primary(bench: Bench, side: SideName) -> None:
    key = await bench.profile(await bench.account(), bio="left behind")
    old = datetime.now(UTC) - timedelta(minutes=5)
    if side == "legacy":
        await bench.legacy["strangler_marks"].insert_one(
            {"_id": ObjectId(), "entity": "profile", "key": key, "at": old}
        )
    else:
        row = {"id": secrets.token_hex(12), "entity": "profile", "key": key, "at": old}
        await bench.stores.engine.call("StranglerMark", "create", {"data": row})
    sweep = Sweep(bench.stores.by_side(), bench.entities, bench.replicator, write_deadline=timedelta(seconds=1))
    sweep.start()
    store = bench.stores.by_side()[side]
    async with asyncio.timeout(DEADLINE):
        while await store.marks("profile", 1):
            await asyncio.sleep(0.02)
    await sweep.stop()
    found = await bench.row(key)
    assert found is not None
    assert found["bio"] == "left behind"


async def test_the_sweep_leaves_marks_of_writes_that_may_still_be_under_way(bench: Bench) -> None:
    key = await bench.profile(await bench.account())
    young = await bench.marked(key)
    other = await bench.profile(await bench.account())
    old = ObjectId()
    row = {"_id": old, "entity": "profile", "key": other, "at": datetime.now(UTC) - timedelta(minutes=5)}
    await bench.legacy["strangler_marks"].insert_one(row)
    sweep = Sweep(bench.stores.by_side(), bench.entities, bench.replicator, write_deadline=timedelta(minutes=1))
    sweep.start()
    async with asyncio.timeout(DEADLINE):
        while str(old) in await bench.marks():
            await asyncio.sleep(0.02)
    await sweep.stop()
    assert await bench.marks() == {young}
    assert await bench.row(key) is None
    await bench.stores.legacy.unmark([young])


async def test_a_change_that_a_settle_has_read_already_is_not_settled_again(bench: Bench) -> None:
    key = await bench.profile(await bench.account())
    held = await bench.stores.legacy.hold("profile", [key])
    bench.replicator.changed("profile", [key])
    await bench.settled(key)
    before = await bench.tokens()
    await bench.replicator.followed("profile", key, held.clock)
    assert not bench.replicator.pending("profile", key)
    await bench.change(key, bio="later")
    later = await bench.stores.legacy.hold("profile", [key])
    await bench.replicator.followed("profile", key, later.clock)
    await bench.settled(key)
    row = await bench.row(key)
    assert row is not None
    assert row["bio"] == "later"
    assert await bench.tokens() == before + 2  # this test's own hold, and the settle


async def test_the_change_stream_waits_for_room(stores: Any) -> None:
    async with bench_at(Stage.DUALWRITE, stores, bound=1) as bench:
        first = await bench.profile(await bench.account())
        second = await bench.profile(await bench.account())
        bench.replicator.changed("profile", [first])
        await bench.settled(first)
        async with bench.locked(first):
            await bench.change(first, bio="changed")
            bench.replicator.changed("profile", [first])
            following = asyncio.create_task(bench.replicator.followed("profile", second, None))
            await asyncio.sleep(0)
            assert not bench.replicator.pending("profile", second)
            assert not following.done()
        async with asyncio.timeout(DEADLINE):
            await following
        await bench.settled(first, second)
        assert await bench.row(second) is not None
