"""Following the change stream with two replicas: one does it, both know what it knows, and the other one goes on when it
ends, however it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from bson import ObjectId

from config.model import Stage
from examples.processes import Program, free_port, program
from tests.proxy_case import DEADLINE, Event, Running, another, databases, fresh, recorded, running
from tests.subjects import NFT, PROFILE, SUBJECTS, VIDEO

NO_MARKS = {"legacy": 0, "prisma": 0}
ROOT = Path(__file__).resolve().parents[1]


async def seen(proxim8: Running, stage: Stage) -> None:
    """Wait until this replica knows that everything is at this stage."""
    flags = proxim8.proxy.flags
    await proxim8.until(lambda: all(flags[subject.entity].stage == stage for subject in SUBJECTS), f"{stage} is seen")


@pytest.fixture(scope="module")
def events() -> Iterator[list[Event]]:
    """This process's events: they can be had only once."""
    with recorded() as found:
        yield found


@pytest.fixture(scope="module")
async def pair(
    server_folder: Path, mongo_url: str, postgres_url: str, migrated_template: str, events: list[Event]
) -> AsyncIterator[tuple[Running, Running]]:
    """The replica that follows, before the old servers, and another one."""
    async with (
        databases(mongo_url, postgres_url, migrated_template) as stores,
        running(server_folder, stores, events=events) as leader,
        another(leader) as other,
    ):
        assert leader.proxy.follower.leads
        yield leader, other


@pytest.fixture(scope="module")
async def alone(
    server_folder: Path, mongo_url: str, postgres_url: str, migrated_template: str, events: list[Event]
) -> AsyncIterator[tuple[Running, Running]]:
    """The same where both reach the collections themselves."""
    async with (
        databases(mongo_url, postgres_url, migrated_template) as stores,
        running(server_folder, stores, via="collection", events=events) as leader,
        another(leader) as other,
    ):
        assert leader.proxy.follower.leads
        yield leader, other


@pytest.fixture
async def shadow(pair: tuple[Running, Running]) -> tuple[Running, Running]:
    leader, other = pair
    await leader.move(Stage.SHADOW)
    await seen(other, Stage.SHADOW)
    return pair


async def quiet(pair: tuple[Running, Running]) -> None:
    for proxim8 in pair:
        await proxim8.quiet()


def settled(proxim8: Running) -> float:
    return proxim8.count("strangler_settled_total")


async def agreed(proxim8: Running, entity: str, key: str) -> dict[str, object] | None:
    held = await proxim8.on_legacy(entity, key)
    assert await proxim8.on_prisma(entity, key) == held
    return held


# Two replicas


async def test_one_of_two_follows_and_no_write_of_either_leaves_a_mark(shadow: tuple[Running, Running]) -> None:
    leader, other = shadow
    assert (leader.proxy.follower.leads, other.proxy.follower.leads) == (True, False)
    assert [int(one.count("strangler_following")) for one in shadow] == [1, 0]
    for one in shadow:
        assert not one.proxy.follower.needs_mark(one.proxy.flags.meaning("video"))
    await quiet(shadow)
    before = settled(other)
    wallet, account = await leader.account()
    for one in shadow:
        key = await one.create(VIDEO, wallet, account)
        assert await one.marks() == NO_MARKS
        await one.quiet()
        assert await agreed(one, "video", key) is not None
    assert settled(other) == before


async def test_a_write_of_the_other_replica_is_settled_once(alone: tuple[Running, Running]) -> None:
    """The one that follows hears of it; who wrote it does not settle it as well."""
    leader, other = alone
    await leader.move(Stage.SHADOW)
    await seen(other, Stage.SHADOW)
    wallet, account = await other.account()
    await quiet(alone)
    before = (settled(leader), settled(other))
    for turn in range(5):
        await other.create(VIDEO, wallet, account, title=f"turn {turn}")
        await other.quiet()
    assert (settled(leader), settled(other)) == (before[0] + 5, before[1])
    assert await other.marks() == NO_MARKS


