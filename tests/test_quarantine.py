"""Quarantine on real stores: what the secondary cannot take waits there with its reason, and all else goes on."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from bson import Int64, ObjectId
from structlog.testing import capture_logs

from adapters.side import SideError
from config.model import Stage
from proxy.migration.copy.backfill import Backfill
from proxy.replication.quarantine import reason_of
from tests.proxy_case import DEADLINE, fresh, standing
from tests.settle_case import LONG_AGO, Bench, Ground, Json, bench_at, grounds

SECRET = "hunter2@example.com"
"""A value that may be in no reason and in no event."""


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


@pytest.fixture(autouse=True)
async def empty(ground: Ground) -> AsyncIterator[None]:
    """Both quarantines are, after each test."""
    yield
    for store in ground.stores.by_side().values():
        for entity in await store.quarantine.sizes():
            await store.quarantine.take(entity, [one.key for one in await store.quarantine.refusals(entity)])


async def drained(bench: Bench) -> None:
    """What a saved position, a flip and a share served by the secondary wait for."""
    async with asyncio.timeout(DEADLINE):
        await bench.replicator.drained()
        await bench.replicator.tried("profile")


async def renamed(bench: Bench, key: str) -> str:
    """A row with a key that Mongo cannot take, as something else than the proxy may write it."""
    fields = {"walletAddress": "w", "contractAddress": "c", "tokenId": "t"}
    made = await bench.create("nft_ownership", nftId=secrets.token_hex(6), **fields)
    statement = 'UPDATE "nft_ownership" SET "_id" = $1 WHERE "_id" = $2'
    assert await bench.stores.engine.execute_raw(statement, key, made) == 1
    return key


# From legacy to prisma

WRONG_PROFILES: dict[str, tuple[Json, str]] = {
    "an orphan": ({"accountId": ObjectId()}, "accountId refers to nothing"),
    "NUL": ({"bio": f"{SECRET}\0"}, "bio: holds the character NUL"),
    "an integer of 64 bits for a text": ({"bio": Int64(2**62)}, "bio: expected a string, got an integer"),
    "NaN for a text": ({"avatar": float("nan")}, "avatar: expected a string, got a number"),
    "infinity for a date": ({"createdAt": float("inf")}, "createdAt: expected a date, got a number"),
    "a text for a date": ({"createdAt": SECRET}, "createdAt: expected a date, got a string"),
    "an object for a text": ({"bio": {"mail": SECRET}}, "bio: expected a string, got an object"),
    "nothing where there has to be something": ({"username": None}, "username: required, but missing or null"),
}


@pytest.mark.parametrize(("wrong", "reason"), WRONG_PROFILES.values(), ids=WRONG_PROFILES)
async def test_what_prisma_cannot_take_waits_and_all_else_goes_on(bench: Bench, wrong: Json, reason: str) -> None:
    account = await bench.account()
    good = [await bench.profile(account) for _ in range(5)]
    bad = await bench.profile(account, **wrong)
    mark = await bench.marked(bad)
    with capture_logs() as said:
        bench.replicator.changed("profile", good[:2])
        bench.replicator.changed("profile", [bad], [("legacy", mark)])
        bench.replicator.changed("profile", good[2:])
        await drained(bench)
    assert all([await bench.row(key) for key in good])
    assert await bench.row(bad) is None
    kept = (await bench.refusals())[bad]
    assert (kept.reason, kept.tries) == (reason, 1)
    assert await bench.marks() == set()
    events = [event for event in said if event["event"] == "quarantined"]
    assert [(e["entity"], e["key"], e["side"], e["reason"]) for e in events] == [("profile", bad, "legacy", reason)]
    assert SECRET not in repr(said)


@pytest.mark.parametrize("levels", [150, 101], ids=["150 levels", "101 levels"])
async def test_a_document_nested_too_deep_for_json_waits(bench: Bench, levels: int) -> None:
    """BSON itself ends at 180 levels or so: deeper ones come only from prisma."""
    account = await bench.account()
    value: Any = SECRET
    for _ in range(levels):
        value = {"a": value}
    fields = {"accountId": account, "type": "SYSTEM_ANNOUNCEMENT", "title": "t", "message": "m", "isRead": False}
    bad = str(await bench.insert("notifications", **fields, data=value))
    good = str(await bench.insert("notifications", **fields, data={"a": 1}))
    bench.replicator.changed("notification", [bad, good])
    await drained(bench)
    assert (await bench.refusals(entity="notification"))[bad].reason.endswith("nested deeper than 100 levels")
    assert await bench.row(good, "notification") is not None


async def test_a_text_too_long_for_its_index_waits(bench: Bench) -> None:
    account, long = await bench.account(), secrets.token_hex(20_000)
    good, bad = await bench.profile(account), await bench.profile(account, username=long)
    bench.replicator.changed("profile", [good, bad])
    await drained(bench)
    assert await bench.row(good) is not None
    assert (await bench.refusals())[bad].reason == "document: refused by PostgreSQL (SQLSTATE 54000)"


async def test_what_a_trigger_refuses_waits_without_its_words(bench: Bench) -> None:
    engine = bench.stores.engine
    await engine.execute_raw(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.bio <> '' THEN RAISE 'not %', NEW.bio; END IF; RETURN NEW; END $$"
    )
    await engine.execute_raw(
        'CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON "profiles" FOR EACH ROW EXECUTE FUNCTION refuse()'
    )
    try:
        account = await bench.account()
        good, bad = await bench.profile(account, bio=""), await bench.profile(account, bio=SECRET)
        with capture_logs() as said:
            bench.replicator.changed("profile", [good, bad])
            await drained(bench)
    finally:
        await engine.execute_raw('DROP TRIGGER refuse ON "profiles"')
        await engine.execute_raw("DROP FUNCTION refuse")
    assert await bench.row(good) is not None
    assert (await bench.refusals())[bad].reason == "document: refused by PostgreSQL (SQLSTATE P0001)"
    assert SECRET not in repr(said)


async def test_a_unique_value_that_somebody_keeps_is_a_reason_without_the_value(bench: Bench) -> None:
    account = await bench.account()
    holder, other = [await bench.profile(account, username=SECRET) for _ in range(2)]
    bench.replicator.changed("profile", [holder])
    await drained(bench)
    bench.replicator.changed("profile", [other])
    await drained(bench)
    assert (await bench.refusals())[other].reason == "username already exists"


# From prisma to legacy


async def test_what_the_collections_validator_refuses_waits(reverse: Bench) -> None:
    await reverse.insert("nft_ownership", nftId=secrets.token_hex(6))  # so that there is a collection
    rule = {"$jsonSchema": {"properties": {"tokenId": {"maxLength": 5}}}}
    await reverse.legacy.command("collMod", "nft_ownership", validator=rule)
    try:
        good, bad = [
            await reverse.create(
                "nft_ownership", nftId=secrets.token_hex(6), walletAddress="w", contractAddress="c", tokenId=token
            )
            for token in ("short", SECRET)
        ]
        mark = await reverse.marked(bad, entity="nft_ownership", side="prisma")
        with capture_logs() as said:
            reverse.replicator.changed("nft_ownership", [good])
            reverse.replicator.changed("nft_ownership", [bad], [("prisma", mark)])
            await drained(reverse)
    finally:
        await reverse.legacy.command("collMod", "nft_ownership", validator={})
    kept = (await reverse.refusals("prisma", "nft_ownership"))[bad]
    assert kept.reason == "tokenId: refused by the collection's validator"
    assert await reverse.document("nft_ownership", good) is not None
    assert await reverse.stores.prisma.marks("nft_ownership", 1) == []
    assert SECRET not in repr(said)


async def test_a_unique_value_that_mongo_has_already_waits(reverse: Bench) -> None:
    await reverse.legacy["nft_ownership"].create_index("nftId", unique=True, name="one")
    try:
        await reverse.insert("nft_ownership", nftId=SECRET)
        key = await reverse.create("nft_ownership", nftId=SECRET, walletAddress="w", contractAddress="c", tokenId="t")
        reverse.replicator.changed("nft_ownership", [key])
        await drained(reverse)
    finally:
        await reverse.legacy["nft_ownership"].drop_index("one")
    assert (await reverse.refusals("prisma", "nft_ownership"))[key].reason == "nftId already exists"


@pytest.mark.parametrize(
    ("levels", "reason"),
    [(150, "nested deeper than 100 levels"), (3_000, "holds JSON that is nested too deep to be read")],
    ids=["150 levels", "3,000 levels"],
)
async def test_json_nested_too_deep_for_mongo_waits(reverse: Bench, levels: int, reason: str) -> None:
    account = await reverse.create("account", walletAddress=secrets.token_hex(6))
    fields = {"accountId": account, "type": "SYSTEM_ANNOUNCEMENT", "title": "t", "message": "m"}
    good = await reverse.create("notification", **fields, data={"a": 1})
    bad = await reverse.create("notification", **fields, data={"a": 1})
    text = '{"a":' * levels + orjson.dumps(SECRET).decode() + "}" * levels
    assert await reverse.stores.engine.execute_raw(
        'UPDATE "notifications" SET "data" = $1::text::jsonb WHERE "_id" = $2', text, bad
    )
    with capture_logs() as said:
        reverse.replicator.changed("notification", [good, bad])
        await drained(reverse)
    assert (await reverse.refusals("prisma", "notification"))[bad].reason.endswith(reason)
    assert (await reverse.stores.engine.metrics())["restarts"] == 0
    assert await reverse.document("notifications", good) is not None
    assert SECRET not in repr(said)


async def test_a_key_that_is_no_object_id_waits(reverse: Bench) -> None:
    key = await renamed(reverse, "no object id")
    reverse.replicator.changed("nft_ownership", [key])
    await drained(reverse)
    assert "hex digits" in (await reverse.refusals("prisma", "nft_ownership"))[key].reason


# Into it, and out of it


async def test_a_changed_document_leaves_by_itself(bench: Bench) -> None:
    bad = await bench.profile(await bench.account(), bio=7)
    bench.replicator.changed("profile", [bad])
    await bench.quarantined(bad)
    await bench.change(bad, bio="fine")
    mark = await bench.marked(bad)
    with capture_logs() as said:
        bench.replicator.changed("profile", [bad], [("legacy", mark)])
        await bench.settled(bad)
    assert await bench.row(bad) is not None
    assert bad not in await bench.refusals()
    assert [event["key"] for event in said if event["event"] == "quarantine_left"] == [bad]


async def test_what_another_replica_put_there_leaves_as_well(ground: Ground, bench: Bench) -> None:
    bad = await bench.profile(await bench.account(), bio=7)
    bench.replicator.changed("profile", [bad])
    await bench.quarantined(bad)
    async with bench_at(Stage.DUALWRITE, ground) as other:
        await other.quarantines.look("legacy")  # as its sweep does, whether or not it has the lease
        await bench.change(bad, bio="fine")
        await other.replicator.followed("profile", bad, None)
        await other.settled(bad)
    assert bad not in await bench.refusals()


async def test_a_refusal_of_meanwhile_stays(bench: Bench) -> None:
    """A settle takes out what it has made good: the refusal that it had seen before its token. While it is under way the
    document is broken again, and another replica tries and gives up: that one stays."""
    bad = await bench.profile(await bench.account(), bio=7)
    bench.replicator.changed("profile", [bad])
    await bench.quarantined(bad)
    await bench.change(bad, bio="fine")

    async def settle() -> None:
        bench.replicator.changed("profile", [bad])
        await bench.settled(bad)

    async with bench.steps.stopped("applied", settle) as settling:
        await bench.stores.legacy.quarantine.put("profile", {bad: "what the other replica found"})
    async with asyncio.timeout(DEADLINE):
        await settling
    assert await bench.row(bad) is not None
    assert (await bench.refusals())[bad].reason == "what the other replica found"
    assert (await bench.quarantines.retry("legacy", "profile", [bad], bench.settler)).settled == {bad}
    assert bad not in await bench.refusals()


async def test_a_key_refused_again_for_the_same_reason_is_said_once(bench: Bench) -> None:
    bad = await bench.profile(await bench.account(), bio=7)
    with capture_logs() as said:
        for bio in (7, 8, "a\0b"):
            await bench.change(bad, bio=bio)
            bench.replicator.changed("profile", [bad])
            await drained(bench)
    reasons = [event["reason"] for event in said if event["event"] == "quarantined"]
    assert reasons == ["bio: expected a string, got an integer", "bio: holds the character NUL"]


async def test_it_stays_with_its_mark_where_it_cannot_be_put(reverse: Bench) -> None:
    """Quarantine first, then without marks: a crash, or a store that does not take it, loses no key."""
    key = await renamed(reverse, secrets.token_hex(5))
    mark = await reverse.marked(key, entity="nft_ownership", side="prisma")
    async with reverse.table_away("strangler_quarantine"):
        reverse.replicator.changed("nft_ownership", [key], [("prisma", mark)])
        await reverse.until(
            lambda: reverse.count("strangler_settle_failures_total", entity="nft_ownership", cause="SideError") >= 2
        )
        assert reverse.replicator.pending("nft_ownership", key, mark)
        assert [one.id for one in await reverse.stores.prisma.marks("nft_ownership", 10)] == [mark]
    await drained(reverse)
    assert key in await reverse.refusals("prisma", "nft_ownership")
    assert await reverse.stores.prisma.marks("nft_ownership", 10) == []


async def test_a_retry_lets_go_of_nothing_that_was_refused_since(bench: Bench) -> None:
    bad = await bench.profile(await bench.account(), bio=7)
    bench.replicator.changed("profile", [bad])
    await bench.quarantined(bad)
    await bench.change(bad, bio="fine")
    async with bench.steps.stopped(
        "applied", lambda: bench.quarantines.retry("legacy", "profile", [bad], bench.settler)
    ) as retrying:
        await bench.change(bad, bio=8)
        await bench.stores.legacy.quarantine.put("profile", {bad: "what the other replica found"})
    async with asyncio.timeout(DEADLINE):
        await retrying
    assert (await bench.refusals())[bad].reason == "what the other replica found"


async def test_a_retry_that_is_refused_counts(bench: Bench) -> None:
    bad = await bench.profile(await bench.account(), bio=7)
    bench.replicator.changed("profile", [bad])
    first = await bench.quarantined(bad)
    await bench.quarantines.retry("legacy", "profile", [bad], bench.settler)
    second = (await bench.refusals())[bad]
    assert (second.tries, second.since) == (first.tries + 1, first.since)


async def test_an_orphan_is_healed_by_a_retry_once_its_parent_is_there(bench: Bench) -> None:
    parent = ObjectId()
    orphan = await bench.profile(parent)
    bench.replicator.changed("profile", [orphan])
    await bench.quarantined(orphan)
    now = datetime.now(UTC)
    account = {"_id": parent, "walletAddress": secrets.token_hex(6), "createdAt": now, "updatedAt": now}
    await bench.legacy["accounts"].insert_one(account)
    retried = await bench.quarantines.retry("legacy", "profile", [orphan], bench.settler)
    assert retried.settled == {orphan}
    assert await bench.row(orphan) is not None
    assert await bench.row(str(parent), "account") is not None
    assert await bench.refusals() == {}


async def test_only_the_primarys_quarantine_is_retried(bench: Bench) -> None:
    key = await bench.profile(await bench.account())
    await bench.stores.prisma.quarantine.put("profile", {key: "of another time, when prisma was the primary"})
    retried = await bench.quarantines.retry("prisma", "profile", [key], bench.settler)
    assert (retried.settled, retried.refused) == (frozenset(), {})
    assert key in await bench.refusals("prisma")
    await bench.stores.prisma.quarantine.take("profile", [key])


async def test_what_a_backfill_cannot_copy_is_there_as_well(ground: Ground) -> None:
    async with bench_at(Stage.DUALWRITE, ground) as bench:
        await bench.legacy["profiles"].delete_many({})
        bad, good = [await bench.profile(await bench.account(), bio=bio) for bio in (7, "fine")]
        done = await Backfill(bench.stores.by_side(), bench.flags, bench.settler).everything("profile")
        assert (done.settled, done.refused, set(done.reasons)) == (1, 1, {bad})
        assert set(await bench.refusals()) == {bad}
        assert await bench.row(good) is not None


def test_a_reason_quotes_nothing_of_what_it_does_not_know() -> None:
    assert reason_of(SideError("bio: too long")) == "bio: too long"
    assert reason_of(ValueError(SECRET)) == "ValueError"


# In a whole proxy


async def test_the_change_streams_position_goes_on_past_it_and_the_sweep_heals_it(
    server_folder: Path, mongo_url: str, postgres_url: str, migrated_template: str
) -> None:
    async with standing(server_folder, mongo_url, postgres_url, migrated_template, via="collection") as proxim8:
        await proxim8.move(Stage.DUALWRITE, ["account", "profile"])
        rows, now = proxim8.legacy["strangler_positions"], datetime.now(UTC)
        parent, orphan = ObjectId(), ObjectId()
        document = {"_id": orphan, "accountId": parent, "username": fresh(), "createdAt": now, "updatedAt": now}
        await proxim8.legacy["profiles"].insert_one(document)
        await proxim8.until(lambda: bool(proxim8.said("quarantined", key=str(orphan))), "it is given up")
        async with asyncio.timeout(DEADLINE):
            while not (before := await rows.distinct("position._data")):
                await asyncio.sleep(0.05)
        await proxim8.account()
        async with asyncio.timeout(DEADLINE):
            while await rows.distinct("position._data") == before:
                await asyncio.sleep(0.05)
        assert not proxim8.proxy.replicator.backlog("profile")
        await proxim8.until(
            lambda: proxim8.count("strangler_quarantine", side="legacy", entity="profile") == 1, "it is counted"
        )
        account = {"_id": parent, "walletAddress": fresh(), "createdAt": now, "updatedAt": now}
        await proxim8.legacy["accounts"].insert_one(account)
        ago = {"$set": {"at": now - LONG_AGO}}
        await proxim8.legacy["strangler_quarantine"].update_one({"_id": {"e": "profile", "k": str(orphan)}}, ago)
        await proxim8.until(lambda: bool(proxim8.said("quarantine_left", key=str(orphan))), "it has settled")
        assert await proxim8.on_prisma("profile", str(orphan)) is not None
        await proxim8.until(
            lambda: proxim8.count("strangler_quarantine", side="legacy", entity="profile") == 0, "none is counted"
        )
