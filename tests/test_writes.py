"""Writes: what reaches the other side besides the document that was asked for, in what order, and what a write that
fails leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from bson import ObjectId

from config.model import Stage
from tests.proxy_case import DEADLINE, Running, fresh, standing
from tests.subjects import ACCOUNT, NFT, NOTIFICATION, PROFILE, VIDEO

NO_MARKS = {"legacy": 0, "prisma": 0}


@pytest.fixture(scope="module")
async def stand(
    server_folder: Path, mongo_url: str, postgres_url: str, migrated_template: str
) -> AsyncIterator[Running]:
    async with standing(server_folder, mongo_url, postgres_url, migrated_template) as proxim8:
        yield proxim8


@pytest.fixture(scope="module", params=[Stage.DUALWRITE, Stage.SHADOW], ids=str)
async def following(request: pytest.FixtureRequest, stand: Running) -> Running:
    """Where legacy is the primary and prisma follows."""
    await stand.move(request.param)
    return stand


@pytest.fixture
async def live(stand: Running) -> Running:
    """Where prisma is."""
    await stand.move(Stage.LIVE)
    return stand


async def both(proxim8: Running, entity: str, key: str) -> dict[str, object] | None:
    """What both sides hold, once it is quiet."""
    await proxim8.quiet()
    held = await proxim8.on_legacy(entity, key)
    assert await proxim8.on_prisma(entity, key) == held
    return held


# What the old servers do besides


async def test_many_documents_changed_by_one_request_follow(following: Running) -> None:
    wallet, account = await following.account()
    keys = [await following.create(NOTIFICATION, wallet, account) for _ in range(3)]
    answer = await following.ask("POST", "/api/notifications/read-all", wallet=wallet)
    assert answer.data == {"modified": 3}
    for key in keys:
        held = await both(following, "notification", key)
        assert held is not None
        assert held["isRead"] is True


async def test_what_a_job_does_later_follows(following: Running) -> None:
    """The job changes its video twice and makes a notification, by requests of its own, through the proxy."""
    await assert_generated(following)


async def test_a_job_goes_on_at_live(live: Running) -> None:
    await assert_generated(live)


async def assert_generated(proxim8: Running) -> None:
    wallet, account = await proxim8.account()
    answer = await proxim8.ask("POST", "/api/videos/generate", {"nftId": "nft-9", "title": "made"}, wallet=wallet)
    assert (answer.status, answer.data["status"], answer.data["account"]) == (
        200,
        "PENDING",
        {"walletAddress": wallet},
    )
    key = answer.data["id"]
    async with asyncio.timeout(DEADLINE):
        while not (notes := (await proxim8.ask("GET", "/api/notifications", wallet=wallet)).data):
            await asyncio.sleep(0.02)
    held = await both(proxim8, "video", key)
    assert held is not None
    assert held["status"] in ("COMPLETED", "FAILED")
    [note] = notes
    held = await both(proxim8, "notification", note["id"])
    assert held is not None
    assert (held["accountId"], held["data"]) == (account, note["data"])


async def test_a_wallet_that_calls_for_the_first_time_follows(following: Running) -> None:
    wallet = f"0x{fresh()}"
    answer = await following.ask("POST", PROFILE.create, PROFILE.make(fresh(), ""), wallet=wallet)
    assert answer.status == 201
    account = await both(following, "account", answer.data["accountId"])
    assert account is not None
    assert account["walletAddress"] == wallet
    assert await both(following, "profile", answer.data["_id"]) is not None


# What passes the proxy by


async def test_writes_past_the_proxy_follow(following: Running) -> None:
    _, account = await following.account()
    key, now = ObjectId(), datetime.now(UTC).replace(microsecond=0)
    profiles = following.legacy["profiles"]
    document = {"_id": key, "accountId": ObjectId(account), "username": f"u-{key}", "createdAt": now, "updatedAt": now}
    await profiles.insert_one(document)
    held = await both(following, "profile", str(key))
    assert held is not None
    assert held["username"] == f"u-{key}"

    await profiles.update_one({"_id": key}, {"$set": {"bio": "by a script", "unknown": {"to": "prisma"}}})
    await following.quiet()
    row = await following.on_prisma("profile", str(key))
    assert row is not None
    assert row["bio"] == "by a script"

    await profiles.replace_one({"_id": key}, {**document, "avatar": "https://a.example/replaced"})
    held = await both(following, "profile", str(key))
    assert held is not None
    assert (held.get("bio"), held["avatar"]) == (None, "https://a.example/replaced")

    await profiles.delete_one({"_id": key})
    assert await both(following, "profile", str(key)) is None


async def test_a_transaction_past_the_proxy_follows_as_one(following: Running) -> None:
    wallet, account = f"0x{fresh()}", ObjectId()
    now = datetime.now(UTC).replace(microsecond=0)
    times = {"createdAt": now, "updatedAt": now}
    profiles = [ObjectId() for _ in range(3)]
    client = following.legacy.client
    async with client.start_session() as session, await session.start_transaction():
        # The children first: their parent is settled for them.
        for key in profiles:
            document = {"_id": key, "accountId": account, "username": f"u-{key}", **times}
            await following.legacy["profiles"].insert_one(document, session=session)
        await following.legacy["accounts"].insert_one(
            {"_id": account, "walletAddress": wallet, **times}, session=session
        )
    for key in profiles:
        assert await both(following, "profile", str(key)) is not None
    assert await both(following, "account", str(account)) is not None


# At live


async def test_what_prisma_does_not_know_survives_in_the_legacy_document(live: Running) -> None:
    key = await live.create(PROFILE, *await live.account())
    await live.quiet()
    await live.change_document("profile", key, unknown={"to": ["prisma"]}, __v=7)
    assert (await live.ask("PATCH", f"/api/profiles/{key}", {"bio": None, "avatar": "x"})).status == 200
    await live.quiet()
    found = await live.legacy["profiles"].find_one({"_id": ObjectId(key)})
    assert found is not None
    assert (found["unknown"], found["__v"], found["avatar"]) == ({"to": ["prisma"]}, 7, "x")
    assert "bio" not in found


async def test_legacy_documents_keep_their_types_at_live(live: Running) -> None:
    wallet, account = await live.account()
    key = await live.create(VIDEO, wallet, account)
    await live.quiet()
    found = await live.legacy["videos"].find_one({"_id": ObjectId(key)})
    assert found is not None
    assert found["accountId"] == ObjectId(account)
    assert isinstance(found["createdAt"], datetime)
    assert found["isPublic"] is True
    assert (await live.direct("proxim8", f"/api/videos/{key}")).data["id"] == key


async def test_an_account_in_use_is_kept_by_both(following: Running) -> None:
    await assert_kept(following)


async def test_an_account_in_use_is_kept_at_live(live: Running) -> None:
    await assert_kept(live)


async def assert_kept(proxim8: Running) -> None:
    _, account = owner = await proxim8.account()
    await proxim8.create(PROFILE, *owner)
    answer = await proxim8.ask("DELETE", f"/api/accounts/{account}")
    assert (answer.status, answer.body["success"]) == (409, False)
    assert "in use" in answer.body["error"]
    assert await both(proxim8, "account", account) is not None
    assert await proxim8.marks() == NO_MARKS


# Many at once


@pytest.mark.parametrize("stage", [Stage.SHADOW, Stage.LIVE], ids=str)
async def test_concurrent_writes_of_one_key_end_the_same_on_both_sides(stand: Running, stage: Stage) -> None:
    await stand.move(stage)
    key = await stand.create(VIDEO, *await stand.account())
    await stand.quiet()

    async def write(writer: int) -> None:
        for turn in range(8):
            answer = await stand.ask("PATCH", f"/api/videos/{key}", {"title": f"{writer} {turn}"})
            assert answer.status == 200

    await asyncio.gather(*(write(writer) for writer in range(6)))
    held = await both(stand, "video", key)
    assert held is not None
    assert str(held["title"]).endswith(" 7")
    assert await stand.marks() == NO_MARKS


@pytest.mark.parametrize("stage", [Stage.SHADOW, Stage.LIVE], ids=str)
async def test_creates_updates_and_deletes_side_by_side_end_the_same(stand: Running, stage: Stage) -> None:
    await stand.move(stage)
    wallet, account = await stand.account()

    async def live_through(number: int) -> str:
        key = await stand.create(VIDEO, wallet, account)
        assert (await stand.ask("PATCH", f"/api/videos/{key}", {"title": f"of {number}"})).status == 200
        if number % 3 == 0:
            assert (await stand.ask("DELETE", f"/api/videos/{key}")).status == 200
        return key

    keys = await asyncio.gather(*(live_through(number) for number in range(24)))
    for number, key in enumerate(keys):
        held = await both(stand, "video", key)
        assert (held is None) == (number % 3 == 0)
        assert held is None or held["title"] == f"of {number}"
    assert await stand.marks() == NO_MARKS


# Clients that leave


@pytest.mark.parametrize("stage", [Stage.SHADOW, Stage.LIVE], ids=str)
async def test_a_write_whose_client_leaves_is_finished_and_settled(stand: Running, stage: Stage) -> None:
    """The write waits for a lock on what it changes; its client does not."""
    await stand.move(stage)
    key = await stand.create(PROFILE, *await stand.account())
    await stand.quiet()
    gate = stand.proxy.gates["profile"]
    async with locked(stand, stage, key), aiohttp.ClientSession() as session:
        asked = asyncio.create_task(session.patch(f"{stand.url}/api/profiles/{key}", json={"bio": "left behind"}))
        await stand.until(lambda: gate.in_flight == 1, "a write that waits")
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        left = {"entity": "profile", "do": "update", "status": "499"}
        await stand.until(lambda: stand.count("strangler_requests_total", **left) > 0, "a client that left")
        assert gate.in_flight == 1
    await gate.drained()
    held = await both(stand, "profile", key)
    assert held is not None
    assert held["bio"] == "left behind"
    assert await stand.marks() == NO_MARKS
    assert stand.count("strangler_requests_total", status="500") == 0


@asynccontextmanager
async def locked(proxim8: Running, stage: Stage, key: str) -> AsyncIterator[None]:
    """Nobody else can write this profile on its primary until the block ends."""
    if stage == Stage.LIVE:
        engine = proxim8.proxy.stores.engine
        lock = await engine.begin()
        await engine.query_raw('SELECT 1 AS one FROM "profiles" WHERE "_id" = $1 FOR UPDATE', key, tx=lock)
        yield
        await engine.rollback(lock)
        return
    async with proxim8.legacy.client.start_session() as session:
        await session.start_transaction()
        await proxim8.legacy["profiles"].update_one({"_id": ObjectId(key)}, {"$set": {"lock": 1}}, session=session)
        yield
        await session.abort_transaction()


# A parent whose primary is the other side


async def test_a_parent_that_has_not_settled_yet_is_brought(stand: Running) -> None:
    """The account was acknowledged on legacy; what refers to it on prisma may come before its turn to settle."""
    await stand.move(Stage.LIVE)
    await stand.move(Stage.SHADOW, ["profile", "video", "nft_ownership", "account"])
    wallet, account = await stand.account()
    await stand.quiet()
    await stand.sql('DELETE FROM "accounts" WHERE "_id" = $1 RETURNING "_id"', account)
    key = await stand.create(NOTIFICATION, wallet, account)
    assert (await both(stand, "notification", key) or {})["accountId"] == account
    assert await stand.on_prisma("account", account) == await stand.on_legacy("account", account)


@pytest.mark.parametrize("nobody", ["0" * 24, "nobody"])
async def test_a_parent_that_nobody_has_is_refused_and_leaves_no_fence(stand: Running, nobody: str) -> None:
    await stand.move(Stage.LIVE)
    await stand.move(Stage.SHADOW, ["profile", "video", "nft_ownership", "account"])
    answer = await stand.ask("POST", NOTIFICATION.create, NOTIFICATION.make(fresh(), nobody))
    assert (answer.status, answer.body["field"]) == (400, "accountId")
    await stand.quiet()
    assert not await stand.sql('SELECT 1 AS one FROM "strangler_fence" WHERE "key" = $1', nobody)
    assert await stand.marks() == NO_MARKS


# Marks


async def test_a_failed_write_leaves_no_mark(live: Running) -> None:
    wallet, account = await live.account()
    given = VIDEO.make(fresh(), account)
    assert (await live.ask("POST", VIDEO.create, given, wallet=wallet)).status == 201
    await live.quiet()
    count = live.count("strangler_settled_total")
    assert (await live.ask("POST", VIDEO.create, given, wallet=wallet)).status == 409
    assert (await live.ask("POST", VIDEO.create, {**given, "jobId": 7}, wallet=wallet)).status == 400
    assert (await live.ask("POST", ACCOUNT.create, {"walletAddress": wallet})).status == 409
    assert await live.marks() == NO_MARKS
    await live.quiet()
    assert live.count("strangler_settled_total") == count


async def test_a_mark_stays_until_its_key_has_settled(live: Running) -> None:
    """The settle waits for a lock on the document; until it is gone the mark is there, and then it is not."""
    key = await live.create(NFT, *await live.account())
    await live.quiet()
    async with live.legacy.client.start_session() as session:
        await session.start_transaction()
        await live.legacy["nft_ownership"].update_one({"_id": ObjectId(key)}, {"$set": {"lock": 1}}, session=session)
        assert (await live.ask("PATCH", f"/api/nfts/{key}", {"tokenId": "marked"})).status == 200
        assert await live.marks("nft_ownership") == {"legacy": 0, "prisma": 1}
        await live.until(lambda: live.proxy.replicator.pending("nft_ownership", key), "a settle that waits")
        assert await live.marks("nft_ownership") == {"legacy": 0, "prisma": 1}
        await session.abort_transaction()
    held = await both(live, "nft_ownership", key)
    assert held is not None
    assert held["tokenId"] == "marked"
    assert await live.marks() == NO_MARKS