async def test_the_other_replica_waits_for_what_it_cannot_see(shadow: tuple[Running, Running]) -> None:
    """Its own write is being settled elsewhere, and cannot be, for a lock: the difference is lag, not a mismatch."""
    leader, other = shadow
    key = await other.create(PROFILE, *await other.account())
    await quiet(shadow)
    before = other.compared("profile")
    engine = other.proxy.stores.engine
    lock = await engine.begin(timeout=60)
    await engine.query_raw('SELECT 1 AS one FROM "profiles" WHERE "_id" = $1 FOR UPDATE', key, tx=lock)
    try:
        await other.ask("PATCH", f"/api/profiles/{key}", {"bio": "not settled yet"})
        await leader.until(lambda: leader.proxy.replicator.pending("profile", key), "a settle that waits")
        assert not other.proxy.replicator.pending("profile", key)
        asked = await beacon(other)
        assert (await other.ask("GET", f"/api/profiles/{key}")).data["bio"] == "not settled yet"
        async with asyncio.timeout(DEADLINE):
            while await beacon(other) == asked:  # the comparison has seen a difference, and asks whether it settles
                await asyncio.sleep(0.01)
    finally:
        await engine.rollback(lock)
    await quiet(shadow)
    assert other.compared("profile") == {**before, "lag": before.get("lag", 0) + 1}
    assert not other.said("mismatch", key=key)


async def beacon(proxim8: Running) -> object:
    found = await proxim8.legacy["strangler_beacons"].find_one({"_id": proxim8.proxy.follower.replica})
    return None if found is None else found["beacon"]


async def test_the_other_replica_knows_a_mismatch_for_one(shadow: tuple[Running, Running]) -> None:
    _, other = shadow
    key = await other.create(PROFILE, *await other.account())
    await quiet(shadow)
    await other.change_row("profile", key, bio="planted")
    assert (await other.ask("GET", f"/api/profiles/{key}")).status == 200
    await quiet(shadow)
    [said] = other.said("mismatch", key=key)
    assert said["changes"] == ["value bio"]
    await other.ask("PATCH", f"/api/profiles/{key}", {"bio": "healed"})
    await quiet(shadow)


async def test_reads_of_the_other_replica_that_race_with_writes_are_no_mismatches(
    shadow: tuple[Running, Running],
) -> None:
    leader, other = shadow
    wallet, account = await leader.account()
    keys = [await leader.create(VIDEO, wallet, account) for _ in range(3)]
    await quiet(shadow)
    before = other.compared("video")

    async def write(key: str) -> None:
        for turn in range(8):
            through = shadow[turn % 2]
            assert (await through.ask("PATCH", f"/api/videos/{key}", {"title": f"turn {turn}"})).status == 200

    async def read(key: str) -> None:
        for _ in range(5):
            assert (await other.ask("GET", f"/api/videos/{key}")).status == 200

    await asyncio.gather(*(work(key) for key in keys for work in (write, read)))
    await quiet(shadow)
    after = other.compared("video")
    assert sum(after.values()) == sum(before.values()) + 15
    assert after.get("mismatch", 0) == before.get("mismatch", 0)
    assert after.get("failed", 0) == before.get("failed", 0)


async def test_the_other_replica_serves_what_it_has_just_written(shadow: tuple[Running, Running]) -> None:
    leader, other = shadow
    wallet, account = await leader.account()
    await leader.tune("video", serve=100)
    await other.until(lambda: other.proxy.flags["video"].serve == 100, "what is tuned")
    try:
        for turn in range(5):
            key = await other.create(VIDEO, wallet, account)
            assert (await other.ask("GET", f"/api/videos/{key}")).data["title"] == "first"
            await other.ask("PATCH", f"/api/videos/{key}", {"title": f"turn {turn}"})
            assert (await other.ask("GET", f"/api/videos/{key}")).data["title"] == f"turn {turn}"
        async with asyncio.timeout(DEADLINE):
            while (answer := await other.ask("GET", f"/api/videos/{key}")).forwarded:
                await asyncio.sleep(0.01)
        assert answer.data["title"] == "turn 4"
    finally:
        await leader.tune("video", serve=0)


# One after the other


