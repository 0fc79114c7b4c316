"""Settling on real stores: keys coalesce, the refused wait by themselves, and a mark goes when its write has settled."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import pytest
from bson import ObjectId

from adapters.side import Invalid, Operation, Orphan
from config.model import Stage
from tests.proxy_case import DEADLINE
from tests.settle_case import Bench, Ground, Json, bench_at, grounds


@pytest.fixture(scope="module")
async def ground(mongo_url: str, postgres_url: str, migrated_template: str) -> AsyncIterator[Ground]:
    async with grounds(mongo_url, postgres_url, migrated_template) as found:
        yield found


@pytest.fixture
async def bench(ground: Ground) -> AsyncIterator[Bench]:
    async with bench_at(Stage.DUALWRITE, ground) as found:
        yield found


@pytest.fixture
async def reverse(ground: Ground) -> AsyncIterator[Bench]:
    async with bench_at(Stage.LIVE, ground) as found:
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


async def test_marks_of_one_transaction_go_when_all_its_keys_have_settled(bench: Bench) -> None:
    good, orphan = await bench.profile(await bench.account()), await bench.profile(ObjectId())
    marks = [await bench.marked(good), await bench.marked(orphan)]
    bench.replicator.changed("profile", [good, orphan], [("legacy", mark) for mark in marks])
    await bench.settled(good, orphan)  # the second one in quarantine
    assert await bench.marks() == set()
    assert set(await bench.refusals()) == {orphan}


async def test_where_nothing_settles_marks_are_only_taken_away(ground: Ground) -> None:
    async with bench_at(Stage.COMPLETE, ground) as bench:
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
    assert await bench.row(orphan) is None
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
    assert await bench.row(key) is None
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
    async with bench.table_away("profiles"):
        bench.replicator.changed("profile", [key], [("legacy", mark)])
        assert bench.failures() == 0
        await bench.until(lambda: bench.failures() >= 2)
        assert bench.replicator.pending("profile", key)
        assert await bench.marks() == {mark}
    await bench.settled(key)
    assert await bench.row(key) is not None
    assert await bench.marks() == set()


async def test_a_document_that_every_settle_fails_on_does_not_keep_the_others(bench: Bench) -> None:
    """Not refused, but failed on: as a fault in a trigger would have it."""
    engine = bench.stores.engine
    await engine.execute_raw(
        "CREATE FUNCTION stumble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.bio = 'a stone' THEN PERFORM * FROM no_such_table; END IF; RETURN NEW; END $$"
    )
    await engine.execute_raw(
        'CREATE TRIGGER stumble BEFORE INSERT OR UPDATE ON "profiles" FOR EACH ROW EXECUTE FUNCTION stumble()'
    )
    account = await bench.account()
    good = [await bench.profile(account) for _ in range(6)]
    stone = await bench.profile(account, bio="a stone")
    mark = await bench.marked(stone)
    try:
        bench.replicator.changed("profile", good[:3])
        bench.replicator.changed("profile", [stone], [("legacy", mark)])
        bench.replicator.changed("profile", good[3:])
        await bench.settled(*good)
        assert all([await bench.row(key) for key in good])
        assert bench.replicator.pending("profile", stone, mark)
        assert await bench.marks() == {mark}
    finally:
        await engine.execute_raw('DROP TRIGGER stumble ON "profiles"')
        await engine.execute_raw("DROP FUNCTION stumble")
    await bench.settled(stone)
    assert await bench.row(stone) is not None


# Fences


async def test_an_older_settle_changes_nothing_on_prisma(bench: Bench) -> None:
    key = await bench.profile(await bench.account(), bio="old")
    await bench.settler.settle("profile", [key])
    old = await bench.stores.legacy.hold("profile", [key])
    await bench.change(key, bio="new")
    assert (await bench.settler.settle("profile", [key])).written == {key}
    late = await bench.stores.prisma.apply("profile", 0, old.token, {key: old.documents[key]})
    assert late.superseded == {key}
    assert not late.written
    gone = await bench.stores.prisma.apply("profile", 0, old.token, {key: None})
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
    late = await reverse.stores.legacy.apply("nft_ownership", 0, old.token, {key: old.documents[key]})
    assert late.superseded == {key}
    assert not late.written
    found = await reverse.document("nft_ownership", key)
    assert found is not None
    assert found["tokenId"] == "new"


async def test_a_deleted_document_is_deleted_and_stays_so(bench: Bench) -> None:
    key = await bench.profile(await bench.account())
    await bench.settler.settle("profile", [key])
    old = await bench.stores.legacy.hold("profile", [key])
    await bench.legacy["profiles"].delete_one({"_id": ObjectId(key)})
    assert (await bench.settler.settle("profile", [key])).written == {key}
    assert await bench.row(key) is None
    late = await bench.stores.prisma.apply("profile", 0, old.token, {key: old.documents[key]})
    assert late.superseded == {key}
    assert await bench.row(key) is None


# Bounds and the change stream


async def test_past_the_bound_a_key_is_shed_and_its_mark_stays(ground: Ground) -> None:
    async with bench_at(Stage.DUALWRITE, ground, bound=2) as bench:
        account = await bench.account()
        keys = [await bench.profile(account) for _ in range(4)]
        marks = [await bench.marked(key) for key in keys]
        for mark, key in zip(marks, keys, strict=True):
            bench.replicator.changed("profile", [key], [("legacy", mark)])
        assert bench.count("strangler_shed_total", queue="settle") == 2
        assert bench.replicator.room("profile") == 0
        await bench.settled(*keys)
        assert await bench.marks() == set(marks[2:])
        assert await bench.row(keys[3]) is None
        await bench.stores.legacy.unmark(marks[2:])


async def test_what_is_settled_whole_waits_for_room(ground: Ground) -> None:
    async with bench_at(Stage.DUALWRITE, ground, bound=2) as bench:
        account = await bench.account()
        keys = [await bench.profile(account) for _ in range(7)]
        async with asyncio.timeout(DEADLINE):
            await bench.replicator.settle("profile", keys)
        assert all([await bench.row(key) for key in keys])
        assert bench.count("strangler_shed_total", queue="settle") == 0


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


async def test_whoever_asks_does_not_wait_for_later_changes(bench: Bench) -> None:
    """Of a key that never rests nobody could else say that it has settled."""
    key = await bench.profile(await bench.account())
    bench.replicator.changed("profile", [key])
    await bench.settled(key)
    async with AsyncExitStack() as later:
        await bench.change(key, bio="asked after")
        bench.replicator.changed("profile", [key])
        async with bench.steps.stopped("applied", bench.replicator.drained) as asked:
            await later.enter_async_context(bench.locked(key))
            await bench.change(key, bio="later")
            bench.replicator.changed("profile", [key])
        async with asyncio.timeout(DEADLINE):
            await asked
        assert bench.replicator.pending("profile", key)
    await bench.settled(key)
    assert (await bench.row(key) or {})["bio"] == "later"


async def test_the_change_stream_waits_for_room(ground: Ground) -> None:
    async with bench_at(Stage.DUALWRITE, ground, bound=1) as bench:
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
