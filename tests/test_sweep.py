"""The sweep on real stores: what writers and replicas left behind is settled, by one sweeper at a time."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId
from structlog.testing import capture_logs

from adapters.side import Replica, SideName
from config.model import Stage
from proxy.replication.sweep import parents_first
from tests.proxy_case import DEADLINE
from tests.settle_case import LONG_AGO, Bench, Ground, bench_at, grounds

SIDES: tuple[SideName, ...] = ("legacy", "prisma")


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


@pytest.fixture
async def own(mongo_url: str, postgres_url: str, migrated_template: str) -> AsyncIterator[Ground]:
    """Stores in which a test may set flags."""
    async with grounds(mongo_url, postgres_url, migrated_template) as found:
        yield found


def test_parents_come_before_their_children() -> None:
    parents = {
        "comment": [("postId", "post"), ("authorId", "author")],
        "post": [("authorId", "author"), ("pinnedId", "comment")],
        "author": [("friendId", "author")],
        "tag": (),
    }
    order = parents_first(parents)
    assert set(order) == set(parents)
    assert order.index("author") < order.index("post") < order.index("comment")


# Marks


@pytest.mark.parametrize("side", SIDES)
async def test_a_killed_writers_mark_is_settled_from_the_primary_whichever_outbox_it_is_in(
    bench: Bench, side: SideName
) -> None:
    key = await bench.profile(await bench.account(), bio="left behind")
    await bench.left(key, side=side)
    async with bench.sweeping(side):
        await bench.unmarked(side)
    row = await bench.row(key)
    assert row is not None
    assert row["bio"] == "left behind"
    assert bench.count("strangler_sweep_marks_total", side=side) == 1


@pytest.mark.parametrize("side", SIDES)
async def test_it_goes_the_other_way_where_prisma_is_the_primary(reverse: Bench, side: SideName) -> None:
    key = await nft(reverse)
    await reverse.left(key, side=side, entity="nft_ownership")
    async with reverse.sweeping(side):
        await reverse.unmarked(side, entity="nft_ownership")
    assert await reverse.document("nft_ownership", key) is not None


async def test_marks_of_writes_that_may_still_be_under_way_stay(bench: Bench) -> None:
    key, other = await bench.profile(await bench.account()), await bench.profile(await bench.account())
    young, _ = await bench.marked(key), await bench.left(other)
    async with bench.sweeping("legacy", write=60):
        async with asyncio.timeout(DEADLINE):
            while await bench.marks() != {young}:
                await asyncio.sleep(0.02)
        assert await bench.row(other) is not None
        assert await bench.row(key) is None
    await bench.stores.legacy.unmark([young])


async def test_while_a_flip_holds_writes_marks_of_prisma_are_settled_at_any_age(own: Ground) -> None:
    """Their writers have died, or have acknowledged. These two marks are from the future, and so never old enough."""
    async with bench_at(Stage.LIVE, own) as bench:
        flag = replace(bench.flags["nft_ownership"], epoch=1, target=Stage.SHADOW.value, changed_by="test")
        assert await own.stores.prisma.state.save_flag(flag, after=0)
        await bench.flags.refresh()
        held, free = await nft(bench), await bench.create("account", walletAddress=secrets.token_hex(6))
        await bench.marked(held, entity="nft_ownership", side="prisma")
        [young] = [await bench.marked(free, entity="account", side="prisma")]
        await own.stores.engine.execute_raw('UPDATE "strangler_mark" SET "at" = "at" + interval \'1 hour\'')
        async with bench.sweeping("prisma"):
            await bench.unmarked("prisma", entity="nft_ownership")
        assert await bench.document("nft_ownership", held) is not None
        assert [mark.id for mark in await own.stores.prisma.marks("account", 10)] == [young]


async def test_marks_of_an_entity_that_no_longer_settles_are_removed(ground: Ground) -> None:
    async with bench_at(Stage.COMPLETE, ground) as bench:
        key = await bench.profile(await bench.account())
        for side in SIDES:
            await bench.left(key, side=side)
            await bench.left(None, side=side)
        async with bench.sweeping("legacy"), bench.sweeping("prisma"):
            await bench.unmarked()
        assert await bench.row(key) is None


async def test_a_sweeper_with_old_flags_removes_nothing(own: Ground) -> None:
    """It was paused while the entity began to settle, and looks at the marks before it looks at the flags."""
    async with bench_at(Stage.OFF, own) as bench:
        flag = replace(bench.flags["profile"], epoch=1, stage=Stage.DUALWRITE.value, changed_by="test")
        assert await own.stores.legacy.state.save_flag(flag, after=0)
        key = await bench.profile(await bench.account())
        mark = await bench.left(key)
        await bench.left(key, entity="video")
        async with bench.sweeping("legacy"):
            await bench.unmarked("legacy", entity="video")
            assert await bench.marks() == {mark}
            await bench.flags.refresh()
            await bench.unmarked("legacy")
        assert await bench.row(key) is None  # its parent does not settle
        assert key in await bench.refusals()


async def test_what_this_replica_is_settling_itself_is_left_to_it(bench: Bench) -> None:
    key = await bench.profile(await bench.account())
    bench.replicator.changed("profile", [key])
    await bench.settled(key)
    mark = await bench.left(key)
    other = await bench.profile(await bench.account())
    async with bench.locked(key):
        await bench.change(key, bio="slow")
        bench.replicator.changed("profile", [key], [("legacy", mark)])
        await bench.left(other, entity="profile")
        async with bench.sweeping("legacy"):
            await bench.until(lambda: bench.count("strangler_sweep_marks_total", side="legacy") == 1)
    await bench.settled(key, other)
    assert await bench.marks() == set()
    assert bench.count("strangler_sweep_marks_total", side="legacy") == 1


async def test_a_backlog_larger_than_a_look_is_swept_whole(bench: Bench) -> None:
    account = await bench.account()
    keys = [await bench.profile(account) for _ in range(40)]
    at = datetime.now(UTC) - LONG_AGO
    rows = [{"_id": ObjectId(), "entity": "profile", "key": key, "at": at} for key in keys * 20]
    await bench.legacy["strangler_marks"].insert_many(rows)
    async with bench.sweeping("legacy"):
        await bench.unmarked("legacy")
    assert bench.count("strangler_sweep_marks_total", side="legacy") == len(rows)
    assert all([await bench.row(key) for key in keys])


async def test_the_mark_of_a_refused_key_goes_to_quarantine(bench: Bench) -> None:
    bad = await bench.profile(await bench.account(), bio=7)
    await bench.left(bad)
    async with bench.sweeping("legacy"):
        await bench.unmarked("legacy")
    assert set(await bench.refusals()) == {bad}
    await bench.stores.legacy.quarantine.take("profile", [bad])


# Marks without a key


async def test_a_mark_without_a_key_stands_for_what_has_changed_since(bench: Bench) -> None:
    account = await bench.account()
    before = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    aged, other = [ObjectId(f"{int(before.timestamp()):08x}{secrets.token_hex(8)}") for _ in range(2)]
    old = {"_id": aged, "accountId": account, "username": "old", "createdAt": before, "updatedAt": before}
    touched = {**old, "_id": other, "username": "touched", "updatedAt": datetime.now(UTC)}
    await bench.legacy["profiles"].insert_many([old, touched])
    created, bad = await bench.profile(account), await bench.profile(account, bio=7)
    await bench.left(None)
    async with bench.sweeping("legacy"):
        await bench.unmarked("legacy")
    assert await bench.row(created) is not None
    assert await bench.row(str(other)) is not None
    assert await bench.row(str(aged)) is None
    assert bad in await bench.refusals()
    await bench.stores.legacy.quarantine.take("profile", [bad])


async def test_such_a_mark_stays_until_every_key_has_settled(bench: Bench) -> None:
    key = await bench.profile(await bench.account())
    mark = await bench.left(None)
    async with bench.table_away("profiles"), bench.sweeping("legacy"):
        await bench.until(lambda: bench.failures() >= 2)
        assert await bench.marks() == {mark}
    await bench.settled(key)
    async with bench.sweeping("legacy"):
        await bench.unmarked("legacy")
    assert await bench.row(key) is not None


async def test_such_a_mark_of_prisma_goes_the_other_way(reverse: Bench) -> None:
    key = await nft(reverse)
    await reverse.left(None, entity="nft_ownership", side="prisma")
    async with reverse.sweeping("prisma"):
        await reverse.unmarked("prisma", entity="nft_ownership")
    assert await reverse.document("nft_ownership", key) is not None


# One sweeper at a time


@pytest.mark.parametrize("side", SIDES)
async def test_another_replica_sweeps_when_the_first_one_stops(ground: Ground, bench: Bench, side: SideName) -> None:
    async with bench_at(Stage.DUALWRITE, ground) as second, AsyncExitStack() as ending:
        first = await ending.enter_async_context(bench.sweeping(side, replica="first"))
        await bench.until(lambda: sweeps(bench, side))
        looks = counted(second)
        async with second.sweeping(side, replica="second"):
            await second.until(lambda: len(looks) >= 3)
            assert not sweeps(second, side)
            assert sweeps(bench, side)
            key = await bench.profile(await bench.account())
            await first.stop()
            await bench.left(key, side=side)
            await second.until(lambda: sweeps(second, side))
            await second.unmarked(side)
        assert await bench.row(key) is not None
        assert second.count("strangler_sweep_marks_total", side=side) == 1


@pytest.mark.parametrize("side", SIDES)
async def test_another_replica_sweeps_when_the_first_one_has_died(ground: Ground, bench: Bench, side: SideName) -> None:
    """It has not given the lease back."""
    state = ground.stores.by_side()[side].state
    assert await state.lease("sweep", "killed", 0.5)
    async with bench.sweeping(side, replica="second"):
        await bench.until(lambda: sweeps(bench, side))
    assert await state.lease("sweep", "third", 1.0)  # this one has
    await state.release("sweep", "third")


async def test_who_loses_the_lease_says_nothing_of_the_backlog(ground: Ground, bench: Bench) -> None:
    state = ground.stores.legacy.state
    await bench.left(await bench.profile(ObjectId()))
    async with bench.sweeping("legacy", replica="paused"):
        await bench.until(lambda: sweeps(bench, "legacy"))
        await state.release("sweep", "paused")
        async with asyncio.timeout(DEADLINE):
            while not await state.lease("sweep", "other", 60.0):
                await state.release("sweep", "paused")
        await bench.until(lambda: not sweeps(bench, "legacy"))
    await state.release("sweep", "other")
    await bench.unmarked()
    for key in await bench.refusals():
        await bench.stores.legacy.quarantine.take("profile", [key])


# What the sweeper reports


async def test_the_backlog_is_reported(bench: Bench) -> None:
    key = await bench.profile(ObjectId())
    await bench.marked(key)  # too young to be swept
    await bench.stores.legacy.quarantine.put("account", {"k": "why"})
    async with bench.sweeping("legacy", write=60):
        await bench.until(lambda: bench.count("strangler_outbox_marks", side="legacy", entity="profile") == 1)
        await bench.until(lambda: bench.count("strangler_outbox_oldest_seconds", side="legacy", entity="profile") > 0)
        assert bench.count("strangler_quarantine", side="legacy", entity="account") == 1
        assert sweeps(bench, "legacy")
        name = "strangler_outbox_marks"
        assert bench.metrics.registry.get_sample_value(name, {"side": "legacy", "entity": "video"}) == 0
    await bench.stores.legacy.unmark(sorted(await bench.marks()))
    await bench.stores.legacy.quarantine.take("account", ["k"])


async def test_a_store_that_fails_is_said_when_it_begins_and_when_it_ends(bench: Bench) -> None:
    with capture_logs() as said:
        async with bench.sweeping("prisma"):
            await bench.until(lambda: sweeps(bench, "prisma"))
            async with bench.table_away("strangler_mark"):
                await bench.until(lambda: bench.count("strangler_sweep_failures_total", side="prisma") >= 2)
                assert not sweeps(bench, "prisma")
            await bench.until(lambda: any(event["event"] == "sweep_recovered" for event in said))
            assert sweeps(bench, "prisma")
    events = [event["event"] for event in said if event["event"].startswith("sweep_")]
    assert events == ["sweep_failing", "sweep_recovered"]


# Quarantine and registry


@pytest.mark.parametrize("tries", [1, 20])
async def test_what_is_in_quarantine_is_tried_again_ever_more_slowly(bench: Bench, tries: int) -> None:
    """The parent of an orphan has come, and nobody has told; the second one was tried just as long ago as the first."""
    parent = await bench.account()
    due, early = [await bench.profile(parent) for _ in range(2)]
    await bench.stores.legacy.quarantine.put("profile", {due: "an orphan", early: "an orphan"})
    ago = timedelta(seconds=12) if tries == 1 else timedelta(seconds=3601)
    await _tried(bench, due, tries, ago)
    await _tried(bench, early, tries + 1 if tries == 1 else tries, ago if tries == 1 else timedelta(seconds=3500))
    async with bench.sweeping("legacy"):
        async with asyncio.timeout(DEADLINE):
            while due in await bench.refusals():
                await asyncio.sleep(0.02)
    assert await bench.row(due) is not None
    assert await bench.row(early) is None
    assert set(await bench.refusals()) == {early}
    await bench.stores.legacy.quarantine.take("profile", [early])


async def test_what_lies_with_the_secondary_is_not_tried(bench: Bench) -> None:
    key, due = [await bench.profile(await bench.account()) for _ in range(2)]
    for side, store in bench.stores.by_side().items():
        await store.quarantine.put("profile", {key if side == "prisma" else due: "why"})
    await _tried(bench, due, 1, timedelta(hours=2))
    statement = 'UPDATE "strangler_quarantine" SET "tried_at" = "tried_at" - interval \'2 hours\''
    await bench.stores.engine.execute_raw(statement)
    async with bench.sweeping("prisma"), bench.sweeping("legacy"):
        async with asyncio.timeout(DEADLINE):
            while await bench.refusals():
                await asyncio.sleep(0.02)
        await bench.until(lambda: sweeps(bench, "prisma"))
    assert (await bench.refusals("prisma"))[key].tries == 1
    await bench.stores.prisma.quarantine.take("profile", [key])


@pytest.mark.parametrize("side", SIDES)
async def test_replicas_that_fell_silent_are_forgotten(bench: Bench, side: SideName) -> None:
    state = bench.stores.by_side()[side].state
    for id in ("silent", "alive", "a"):
        await state.beat(Replica(id, {}))
    if side == "legacy":
        await bench.legacy["strangler_replicas"].update_many(
            {"_id": {"$in": ["silent", "a"]}}, {"$set": {"at": datetime.now(UTC) - LONG_AGO}}
        )
    else:
        await bench.stores.engine.execute_raw(
            'UPDATE "strangler_replica" SET "heartbeat_at" = "heartbeat_at" - interval \'5 minutes\' WHERE "id" <> $1',
            "alive",
        )
    with capture_logs() as said:
        async with bench.sweeping(side, replica="a"), asyncio.timeout(DEADLINE):
            while "silent" in {replica.id for replica in await state.replicas()}:
                await state.beat(Replica("alive", {}))
                await asyncio.sleep(0.02)
    assert {replica.id for replica in await state.replicas()} == {"alive", "a"}  # it is not for itself to say
    gone = [event for event in said if event["event"] == "replica_gone"]
    assert [(event["replica"], event["side"]) for event in gone] == [("silent", side)]
    for id in ("alive", "a"):
        await state.forget_replica(id)


# What they stand on


def sweeps(bench: Bench, side: SideName) -> bool:
    """Whether it has the lease, by what it reports."""
    sample = bench.metrics.registry.get_sample_value("strangler_outbox_marks", {"side": side, "entity": "account"})
    return sample is not None


async def nft(bench: Bench) -> str:
    fields = {"walletAddress": "w", "contractAddress": "c", "tokenId": "t"}
    return await bench.create("nft_ownership", nftId=secrets.token_hex(6), **fields)


def counted(bench: Bench) -> list[SideName]:
    """Grows with every look that this bench's sweeps begin."""
    looks: list[SideName] = []
    look = bench.quarantines.look

    async def also(side: SideName) -> Mapping[str, int]:
        looks.append(side)
        return await look(side)

    object.__setattr__(bench.quarantines, "look", also)
    return looks


async def _tried(bench: Bench, key: str, tries: int, ago: timedelta) -> None:
    """As it would be after so many tries, the last of them so long ago."""
    await bench.legacy["strangler_quarantine"].update_one(
        {"_id": {"e": "profile", "k": key}}, {"$set": {"tries": tries, "at": datetime.now(UTC) - ago}}
    )
