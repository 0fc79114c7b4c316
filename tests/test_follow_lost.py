"""Change streams that cannot go on: what may have been missed is repaired, what cannot be heard is marked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pymongo import AsyncMongoClient

from adapters.mongo.positions import Saved
from config.model import Stage
from examples.processes import temporary_folder
from examples.servers import mongod_server, with_database
from tests.proxy_case import DEADLINE, Databases, Running, databases, fresh, running
from tests.subjects import PROFILE, SUBJECTS, VIDEO

NO_MARKS = {"legacy": 0, "prisma": 0}


@asynccontextmanager
async def shadowing(folder: Path, stores: Databases) -> AsyncIterator[Running]:
    async with running(folder, stores, via="collection") as proxim8:
        await proxim8.move(Stage.SHADOW)
        yield proxim8


@pytest.fixture
async def proxim8(
    server_folder: Path, mongo_url: str, postgres_url: str, migrated_template: str
) -> AsyncIterator[Running]:
    async with (
        databases(mongo_url, postgres_url, migrated_template) as stores,
        shadowing(server_folder, stores) as proxim8,
    ):
        yield proxim8


async def saved(proxim8: Running) -> Saved:
    return await proxim8.proxy.stores.legacy.positions.load()


async def repaired(proxim8: Running) -> None:
    """Wait until the stream is followed again and nothing is left to repair."""
    async with asyncio.timeout(DEADLINE):
        while not (found := await saved(proxim8)).records or found.repair or not proxim8.proxy.follower.records:
            await asyncio.sleep(0.02)
    await proxim8.quiet()


async def assert_equal(proxim8: Running) -> None:
    """Both sides hold the same keys, and the same documents."""
    for subject in SUBJECTS:
        documents = await proxim8.legacy[subject.collection].find({}, {"_id": 1}).to_list(None)
        rows = await proxim8.sql(f'SELECT "_id" AS id FROM "{subject.collection}"')
        keys = {str(document["_id"]) for document in documents}
        assert {row["id"] for row in rows} == keys
        for key in keys:
            assert await proxim8.on_legacy(subject.entity, key) == await proxim8.on_prisma(subject.entity, key)


def profile(account: str, **fields: Any) -> dict[str, Any]:
    now = datetime.now(UTC).replace(microsecond=0)
    return {"_id": ObjectId(), "accountId": ObjectId(account), "createdAt": now, "updatedAt": now, **fields}


# Too old


async def test_what_fell_off_the_oplog_is_repaired(postgres_url: str, migrated_template: str) -> None:
    with temporary_folder() as folder:
        async with (
            mongod_server(folder, options={"--oplogSize": "1"}) as server,
            databases(server.url, postgres_url, migrated_template) as stores,
            shadowing(folder, stores) as proxim8,
        ):
            owner = await proxim8.account()
            changed, deleted, kept = [await proxim8.create(PROFILE, *owner) for _ in range(3)]
            await proxim8.quiet()
            await proxim8.until(lambda: bool(proxim8.said("settled")), "something has settled")
            follower = proxim8.proxy.follower
            await follower.stop()
            made = profile(owner[1], username=fresh(), bio="made while nobody followed")
            await proxim8.legacy["profiles"].insert_one(made)
            await proxim8.change_document("profile", changed, bio="changed while nobody followed")
            await proxim8.remove_document("profile", deleted)
            await roll_over(proxim8)

            await follower.start()
            await repaired(proxim8)
            await assert_equal(proxim8)
            assert await proxim8.on_prisma("profile", deleted) is None
            assert await proxim8.on_prisma("profile", kept) is not None
            row = await proxim8.on_prisma("profile", str(made["_id"]))
            assert row is not None
            assert row["bio"] == "made while nobody followed"
            [said] = proxim8.said("change_stream_lost")
            assert (said["log_level"], said["keys_missed"]) == ("critical", True)
            assert "ChangeStreamHistoryLost" in said["cause"]
            assert "oplog" in said["advice"]
            finished = {said["entity"]: said["keys"] for said in proxim8.said("repair_finished")}
            assert finished == {"account": 1, "profile": 4, "video": 0, "notification": 0, "nft_ownership": 0}
            assert proxim8.count("strangler_repaired_total", entity="profile") == 4
            # And it follows.
            await proxim8.change_document("profile", kept, bio="followed")
            await proxim8.quiet()
            await assert_equal(proxim8)


async def roll_over(proxim8: Running) -> None:
    """Write until the oldest entry of the oplog is younger than now."""
    now = (await proxim8.legacy.command("ping"))["operationTime"]
    oplog = proxim8.legacy.client["local"]["oplog.rs"]
    async with asyncio.timeout(60):
        while True:
            await proxim8.legacy["elsewhere"].insert_many([{"filling": "x" * 100_000} for _ in range(10)])
            oldest = await oplog.find().sort("$natural", 1).limit(1).to_list(None)
            if oldest[0]["ts"] > now:
                return


# Dropped


async def test_a_dropped_database_is_followed_again(proxim8: Running) -> None:
    """Where legacy is the truth, what was dropped is gone on both sides."""
    owner = await proxim8.account()
    for _ in range(3):
        await proxim8.create(PROFILE, *owner)
    await proxim8.quiet()
    await proxim8.legacy.client.drop_database(proxim8.legacy.name)
    await proxim8.until(lambda: bool(proxim8.said("change_stream_lost")), "it is lost")
    await repaired(proxim8)
    await assert_equal(proxim8)
    assert await proxim8.sql('SELECT "_id" FROM "profiles"') == []
    said = proxim8.said("change_stream_lost")[0]
    assert (said["keys_missed"], said["cause"].partition(":")[0]) == (True, "invalidated")
    await proxim8.create(VIDEO, *await proxim8.account())
    await proxim8.quiet()
    await assert_equal(proxim8)


async def test_a_database_dropped_at_live_is_filled_again(proxim8: Running) -> None:
    await proxim8.move(Stage.LIVE)
    owner = await proxim8.account()
    keys = [await proxim8.create(PROFILE, *owner) for _ in range(3)]
    await proxim8.quiet()
    await proxim8.legacy.client.drop_database(proxim8.legacy.name)
    await proxim8.until(lambda: bool(proxim8.said("change_stream_lost")), "it is lost")
    await repaired(proxim8)
    await assert_equal(proxim8)
    for key in keys:
        assert await proxim8.on_legacy("profile", key) is not None
    await proxim8.ask("PATCH", f"/api/profiles/{keys[0]}", {"bio": "after"})
    await proxim8.quiet()
    await assert_equal(proxim8)


@pytest.mark.parametrize("stage", [Stage.SHADOW, Stage.LIVE], ids=str)
async def test_a_dropped_collection_is_repaired(proxim8: Running, stage: Stage) -> None:
    await proxim8.move(stage)
    owner = await proxim8.account()
    keys = [await proxim8.create(PROFILE, *owner) for _ in range(2)]
    await proxim8.quiet()
    await proxim8.legacy["profiles"].drop()
    await proxim8.until(lambda: bool(proxim8.said("repair_finished", entity="profile")), "it is repaired")
    await repaired(proxim8)
    await assert_equal(proxim8)
    assert (await proxim8.on_prisma("profile", keys[0]) is None) == (stage == Stage.SHADOW)
    [said] = proxim8.said("collection_changed")
    assert (said["log_level"], said["entity"], said["kind"]) == ("critical", "profile", "drop")


# Repairs


async def test_a_repair_that_was_cut_short_is_gone_on_with(proxim8: Running) -> None:
    """The next follower finds it beside the position."""
    owner = await proxim8.account()
    key = await proxim8.create(PROFILE, *owner)
    await proxim8.quiet()
    follower = proxim8.proxy.follower
    await follower.stop()
    await proxim8.change_row("profile", key, bio="missed")
    assert await proxim8.proxy.stores.legacy.positions.damaged(follower.replica, "profile")
    await follower.start()
    await repaired(proxim8)
    await assert_equal(proxim8)
    assert [said["keys"] for said in proxim8.said("repair_finished")] == [1]


async def test_an_entity_under_repair_is_not_settled(proxim8: Running) -> None:
    """No flip may believe it: whoever asks is told that there is something left."""
    owner = await proxim8.account()
    key = await proxim8.create(PROFILE, *owner)
    await proxim8.quiet()
    follower = proxim8.proxy.follower
    await follower.stop()
    assert await proxim8.proxy.stores.legacy.positions.damaged(follower.replica, "profile")
    engine = proxim8.proxy.stores.engine
    lock = await engine.begin(timeout=60)
    await engine.query_raw('SELECT 1 AS one FROM "profiles" WHERE "_id" = $1 FOR UPDATE', key, tx=lock)
    await follower.start()
    async with asyncio.timeout(DEADLINE):
        answer = await follower.heard(["account", "profile"])
        assert answer.backlog["account"] == 0
        assert answer.backlog["profile"] >= 1
        assert (await saved(proxim8)).repair == ("profile",)
        await engine.rollback(lock)
        while (await follower.heard(["profile"])).backlog["profile"]:
            pass
    await repaired(proxim8)


# Not allowed


NEEDED = [
    *("find", "insert", "update", "remove"),
    *("createCollection", "createIndex", "dropCollection", "listCollections", "listIndexes", "collMod"),
]


async def test_without_the_right_to_follow_writes_are_marked(postgres_url: str, migrated_template: str) -> None:
    """A user who may do everything else, and is granted the rest later."""
    with temporary_folder() as folder:
        key_file = folder / "key"
        key_file.write_text("k" * 32)
        key_file.chmod(0o600)
        async with (
            mongod_server(folder, options={"--keyFile": str(key_file)}) as server,
            AsyncMongoClient[dict[str, Any]](server.url) as local,
        ):
            await local.admin.command("createUser", "root", pwd="root", roles=["root"])
            root_url = server.url.replace("//", "//root:root@")
            async with AsyncMongoClient[dict[str, Any]](root_url) as root:
                name = f"test_{fresh()}"
                anything = {"db": name, "collection": ""}
                privileges = [
                    {"resource": anything, "actions": NEEDED},
                    {"resource": {"cluster": True}, "actions": ["killAnySession"]},
                ]
                await root.admin.command("createRole", "proxy", privileges=privileges, roles=[])
                await root.admin.command("createUser", "proxy", pwd="proxy", roles=["proxy"])
                url = with_database(server.url.replace("//", "//proxy:proxy@"), name) + "?authSource=admin"
                async with databases(root_url, postgres_url, migrated_template) as stores:
                    await assert_marked_until_granted(folder, Databases(url, stores.database_url), root, name)


async def assert_marked_until_granted(
    folder: Path, stores: Databases, root: AsyncMongoClient[dict[str, Any]], name: str
) -> None:
    async with running(folder, stores, via="collection") as proxim8:
        follower, flags = proxim8.proxy.follower, proxim8.proxy.flags
        [said] = proxim8.said("change_stream_lost")
        assert (said["log_level"], said["keys_missed"]) == ("critical", False)
        assert "Unauthorized" in said["cause"]
        assert "grant" in said["advice"]
        await proxim8.move(Stage.SHADOW)
        assert follower.needs_mark(flags.meaning("account"))
        owner = await proxim8.account()
        key = await proxim8.create(VIDEO, *owner)
        async with asyncio.timeout(DEADLINE):
            await proxim8.proxy.replicator.drained()
        await assert_equal(proxim8)
        assert await proxim8.marks() == NO_MARKS
        assert (await saved(proxim8)).lost == "unauthorised"

        read = {"role": "read", "db": name}
        await root.admin.command("grantRolesToUser", "proxy", roles=[read])
        await repaired(proxim8)
        assert not follower.needs_mark(flags.meaning("account"))
        await root[name]["videos"].update_one({"_id": ObjectId(key)}, {"$set": {"title": "followed"}})
        await proxim8.quiet()
        await assert_equal(proxim8)

        # Taken away again while it follows: the other replicas learn of it, too.
        await root.admin.command("revokeRolesFromUser", "proxy", roles=[read])
        await proxim8.until(lambda: follower.needs_mark(flags.meaning("account")), "writes need marks again")
        async with asyncio.timeout(DEADLINE):
            while (await saved(proxim8)).lost != "unauthorised":
                await asyncio.sleep(0.02)