@pytest.fixture
async def proxim8(
    server_folder: Path, mongo_url: str, postgres_url: str, migrated_template: str, events: list[Event]
) -> AsyncIterator[Running]:
    """A replica of a test's own, which follows, at shadow. Events are of all that run."""
    async with (
        databases(mongo_url, postgres_url, migrated_template) as stores,
        running(server_folder, stores, via="collection", events=events) as proxim8,
    ):
        await proxim8.move(Stage.SHADOW)
        yield proxim8


async def test_when_the_follower_stops_the_other_goes_on(proxim8: Running) -> None:
    owner = await proxim8.account()
    async with another(proxim8) as second:
        assert not second.proxy.follower.leads
        keys = [await second.create(VIDEO, *owner) for _ in range(5)]
        await proxim8.proxy.follower.stop()
        assert not proxim8.proxy.follower.leads
        keys += [await second.create(VIDEO, *owner) for _ in range(5)]
        await second.until(lambda: second.proxy.follower.leads, "the other one follows")
        keys += [await one.create(VIDEO, *owner) for one in (proxim8, second)]
        await second.quiet()
        for key in keys:
            assert await agreed(second, "video", key) is not None
        assert await second.marks() == NO_MARKS


async def test_who_has_lost_the_lease_stops_and_the_next_one_waits_for_its_end(proxim8: Running) -> None:
    """The lease is another's, who never gives it back: it has to lapse."""
    owner = await proxim8.account()
    follower = proxim8.proxy.follower
    await proxim8.legacy["strangler_leases"].update_one({"_id": "follow"}, {"$set": {"holder": "somebody else"}})
    await proxim8.until(lambda: not follower.leads, "it stops")
    # Nobody follows, and still the stream is the record: what is written now is heard by who follows next.
    key = await proxim8.create(VIDEO, *owner)
    assert await proxim8.marks() == NO_MARKS
    assert await proxim8.on_prisma("video", key) is None
    await proxim8.until(lambda: follower.leads, "it follows again")
    await proxim8.quiet()
    assert await agreed(proxim8, "video", key) is not None


async def test_a_replica_displaced_unknowingly_cannot_save_its_position(proxim8: Running) -> None:
    """As after a pause: its lease has run out, another one has gone on, and it still believes that it follows."""
    await proxim8.proxy.stores.legacy.positions.claim("somebody else")
    await proxim8.account()
    await proxim8.until(lambda: bool(proxim8.said("following_ended")), "it learns so when it saves")
    await proxim8.until(lambda: proxim8.proxy.follower.leads, "it follows again")


async def test_what_had_not_settled_when_the_follower_was_killed_settles(server_folder: Path, proxim8: Running) -> None:
    """The settle waits for a lock, longer than the follower takes between two saves of its position."""
    owner = await proxim8.account()
    key = await proxim8.create(VIDEO, *owner)
    await proxim8.quiet()
    follower, replica = proxim8.proxy.follower, f"killed-{fresh()}"
    async with another_process(server_folder, proxim8, replica) as killed:
        await proxim8.legacy["strangler_leases"].update_one({"_id": "follow"}, {"$set": {"holder": replica}})
        async with asyncio.timeout(DEADLINE):
            while (await follower.heard(["video"])).follower != replica:
                pass
        engine = proxim8.proxy.stores.engine
        lock = await engine.begin(timeout=60)
        await engine.query_raw('SELECT 1 AS one FROM "videos" WHERE "_id" = $1 FOR UPDATE', key, tx=lock)
        try:
            assert (await proxim8.ask("PATCH", f"/api/videos/{key}", {"title": "unsettled"})).status == 200
            assert await proxim8.marks() == NO_MARKS
            other = await proxim8.create(PROFILE, *owner)
            async with asyncio.timeout(DEADLINE):
                assert (await follower.heard(["profile"])).follower == replica
            assert await agreed(proxim8, "profile", other) is not None
            await asyncio.sleep(2.0)
            row = await proxim8.on_prisma("video", key)
            assert row is not None
            assert row["title"] == "first"
            os.killpg(killed.pid, signal.SIGKILL)
            # What it had sent dies with it, rather than end once the lock is gone.
            waiting = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            while await proxim8.sql(waiting):
                await asyncio.sleep(0.05)
        finally:
            await engine.rollback(lock)
    await proxim8.until(lambda: follower.leads, "it follows again, once the lease has lapsed")
    await proxim8.quiet()
    held = await agreed(proxim8, "video", key)
    assert held is not None
    assert held["title"] == "unsettled"


