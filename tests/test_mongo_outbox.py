"""What the legacy side keeps for later: marks, the quarantine, and which documents a mark without a key stands for."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId

from adapters.mongo import scans as mongo_scans
from adapters.mongo.store import MongoStore
from adapters.side import Backlog
from tests.mongo_case import Database, another_program, connected, create


@pytest.fixture
async def store(mongo_database: str) -> AsyncIterator[MongoStore]:
    async with connected(mongo_database) as store:
        yield store


@pytest.fixture
async def raw(mongo_database: str) -> AsyncIterator[Database]:
    async with another_program(mongo_database) as database:
        yield database


async def server_time(raw: Database) -> datetime:
    async with await raw.aggregate([{"$documents": [{"now": "$$NOW"}]}]) as cursor:
        now: datetime = (await cursor.next())["now"]
    return now


# Marks


async def test_marks_with_and_without_keys(store: MongoStore) -> None:
    one, two = str(ObjectId()), str(ObjectId())
    ids = await store.mark("account", [one, None, two])
    marks = {mark.id: mark for mark in await store.marks("account", 10)}
    assert [marks[id].key for id in ids] == [one, None, two]
    assert len(marks) == 3
    assert all(0 <= mark.age < 60 for mark in marks.values())
    assert await store.mark("account", []) == []
    await store.unmark(ids[:2])
    assert [mark.id for mark in await store.marks("account", 10)] == ids[2:]


async def test_a_marks_time_is_the_servers(store: MongoStore, raw: Database) -> None:
    before = await server_time(raw)
    await store.mark("account", [None])
    await store.perform(create("0xa"), mark=True)
    after = await server_time(raw)
    marks = await store.marks("account", 10)
    assert len(marks) == 2
    assert all(before <= mark.at <= after for mark in marks)


async def test_only_marks_that_are_old_enough(store: MongoStore, raw: Database) -> None:
    [old] = await store.mark("account", [None])
    [young] = await store.mark("account", [None])
    await raw.strangler_marks.update_one({"_id": ObjectId(old)}, [{"$set": {"at": {"$subtract": ["$$NOW", 100_000]}}}])
    found = await store.marks("account", 10, older=50)
    assert [mark.id for mark in found] == [old]
    assert 100 <= found[0].age < 3600
    assert [mark.id for mark in await store.marks("account", 10)] == [old, young]
    assert [mark.id for mark in await store.marks("account", 1)] == [old]
    assert await store.marks("account", 10, older=10_000) == []


async def test_old_marks_are_found_without_looking_at_the_others(store: MongoStore, raw: Database) -> None:
    await store.mark("account", [None] * 500)
    await raw.command("profile", 2)
    assert await store.marks("account", 10, older=3600) == []
    await raw.command("profile", 0)
    looked = await raw["system.profile"].find_one({"command.aggregate": "strangler_marks"})
    assert looked is not None
    assert looked["keysExamined"] + looked["docsExamined"] < 10


async def test_the_outbox_by_entity(store: MongoStore, raw: Database) -> None:
    assert await store.outbox() == {}
    await store.mark("account", [None, None, None])
    [old] = await store.mark("notification", [None])
    await raw.strangler_marks.update_one({"_id": ObjectId(old)}, [{"$set": {"at": {"$subtract": ["$$NOW", 100_000]}}}])
    await store.mark("notification", [None])
    backlogs = await store.outbox()
    assert {entity: backlog.marks for entity, backlog in backlogs.items()} == {"account": 3, "notification": 2}
    assert 0 <= backlogs["account"].oldest < 60
    assert 100 <= backlogs["notification"].oldest < 3600
    assert backlogs.get("video", Backlog()) == Backlog(0, 0.0)


# Quarantine


async def test_quarantine_keeps_counts_and_lets_go(store: MongoStore, raw: Database) -> None:
    quarantine = store.quarantine
    assert (await quarantine.sizes(), await quarantine.refusals()) == ({}, [])
    await quarantine.put("account", {"k1": "$reason is text", "k2": "orphan"})
    await quarantine.put("notification", {"k1": "too deep"})
    await raw.strangler_quarantine.update_one(
        {"_id": {"e": "account", "k": "k2"}}, [{"$set": {"at": {"$subtract": ["$$NOW", 100_000]}}}]
    )
    assert await quarantine.sizes() == {"account": 2, "notification": 1}
    two, one = await quarantine.refusals("account")
    assert (two.entity, two.key, two.reason, two.tries) == ("account", "k2", "orphan", 1)
    assert 100 <= two.age < 3600
    assert (one.key, one.reason, one.tries) == ("k1", "$reason is text", 1)
    assert 0 <= one.age < 60
    await quarantine.put("account", {"k2": "still an orphan"})
    again = {refusal.key: refusal for refusal in await quarantine.refusals("account")}["k2"]
    assert (again.reason, again.tries, again.since) == ("still an orphan", 2, two.since)
    assert again.age < 60
    assert again.since.tzinfo is not None
    assert [refusal.key for refusal in await quarantine.refusals(limit=1)] == ["k1"]
    assert len(await quarantine.refusals()) == 3
    assert await quarantine.take("account", ["k1", "k2", "k3"]) == 2
    assert await quarantine.take("account", []) == 0
    await quarantine.put("account", {})
    assert await quarantine.sizes() == {"notification": 1}


async def test_quarantine_releases_for_the_refusal_that_was_seen(store: MongoStore) -> None:
    quarantine = store.quarantine
    await quarantine.put("account", {"k1": "why", "k2": "why"})
    seen = await quarantine.stamps("account", ["k1", "k2", "unknown"])
    assert seen.keys() == {"k1", "k2"}
    await quarantine.put("account", {"k2": "why"})
    assert await quarantine.release("account", {}) == 0
    assert await quarantine.release("account", seen) == 1
    assert [refusal.key for refusal in await quarantine.refusals("account")] == ["k2"]


# What has changed since


SINCE = datetime(2026, 3, 1, 12, 0, 0, 500_000, tzinfo=UTC)


def made(at: datetime, **fields: Any) -> dict[str, Any]:
    """A document whose ObjectId tells this time."""
    tail = ObjectId().binary[4:]
    return {"_id": ObjectId(ObjectId.from_datetime(at).binary[:4] + tail), "walletAddress": str(ObjectId()), **fields}


async def changed(store: MongoStore, **more: int) -> list[str]:
    return [key async for batch in store.changed_since("account", SINCE, **more) for key in batch]


async def test_changed_since_by_id_by_creation_and_by_change(store: MongoStore, raw: Database) -> None:
    old, new, year = SINCE - timedelta(days=1), SINCE + timedelta(days=1), SINCE - timedelta(days=365)
    untouched = [made(year), made(old, createdAt=old, updatedAt=old), made(old, createdAt=old, other=new)]
    touched = [
        made(new),
        made(year, updatedAt=new),
        made(year, updatedAt=SINCE),
        {**made(year, createdAt=new), "_id": "no ObjectId"},
        made(old, createdAt=old, updatedAt=new),
    ]
    await raw.accounts.insert_many([*untouched, *touched])
    found = await changed(store)
    assert sorted(found) == sorted(str(document["_id"]) for document in touched)


async def test_an_id_of_the_same_second_counts(store: MongoStore, raw: Database) -> None:
    same = made(SINCE)
    await raw.accounts.insert_one(same)
    assert await changed(store) == [str(same["_id"])]


async def test_changed_since_looks_at_all_window_by_window(
    store: MongoStore, raw: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo_scans, "_WINDOW", 7)
    assert await changed(store) == []
    old, new = SINCE - timedelta(days=1), SINCE + timedelta(days=1)
    documents = [made(old, updatedAt=new if n % 5 == 0 else old) for n in range(70)]
    await raw.accounts.insert_many(documents)
    expected = [str(document["_id"]) for document in documents if document["updatedAt"] == new]
    assert await changed(store) == sorted(expected)
    assert await changed(store, batch=1) == sorted(expected)
    await raw.accounts.update_many({}, {"$set": {"updatedAt": new}})
    batches = [batch async for batch in store.changed_since("account", SINCE, batch=5)]
    assert sorted(key for batch in batches for key in batch) == sorted(str(document["_id"]) for document in documents)
    assert max(map(len, batches)) == 5
