"""A MongoDB without change streams: marks are the record of what the old servers write for clients."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from bson import ObjectId

from config.model import Stage
from examples.processes import temporary_folder
from examples.servers import standalone_mongod
from tests.proxy_case import CONFIG, DEADLINE, Running, databases, fresh, running
from tests.subjects import ACCOUNT, NFT, NOTIFICATION, PROFILE, SUBJECTS, VIDEO, Subject

LIMITS = "\nlimits: { write: 1500ms }\n"
"""A mark is swept once it is older than a write may take, and five seconds."""
NO_MARKS = {"legacy": 0, "prisma": 0}


@pytest.fixture(scope="module")
async def stand(postgres_url: str, migrated_template: str) -> AsyncIterator[Running]:
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        server = await stack.enter_async_context(standalone_mongod(folder))
        stores = await stack.enter_async_context(databases(server.url, postgres_url, migrated_template))
        config = folder / "proxim8.yaml"
        config.write_text(CONFIG.read_text() + LIMITS)
        proxim8 = await stack.enter_async_context(running(folder, stores, config=config))
        await proxim8.move(Stage.SHADOW)
        yield proxim8


async def quiet(proxim8: Running) -> None:
    """As where there is a stream, which here nobody hears."""
    async with asyncio.timeout(DEADLINE):
        await proxim8.proxy.writes.finished()
        await proxim8.proxy.replicator.drained()
        await proxim8.proxy.comparing.finished()
        await proxim8.proxy.replicator.drained()


@pytest.fixture
async def proxim8(stand: Running) -> AsyncIterator[Running]:
    yield stand
    await quiet(stand)
    assert await stand.marks() == NO_MARKS


async def both(proxim8: Running, entity: str, key: str) -> dict[str, object] | None:
    await quiet(proxim8)
    held = await proxim8.on_legacy(entity, key)
    assert await proxim8.on_prisma(entity, key) == held
    return held


def test_it_is_said_that_nothing_is_followed(proxim8: Running) -> None:
    [said] = proxim8.said("change_stream_lost")
    assert (said["log_level"], said["keys_missed"]) == ("critical", False)
    assert "replica set" in said["advice"]
    follower = proxim8.proxy.follower
    assert follower.needs_mark(proxim8.proxy.flags.meaning("video"))
    assert not follower.records


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.entity)
async def test_what_an_old_server_writes_is_settled(proxim8: Running, subject: Subject) -> None:
    wallet, account = await proxim8.account()
    key = await proxim8.create(subject, wallet, account)
    assert await both(proxim8, subject.entity, key) is not None
    body, changed = subject.change(fresh())
    answer = await proxim8.ask("PATCH", subject.update.format(key), body, wallet=wallet)
    assert answer.status == 200, answer.body
    held = await both(proxim8, subject.entity, key)
    assert held is not None
    assert changed.items() <= held.items()
    assert (await proxim8.ask("DELETE", f"{subject.path}/{key}", wallet=wallet)).status == 200
    assert await both(proxim8, subject.entity, key) is None
    assert await proxim8.marks() == NO_MARKS


async def test_an_account_that_comes_to_be_beside_a_write_is_settled(proxim8: Running) -> None:
    wallet = f"0x{fresh()}"
    answer = await proxim8.ask("POST", VIDEO.create, VIDEO.make(fresh(), ""), wallet=wallet)
    assert answer.status == 201
    assert await both(proxim8, "video", answer.data["id"]) is not None
    account = await both(proxim8, "account", answer.data["accountId"])
    assert account is not None
    assert account["walletAddress"] == wallet


async def test_what_an_old_server_refuses_leaves_no_mark(proxim8: Running) -> None:
    wallet, account = await proxim8.account()
    given = VIDEO.make(fresh(), account)
    assert (await proxim8.ask("POST", VIDEO.create, given, wallet=wallet)).status == 201
    await quiet(proxim8)
    before = proxim8.count("strangler_settled_total")
    assert (await proxim8.ask("POST", VIDEO.create, given, wallet=wallet)).status == 409
    assert (await proxim8.ask("POST", VIDEO.create, {}, wallet=wallet)).status == 400
    assert (await proxim8.ask("PATCH", f"/api/videos/{ObjectId()}", {"title": "x"})).status == 404
    assert (await proxim8.ask("PATCH", "/api/videos/no-key", {"title": "x"})).status == 400
    assert (await proxim8.ask("DELETE", f"/api/accounts/{account}")).status == 409
    assert await proxim8.marks() == NO_MARKS
    await quiet(proxim8)
    assert proxim8.count("strangler_settled_total") == before


@pytest.mark.parametrize("named", [True, False], ids=["update", "create"])
async def test_the_mark_is_there_before_the_old_server_writes(proxim8: Running, named: bool) -> None:
    """The old server is stopped meanwhile."""
    wallet, account = await proxim8.account()
    key = await proxim8.create(VIDEO, wallet, account)
    await quiet(proxim8)
    method, path, body = (
        ("PATCH", f"/api/videos/{key}", {"title": "late"})
        if named
        else ("POST", VIDEO.create, VIDEO.make(fresh(), account))
    )
    proxim8.old["proxim8"].signal(signal.SIGSTOP)
    try:
        asked = asyncio.create_task(proxim8.ask(method, path, body, wallet=wallet))
        async with asyncio.timeout(DEADLINE):
            while (mark := await proxim8.legacy["strangler_marks"].find_one({"entity": "video"})) is None:
                await asyncio.sleep(0.01)
        assert mark["key"] == (key if named else None)
        assert not asked.done()
    finally:
        proxim8.old["proxim8"].signal(signal.SIGCONT)
    answer = await asked
    held = await both(proxim8, "video", answer.data["id"])
    assert held is not None
    assert held["title"] == ("late" if named else "first")


async def test_a_mark_stays_until_its_key_has_settled(proxim8: Running) -> None:
    key = await proxim8.create(PROFILE, *await proxim8.account())
    await quiet(proxim8)
    engine = proxim8.proxy.stores.engine
    lock = await engine.begin(timeout=60)
    await engine.query_raw('SELECT 1 AS one FROM "profiles" WHERE "_id" = $1 FOR UPDATE', key, tx=lock)
    assert (await proxim8.ask("PATCH", f"/api/profiles/{key}", {"bio": "marked"})).status == 200
    await proxim8.until(lambda: proxim8.proxy.replicator.pending("profile", key), "a settle that waits")
    assert await proxim8.marks("profile") == {"legacy": 1, "prisma": 0}
    await engine.rollback(lock)
    held = await both(proxim8, "profile", key)
    assert held is not None
    assert held["bio"] == "marked"


async def test_what_was_never_sent_leaves_no_mark(
    proxim8: Running, server_folder: Path, postgres_url: str, migrated_template: str
) -> None:
    """Nobody listens where the old server should be."""
    url = proxim8.environment["MONGO_URL"].rpartition("/")[0] + "/"
    unreachable = {"CORE_URL": "http://127.0.0.1:1", "PROXIM8_URL": "http://127.0.0.1:1"}
    async with (
        databases(url, postgres_url, migrated_template) as stores,
        running(server_folder, stores, settings=unreachable, events=proxim8.events) as lonely,
    ):
        await lonely.move(Stage.SHADOW)
        answer = await lonely.ask("PATCH", f"/api/accounts/{ObjectId()}", {"walletAddress": "0x1"})
        assert (answer.status, answer.body["reason"]) == (502, "upstream_unreachable")
        assert await lonely.marks() == NO_MARKS


async def test_reads_are_compared(proxim8: Running) -> None:
    """What is under way is known from the marks: the difference is lag until they are gone, and then a mismatch."""
    key = await proxim8.create(NFT, *await proxim8.account())
    await quiet(proxim8)
    before = proxim8.compared("nft_ownership", do="read")
    assert (await proxim8.ask("GET", f"/api/nfts/{key}")).status == 200
    await quiet(proxim8)
    assert proxim8.compared("nft_ownership", do="read") == {**before, "equal": before.get("equal", 0) + 1}
    await proxim8.change_row("nft_ownership", key, tokenId="planted")
    assert (await proxim8.ask("GET", f"/api/nfts/{key}")).status == 200
    await quiet(proxim8)
    [said] = proxim8.said("mismatch", key=key)
    assert said["changes"] == ["value tokenId"]
    await proxim8.ask("PATCH", f"/api/nfts/{key}", {"tokenId": "healed"})


async def test_prisma_serves_what_has_settled(proxim8: Running) -> None:
    await proxim8.tune("account", serve=100)
    try:
        for _ in range(5):
            given = {"walletAddress": f"0x{fresh()}"}
            made = await proxim8.ask("POST", ACCOUNT.create, given)
            key = made.data["_id"]
            assert (await proxim8.ask("GET", f"/api/accounts/{key}")).data["walletAddress"] == given["walletAddress"]
        async with asyncio.timeout(DEADLINE):
            while (await proxim8.ask("GET", f"/api/accounts/{key}")).forwarded:
                await asyncio.sleep(0.01)
    finally:
        await proxim8.tune("account", serve=0)


async def test_what_nobody_names_is_found_by_the_sweep(proxim8: Running) -> None:
    """One request changes many documents, and neither it nor its answer says which."""
    wallet, account = await proxim8.account()
    keys = [await proxim8.create(NOTIFICATION, wallet, account) for _ in range(3)]
    await quiet(proxim8)
    answer = await proxim8.ask("POST", "/api/notifications/read-all", wallet=wallet)
    assert answer.data == {"modified": 3}
    assert await proxim8.marks("notification") == {"legacy": 1, "prisma": 0}
    async with asyncio.timeout(DEADLINE):
        while await proxim8.marks() != NO_MARKS:
            await asyncio.sleep(0.1)
    for key in keys:
        held = await both(proxim8, "notification", key)
        assert held is not None
        assert held["isRead"] is True


async def test_what_core_leaves_of_an_account_in_one_collection_is_found(proxim8: Running) -> None:
    """It renames and deletes in no common transaction: of the two at once the new name stays among its users. The
    renaming has not been answered, and its key is gone."""
    wallet, account = await proxim8.account()
    await quiet(proxim8)
    user = await proxim8.legacy["users"].find_one({"walletAddress": wallet})
    assert user is not None
    renamed = f"0x{fresh()}"
    proxim8.old["core"].signal(signal.SIGSTOP)
    try:
        asked = asyncio.create_task(proxim8.ask("PATCH", f"/api/accounts/{account}", {"walletAddress": renamed}))
        async with asyncio.timeout(DEADLINE):
            while (await proxim8.marks("account"))["legacy"] < 2:
                await asyncio.sleep(0.01)
        await proxim8.legacy["users"].update_one(
            {"_id": user["_id"]}, {"$set": {"walletAddress": renamed, "updatedAt": datetime.now(UTC)}}
        )
        await proxim8.legacy["accounts"].delete_one({"_id": ObjectId(account)})
        async with asyncio.timeout(DEADLINE):
            while await proxim8.marks() != NO_MARKS:
                await asyncio.sleep(0.05)
    finally:
        proxim8.old["core"].signal(signal.SIGCONT)
    assert (await asked).status == 404
    assert await proxim8.on_prisma("account", account) is None
    left = await proxim8.on_prisma("account", str(user["_id"]))
    assert left is not None
    assert left["walletAddress"] == renamed
