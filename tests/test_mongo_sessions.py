"""The sessions that settles run in: known before they are used, ended when they are left, never more than a few."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorClientSession
from pymongo.errors import OperationFailure

from adapters.mongo import settle as mongo_settle
from adapters.mongo.sessions import MOST
from adapters.mongo.store import MongoStore
from adapters.side import Replica, SideError, Stale, Unavailable
from tests.mongo_case import (
    LOOKS,
    Database,
    account,
    another_program,
    collections,
    connected,
    failing,
    operations,
    until,
    until_operation,
)


@pytest.fixture
async def store(mongo_database: str) -> AsyncIterator[MongoStore]:
    async with connected(mongo_database, replica="one") as store:
        yield store


@pytest.fixture
async def raw(mongo_database: str) -> AsyncIterator[Database]:
    async with another_program(mongo_database) as database:
        yield database


async def recorded(raw: Database, id: str = "one") -> set[Any]:
    row = await raw.strangler_replicas.find_one({"_id": id})
    return {session["id"] for session in (row or {}).get("sessions", ())}


async def left(raw: Database) -> list[Any]:
    """The sessions of the transactions that are open on the server."""
    return [operation["lsid"]["id"] for operation in await operations(raw, transaction={"$exists": True})]


class Pause:
    """The first settle stands still before its commit, as a process that is stopped there: from `reached` until `over`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.over = asyncio.Event(), asyncio.Event()
        self._commit = mongo_settle._commit
        monkeypatch.setattr(mongo_settle, "_commit", self.commit)

    async def commit(self, session: AsyncIOMotorClientSession) -> None:
        self.reached.set()
        await self.over.wait()
        await self._commit(session)


async def apply(store: MongoStore, token: int, key: str) -> None:
    applied = await store.apply("account", 1, token, {key: account(f"0x{token}", key)})
    assert applied.written == {key}


async def test_a_session_is_recorded_before_it_is_used(store: MongoStore, raw: Database, mongo_url: str) -> None:
    assert await recorded(raw) == set()
    async with failing(mongo_url, "hangDuringBatchInsert", {"nss": f"{raw.name}.accounts"}):
        settling = asyncio.create_task(apply(store, 1, str(ObjectId())))
        operation = await until_operation(raw, transaction={"$exists": True}, op="insert")
        assert operation["lsid"]["id"] in await recorded(raw)
    await settling


async def test_a_settle_without_its_record_does_not_begin(store: MongoStore, raw: Database, mongo_url: str) -> None:
    data = {"failCommands": ["update"], "errorCode": 13, "namespace": f"{raw.name}.strangler_replicas"}
    key = str(ObjectId())
    async with failing(mongo_url, "failCommand", data):
        for _ in range(3):
            with pytest.raises(Unavailable):
                await apply(store, 1, key)
    assert await raw.strangler_fences.count_documents({"_id.k": key}) == 0
    await apply(store, 1, key)


async def test_a_few_sessions_are_enough(store: MongoStore, raw: Database) -> None:
    for token in range(20):
        await apply(store, token, str(ObjectId()))
    few = await recorded(raw)
    assert 0 < len(few) <= MOST / 2
    await asyncio.gather(*(apply(store, token, str(ObjectId())) for token in range(60)))
    assert few <= await recorded(raw)
    assert len(await recorded(raw)) <= MOST
    assert await raw.accounts.count_documents({}) == 80


@asynccontextmanager
async def killed(raw: Database, id: str, key: str) -> AsyncIterator[Any]:
    """What a process of that name leaves that is killed in a settle: its record, and an open transaction, with the locks of
    an account's key and of the notifications' term."""
    async with raw.client.start_session() as session:
        await raw.strangler_replicas.update_one(
            {"_id": id}, {"$set": {"sessions": [session.session_id]}, "$currentDate": {"at": True}}, upsert=True
        )
        await session.start_transaction()
        fence = {"_id": {"e": "account", "k": key}}
        await raw.strangler_fences.update_one(fence, {"$set": {"token": 1}}, upsert=True, session=session)
        slots = {"_id.e": "notification", "_id.s": {"$gte": 0}}
        await raw.strangler_fences.update_many(slots, {"$inc": {"settles": 1}}, session=session)
        yield session