@asynccontextmanager
async def another_process(folder: Path, first: Running, replica: str) -> AsyncIterator[Program]:
    """One more replica, which may be killed."""
    await first.legacy.create_collection("notifications")  # what is configured has to be there
    admin = free_port()
    environment = {
        **first.environment,
        "STRANGLER_REPLICA": replica,
        "STRANGLER_PORT": str(free_port()),
        "STRANGLER_ADMIN_PORT": str(admin),
    }
    argv: list[str | Path] = [Path(sys.executable).with_name("strangler"), "serve"]
    url = f"http://127.0.0.1:{admin}/readyz"
    async with program("killed", argv, folder=folder, env=environment, ready_url=url, cwd=ROOT) as process:
        yield process


async def test_what_was_heard_before_the_flag_settles_all_the_same(proxim8: Running) -> None:
    """Another replica has read it first, and written. This one, which hears of the write, reads the flag later."""
    flags, stores = proxim8.proxy.flags, proxim8.proxy.stores.by_side()
    await proxim8.move(Stage.OFF, ["nft_ownership"])
    await flags.stop()
    epoch = flags["nft_ownership"].epoch + 1
    for side in (stores["legacy"], stores["prisma"]):
        flag = replace(flags["nft_ownership"], stage=Stage.DUALWRITE.value, epoch=epoch)
        assert await side.state.save_flag(flag, after=epoch - 1)
    made = ObjectId()
    document = NFT.make(fresh(), "")
    times = dict.fromkeys(("createdAt", "updatedAt", "lastVerified"), datetime.now(UTC).replace(microsecond=0))
    await proxim8.legacy["nft_ownership"].insert_one({"_id": made, "verified": True, **document, **times})
    await proxim8.quiet()
    assert await proxim8.on_prisma("nft_ownership", str(made)) is None
    flags.start()
    async with asyncio.timeout(DEADLINE):
        while await proxim8.on_prisma("nft_ownership", str(made)) is None:
            await asyncio.sleep(0.05)
    assert await agreed(proxim8, "nft_ownership", str(made)) is not None


# At live


@pytest.fixture
async def live(pair: tuple[Running, Running]) -> tuple[Running, Running]:
    leader, other = pair
    await leader.move(Stage.LIVE)
    await seen(other, Stage.LIVE)
    await quiet(pair)
    return pair


async def test_settles_of_our_own_are_not_followed_back(live: tuple[Running, Running]) -> None:
    leader, _ = live
    before = [settled(one) for one in live]
    said = len(leader.said("legacy_changed"))
    keys = []
    for one in live:
        owner = await one.account()
        keys += [await one.create(VIDEO, *owner) for _ in range(3)]
        await quiet(live)  # so that no two writes of a key share a settle
        await one.ask("DELETE", f"/api/videos/{keys[-1]}")
    await quiet(live)
    # An account, three videos and one deletion each, by who wrote them and nobody else.
    assert sum(settled(one) for one in live) - sum(before) == 10
    assert len(leader.said("legacy_changed")) == said
    for key in keys:
        await agreed(leader, "video", key)


async def test_what_others_change_at_live_is_reported_and_overwritten(live: tuple[Running, Running]) -> None:
    leader, _ = live
    owner = await leader.account()
    changed, deleted = [await leader.create(VIDEO, *owner) for _ in range(2)]
    await quiet(live)
    before = leader.count("strangler_legacy_changes_total", entity="video")
    await leader.change_document("video", changed, title="personal-planted")
    await leader.remove_document("video", deleted)
    made = ObjectId()
    await leader.legacy["videos"].insert_one({"_id": made, "title": "personal-made"})
    await quiet(live)
    for key in (changed, deleted):
        held = await agreed(leader, "video", key)
        assert held is not None
        assert held["title"] == "first"
    assert await leader.on_legacy("video", str(made)) is None
    for key, kind in ((changed, "update"), (deleted, "delete"), (str(made), "insert")):
        [said] = leader.said("legacy_changed", key=key)
        assert said == {
            "event": "legacy_changed",
            "log_level": "warning",
            "entity": "video",
            "key": key,
            "kind": kind,
        }
    assert leader.count("strangler_legacy_changes_total", entity="video") == before + 3