async def test_to_forget_a_killed_replica_frees_its_keys(store: MongoStore, raw: Database) -> None:
    key = str(ObjectId())
    await store.state.beat(Replica("dead", {"account": 3}))
    async with killed(raw, "dead", key) as session:
        assert await left(raw) == [session.session_id["id"]]
        settling = asyncio.create_task(apply(store, 2, key))
        turning = asyncio.create_task(store.turn("notification", 2))
        await until_operation(raw, ns=f"{raw.name}.strangler_fences", writeConflicts={"$gt": 0})
        await until(lambda: store.retries > 0)
        assert not settling.done()
        assert not turning.done()
        await store.state.forget_replica("dead")
        await asyncio.gather(settling, turning)
        with pytest.raises(OperationFailure):
            await session.commit_transaction()
    assert [replica.id for replica in await store.state.replicas()] == ["one"]


async def test_a_process_ends_what_its_namesake_left(mongo_database: str, raw: Database) -> None:
    """One that is killed and comes back under its name, before anybody has missed it."""
    key = str(ObjectId())
    async with killed(raw, "one", key) as session:
        store = MongoStore(mongo_database, collections(), replica="other")
        await store.connect()
        await store.disconnect()
        assert await left(raw) == [session.session_id["id"]]
        async with connected(mongo_database, replica="one") as again:
            assert await left(raw) == []
            assert await recorded(raw) == set()
            await apply(again, 2, key)
            assert again.retries == 0


async def test_a_replica_whose_sessions_cannot_be_ended_is_not_forgotten(
    store: MongoStore, raw: Database, mongo_url: str
) -> None:
    async with killed(raw, "dead", str(ObjectId())):
        async with failing(mongo_url, "failCommand", {"failCommands": ["killSessions"], "errorCode": 13}):
            with pytest.raises(SideError):
                await store.state.forget_replica("dead")
        assert [replica.id for replica in await store.state.replicas()] == ["dead"]
        await store.state.forget_replica("dead")
    assert await left(raw) == []


async def test_a_beat_keeps_the_record_and_brings_it_back(
    mongo_database: str, store: MongoStore, raw: Database
) -> None:
    await apply(store, 1, str(ObjectId()))
    before = await recorded(raw)
    await store.state.beat(Replica("one", {}))
    assert await recorded(raw) == before
    async with connected(mongo_database) as other:
        # A command tells what another replica does; it knows nothing of its sessions.
        await other.state.beat(Replica("one", {}))
        assert await recorded(raw) == before
        # Somebody took it for dead, while it was only paused.
        await other.state.forget_replica("one")
    assert await recorded(raw) == set()
    await store.state.beat(Replica("one", {}))
    assert await recorded(raw) == before
    await apply(store, 2, str(ObjectId()))


async def test_a_replica_that_was_taken_for_dead_in_a_settle_begins_it_again(
    mongo_database: str, store: MongoStore, raw: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause = Pause(monkeypatch)
    settling = asyncio.create_task(apply(store, 1, str(ObjectId())))
    await pause.reached.wait()
    assert len(await left(raw)) == 1
    async with connected(mongo_database) as other:
        await other.state.forget_replica("one")
    assert await left(raw) == []
    pause.over.set()
    await settling
    assert store.retries == 1


async def test_a_replica_that_was_taken_for_dead_is_refused_after_a_turn(
    mongo_database: str, store: MongoStore, raw: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a flip does that finds a replica silent: without the end of its transaction the turn would have to wait."""
    pause = Pause(monkeypatch)
    settling = asyncio.create_task(apply(store, 1, str(ObjectId())))
    await pause.reached.wait()
    async with connected(mongo_database) as other:
        await other.state.forget_replica("one")
        await other.turn("account", 2)
    pause.over.set()
    with pytest.raises(Stale):
        await settling
    assert await raw.accounts.count_documents({}) == 0


async def test_a_replica_that_says_goodbye_finishes_what_it_has_under_way(
    store: MongoStore, raw: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause = Pause(monkeypatch)
    settling = asyncio.create_task(apply(store, 1, str(ObjectId())))
    await pause.reached.wait()
    await store.state.forget_replica("one")
    assert await store.state.replicas() == []
    assert len(await left(raw)) == 1
    pause.over.set()
    await settling
    assert store.retries == 0


async def test_a_command_is_no_replica_and_leaves_nothing(mongo_database: str, raw: Database) -> None:
    async with connected(mongo_database) as command:
        await apply(command, 1, str(ObjectId()))
        [row] = await raw.strangler_replicas.find().to_list()
        assert row["sessions"]
        assert await command.state.replicas() == []
        # Where it is killed the server forgets it some time.
        indexes = await raw.strangler_replicas.index_information()
        assert row["until"]
        assert any(
            index.get("expireAfterSeconds") == 0 and index["key"] == [("until", 1)] for index in indexes.values()
        )
    assert await raw.strangler_replicas.count_documents({}) == 0


async def test_what_a_server_that_hung_keeps_open_ends_before_the_next_settle(
    mongo_database: str, raw: Database, mongo_url: str
) -> None:
    key = str(ObjectId())
    async with connected(mongo_database), connected(mongo_database, replica="one", write=0.5) as store:
        await apply(store, 1, str(ObjectId()))
        data = {"failCommands": ["commitTransaction", "killSessions"], "closeConnection": True}
        async with failing(mongo_url, "failCommand", data):
            with pytest.raises(Unavailable):
                await apply(store, 2, key)
            [open_session] = await left(raw)
        assert open_session in await recorded(raw)
        await apply(store, 3, key)
        assert store.retries == 0
        assert await left(raw) == []


async def test_a_session_is_given_up_when_nothing_can_come_after_it(
    mongo_database: str, raw: Database, mongo_url: str
) -> None:
    async with connected(mongo_database), connected(mongo_database, replica="one", write=0.5) as store:
        await apply(store, 1, str(ObjectId()))
        data = {"failCommands": ["commitTransaction"], "closeConnection": True}
        async with failing(mongo_url, "failCommand", data):
            with pytest.raises(Unavailable):
                await apply(store, 2, str(ObjectId()))
        before = await recorded(raw)
        for token in range(3, LOOKS):
            await apply(store, token, str(ObjectId()))
            await store.state.beat(Replica("one", {}))
            if not before <= await recorded(raw):
                break
        assert len(before - await recorded(raw)) == 1


async def test_what_is_cancelled_leaves_nothing_open(
    store: MongoStore, raw: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = str(ObjectId())
    await raw.create_collection("accounts")
    pause = Pause(monkeypatch)
    settling = asyncio.create_task(apply(store, 1, key))
    await pause.reached.wait()
    [session] = await left(raw)
    settling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await settling
    assert await left(raw) == []
    pause.over.set()
    # A thread of the driver may still be at it: it is not used again.
    await asyncio.gather(*(apply(store, token, str(ObjectId())) for token in range(MOST)))
    assert store.retries == 0
    fences = await raw.strangler_fences.count_documents({"_id.k": key})
    assert (fences, session in await recorded(raw)) == (0, True)


async def test_a_server_that_accepts_and_says_nothing_is_away_soon() -> None:
    """What bounds connecting is its own deadline, not that of a write."""

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        finally:
            writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    store = MongoStore(f"mongodb://127.0.0.1:{port}/hole", collections(), connect=0.3, read=3600, write=3600)
    async with server, asyncio.timeout(60):
        with pytest.raises(Unavailable):
            await store.connect()
        assert not await store.is_healthy()
        with pytest.raises(Unavailable):
            await store.apply("account", 1, 1, {str(ObjectId()): None})
        await store.disconnect()