async def test_no_flip_back_is_taken_for_a_change_by_others(live: tuple[Running, Running]) -> None:
    """The first write to legacy may be heard before this replica's flags say that it is the truth again."""
    leader, other = live
    owner = await leader.account()
    said = len(leader.said("legacy_changed"))
    stop = asyncio.Event()

    async def write(through: Running) -> list[str]:
        keys = []
        while not stop.is_set():
            keys.append(await through.create(VIDEO, *owner))
        return keys

    writers = [asyncio.create_task(write(one)) for one in live]
    for _ in range(3):
        await leader.move(Stage.SHADOW, ["video"])
        await leader.move(Stage.LIVE, ["video"])
    stop.set()
    keys = [key for written in await asyncio.gather(*writers) for key in written]
    await other.until(lambda: other.proxy.flags["video"].stage == Stage.LIVE, "live")
    await quiet(live)
    assert len(leader.said("legacy_changed")) == said
    for key in keys:
        assert await agreed(leader, "video", key) is not None


async def test_the_flags_are_looked_at_before_a_change_is_reported(proxim8: Running) -> None:
    """Legacy is the truth again, and this replica has not heard of it but from a change there."""
    await proxim8.move(Stage.LIVE)
    key = await proxim8.create(VIDEO, *await proxim8.account())
    await proxim8.quiet()
    flags, stores = proxim8.proxy.flags, proxim8.proxy.stores.by_side()
    await flags.stop()
    epoch = flags["video"].epoch + 1
    back = replace(flags["video"], stage=Stage.SHADOW.value, epoch=epoch, term=epoch)
    for side in (stores["legacy"], stores["prisma"]):
        await side.turn("video", epoch)
        assert await side.state.save_flag(back, after=epoch - 1)
    await proxim8.change_document("video", key, title="by a client")
    await proxim8.quiet()
    assert not proxim8.said("legacy_changed", key=key)
    held = await agreed(proxim8, "video", key)
    assert held is not None
    assert held["title"] == "by a client"


async def test_what_is_heard_again_after_a_flip_is_no_change_by_others(proxim8: Running) -> None:
    """The position was saved before the flip: a restart hears writes again that were made while legacy was the truth."""
    owner = await proxim8.account()
    positions = proxim8.proxy.stores.legacy.positions
    saved = await positions.load()
    keys = [await proxim8.create(VIDEO, *owner) for _ in range(3)]
    await proxim8.move(Stage.LIVE)
    await proxim8.quiet()
    await proxim8.proxy.follower.stop()
    assert saved.position is not None
    assert await positions.save(proxim8.proxy.follower.replica, saved.position)
    await proxim8.proxy.follower.start()
    await proxim8.quiet()
    assert not [said for said in proxim8.said("legacy_changed") if said["key"] in (*keys, owner[1])]
    await proxim8.change_document("video", keys[0], title="by others")
    await proxim8.quiet()
    assert [said["key"] for said in proxim8.said("legacy_changed") if said["key"] in keys] == [keys[0]]


async def test_nothing_is_followed_where_nothing_settles(live: tuple[Running, Running]) -> None:
    leader, _ = live
    key = await leader.create(VIDEO, *await leader.account())
    await leader.move(Stage.COMPLETE, ["video"])
    try:
        await quiet(live)
        before = [settled(one) for one in live]
        await leader.change_document("video", key, title="whatever")
        await quiet(live)
        assert [settled(one) for one in live] == before
        assert not leader.said("legacy_changed", key=key)
        document = await leader.on_legacy("video", key)
        assert document is not None
        assert document["title"] == "whatever"
    finally:
        await leader.move(Stage.RAMPDOWN, ["video"])
    await leader.change_document("video", key, title="once more")
    await quiet(live)
    assert len(leader.said("legacy_changed", key=key)) == 1
    assert await agreed(leader, "video", key) is not None
