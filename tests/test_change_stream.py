"""What changes in the legacy collections, as the change stream tells it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import ObjectId, Timestamp
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from adapters.documents.mapping import Mapper
from adapters.mongo.beacons import Answer
from adapters.mongo.change_stream import ChangeStream, StreamLost
from adapters.mongo.positions import Saved
from adapters.mongo.store import Collection, MongoStore
from adapters.mongo.stream_events import Beacon, Change, Position
from adapters.side import Document, Operation
from config.model import Entity
from config.schema import load_schema

Database = AsyncDatabase[dict[str, Any]]


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[MongoStore]:
    schema = load_schema()
    entities = {
        "account": Entity(collection="accounts", model="Account"),
        "profile": Entity(collection="profiles", model="Profile"),
    }
    collections = {
        name: Collection(entity.collection, Mapper(entity, schema.models[entity.model], schema))
        for name, entity in entities.items()
    }
    store = MongoStore(url, collections)
    try:
        await store.connect()
        yield store
    finally:
        await store.disconnect()


@asynccontextmanager
async def following(store: MongoStore, resume: Position | None = None) -> AsyncIterator[ChangeStream]:
    stream = store.changes(replica="replica-1", resume=resume)
    try:
        await stream.open()
        yield stream
    finally:
        await stream.close()


@pytest.fixture
async def store(mongo_database: str) -> AsyncIterator[MongoStore]:
    async with connected(mongo_database) as store:
        yield store


@pytest.fixture
async def raw(mongo_database: str) -> AsyncIterator[Database]:
    """The same database as another program writes to it."""
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongo_database)
    async with client:
        yield client.get_default_database()


async def take(stream: ChangeStream, count: int) -> list[Change]:
    async with asyncio.timeout(20):
        taken = [await anext(stream) for _ in range(count)]
    return [change for change in taken if isinstance(change, Change)]


class Taker:
    """A consumer that takes all there is, until the block ends."""

    def __init__(self, stream: ChangeStream) -> None:
        self.taken: list[Change] = []
        self.beacons: list[Beacon] = []
        self._stream = stream

    async def __aenter__(self) -> "Taker":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        async for heard in self._stream:
            if isinstance(heard, Change):
                self.taken.append(heard)
            else:
                self.beacons.append(heard)

    @property
    def keys(self) -> list[str | None]:
        return [change.key for change in self.taken]


async def insert(raw: Database, collection: str = "accounts") -> str:
    return str((await raw[collection].insert_one({"walletAddress": "0x"})).inserted_id)


async def test_every_kind_of_write_is_told_by_its_key(store: MongoStore, raw: Database) -> None:
    async with following(store) as stream:
        key = ObjectId()
        await raw.accounts.insert_one({"_id": key, "big": "x" * 1_000_000})
        await raw.accounts.update_one({"_id": key}, {"$set": {"a": 1}})
        await raw.accounts.replace_one({"_id": key}, {"b": 1})
        await raw.elsewhere.insert_one({})
        other = await insert(raw, "profiles")
        await raw.accounts.delete_one({"_id": key})
        changes = await take(stream, 5)
    told = [(change.entity, change.key, change.kind) for change in changes]
    assert told == [
        ("account", str(key), "insert"),
        ("account", str(key), "update"),
        ("account", str(key), "replace"),
        ("profile", other, "insert"),
        ("account", str(key), "delete"),
    ]
    clocks = [change.clock for change in changes]
    assert clocks == sorted(clocks)


async def test_nothing_between_opening_and_reading_is_missed(store: MongoStore, raw: Database) -> None:
    async with following(store) as stream:
        keys = [await insert(raw) for _ in range(3)]
        assert [change.key for change in await take(stream, 3)] == keys


async def test_drop_and_rename_are_told_without_a_key(store: MongoStore, raw: Database) -> None:
    async with following(store) as stream:
        await insert(raw, "profiles")
        await raw.profiles.drop()
        await insert(raw, "new_accounts")
        await raw.new_accounts.rename("accounts")
        await raw.accounts.rename("profiles")
        changes = await take(stream, 5)
    assert [(change.entity, change.kind) for change in changes] == [
        ("profile", "insert"),
        ("profile", "drop"),
        ("account", "rename"),
        ("account", "rename"),
        ("profile", "rename"),
    ]
    assert {change.key for change in changes[1:]} == {None}


async def test_an_id_that_is_no_key_is_told(store: MongoStore, raw: Database) -> None:
    async with following(store) as stream:
        await raw.accounts.insert_one({"_id": "words"})
        [change] = await take(stream, 1)
    assert (change.entity, change.key, change.kind) == ("account", None, "unreadable")


async def test_a_dropped_database_ends_the_stream(store: MongoStore, raw: Database) -> None:
    async with following(store) as stream:
        await insert(raw)
        await take(stream, 1)
        await raw.client.drop_database(raw.name)
        await take(stream, 1)  # the drop of the collection
        with pytest.raises(StreamLost):
            await take(stream, 10)
        with pytest.raises(StreamLost):
            await stream.barrier()


async def test_what_a_hold_has_seen_is_known_by_its_clock(store: MongoStore, raw: Database) -> None:
    async with following(store) as stream:
        before = await insert(raw)
        held = await store.hold("account", [before])
        after = await insert(raw)
        changes = await take(stream, 2)
    assert [(change.key, change.clock <= held.clock) for change in changes] == [(before, True), (after, False)]


# Positions


async def test_it_goes_on_after_a_position(store: MongoStore, raw: Database) -> None:
    async with following(store) as stream:
        first, second = await insert(raw), await insert(raw)
        one, two = await take(stream, 2)
        assert (one.key, two.key) == (first, second)
        assert stream.position == one.position
    third = await insert(raw)
    async with following(store, two.position) as stream:
        assert [change.key for change in await take(stream, 1)] == [third]
    async with following(store, one.position) as stream:
        assert [change.key for change in await take(stream, 2)] == [second, third]


async def test_waiting_may_be_cancelled(store: MongoStore, raw: Database) -> None:
    async with following(store) as stream:
        waiting = asyncio.ensure_future(anext(stream))
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
        waiting.cancel()
        await asyncio.wait([waiting])
        keys = [await insert(raw) for _ in range(3)]
        assert [change.key for change in await take(stream, 3)] == keys


@pytest.mark.parametrize(
    "failure",
    [
        {"closeConnection": True},
        {"errorCode": 234, "errorLabels": ["ResumableChangeStreamError"]},
        {"errorCode": 43, "errorLabels": ["ResumableChangeStreamError"]},
    ],
    ids=["connection", "server", "cursor"],
)
async def test_it_survives_what_passes(store: MongoStore, raw: Database, failure: dict[str, Any]) -> None:
    async with following(store) as stream:
        keys = [await insert(raw)]
        taken = await take(stream, 1)
        await fail(raw, ["getMore"], failure, times=2)
        keys += [await insert(raw) for _ in range(5)]
        taken += await take(stream, 5)
        assert [change.key for change in taken] == keys
        assert stream.reconnects > 0


async def test_a_position_that_fell_off_the_oplog_is_said(store: MongoStore, raw: Database) -> None:
    async with following(store) as stream:
        await insert(raw)
        [change] = await take(stream, 1)
    await fail(raw, ["aggregate"], {"errorCode": 286, "errorLabels": ["NonResumableChangeStreamError"]}, times=1)
    async with following(store, change.position) as stream:
        with pytest.raises(StreamLost, match="ChangeStreamHistoryLost"):
            await take(stream, 1)


async def fail(raw: Database, commands: list[str], failure: dict[str, Any], *, times: int) -> None:
    """A fail point of the server, for commands of the store only; it ends by itself."""
    data = {"failCommands": commands, "appName": "strangler", **failure}
    await raw.client.admin.command("configureFailPoint", "failCommand", mode={"times": times}, data=data)


# Barriers


async def test_a_barrier_comes_after_everything_before_it(store: MongoStore, raw: Database) -> None:
    async with following(store) as stream, Taker(stream) as taker, asyncio.timeout(20):
        keys: list[str | None] = []
        for _ in range(5):
            keys += [await insert(raw) for _ in range(4)]
            await stream.barrier()
            assert taker.keys == keys


async def test_a_barrier_waits_for_the_consumer(store: MongoStore, raw: Database) -> None:
    async with following(store) as stream, asyncio.timeout(20):
        await insert(raw)
        barrier = asyncio.create_task(stream.barrier())
        await anext(stream)
        assert not barrier.done()
        async with Taker(stream) as taker:
            await barrier
            assert taker.taken == []


async def test_barriers_at_once_share_beacons(store: MongoStore, raw: Database) -> None:
    async with following(store) as stream, Taker(stream), await raw.strangler_beacons.watch() as beacons:
        async with asyncio.timeout(20):
            await asyncio.gather(*(stream.barrier() for _ in range(100)))
            await raw.strangler_beacons.insert_one({"_id": "end"})
            written = 0
            while (await beacons.next())["documentKey"]["_id"] != "end":
                written += 1
    assert 1 <= written <= 2


async def test_each_of_many_barriers_holds_what_it_promises(store: MongoStore, raw: Database) -> None:
    async with following(store) as stream, Taker(stream) as taker, asyncio.timeout(30):

        async def write_and_wait() -> None:
            for _ in range(10):
                key = await insert(raw)
                await stream.barrier()
                assert key in taker.keys

        await asyncio.gather(*(write_and_wait() for _ in range(8)))


async def test_a_barrier_survives_a_lost_connection(store: MongoStore, raw: Database) -> None:
    async with following(store) as stream, Taker(stream) as taker, asyncio.timeout(20):
        await stream.barrier()
        key = await insert(raw)
        await fail(raw, ["getMore", "aggregate"], {"closeConnection": True}, times=3)
        await stream.barrier()
        assert taker.keys == [key]
        assert stream.reconnects > 0


async def test_barriers_of_two_replicas_are_their_own(store: MongoStore, mongo_database: str) -> None:
    other = store.changes(replica="replica-2")
    await other.open()
    async with following(store) as stream, Taker(stream), Taker(other) as taker, asyncio.timeout(20):
        await asyncio.gather(*(s.barrier() for s in (stream, other) for _ in range(3)))
        assert taker.taken == []
    await other.close()


async def test_closing_ends_the_waiting(store: MongoStore) -> None:
    async with following(store) as stream:
        barrier = asyncio.create_task(stream.barrier())
        await asyncio.sleep(0)
        await stream.close()
        with pytest.raises(StreamLost):
            await barrier


async def test_writes_of_the_store_are_told_as_well(store: MongoStore) -> None:
    async with following(store) as stream:
        outcome = await store.perform(Operation("account", "create", data={"walletAddress": "0xa"}), mark=True)
        assert [change.key for change in await take(stream, 1)] == list(outcome.keys)


# Settles of our own


async def settle(store: MongoStore, *keys: str) -> None:
    """As the proxy settles prisma's documents to legacy: all of these in one transaction."""
    now = datetime.now(UTC).replace(microsecond=0)
    held = await store.hold("account", keys)
    documents: dict[str, Document | None] = {
        key: {"id": key, "walletAddress": f"0x{held.token}-{key}", "createdAt": now, "updatedAt": now} for key in keys
    }
    await store.turn("account", 1)
    applied = await store.apply("account", 1, held.token, documents)
    assert applied.written == frozenset(keys)


async def test_settles_of_our_own_are_not_told(store: MongoStore, raw: Database) -> None:
    """Nor do they hide what others write to the same keys, in transactions or without."""
    async with following(store) as stream, Taker(stream) as taker, asyncio.timeout(20):
        keys = [str(ObjectId()) for _ in range(5)]
        await settle(store, *keys)
        await stream.barrier()
        assert taker.taken == []
        assert await raw.accounts.count_documents({}) == 5

        await raw.accounts.update_one({"_id": ObjectId(keys[0])}, {"$set": {"by": "a script"}})
        await settle(store, *keys)
        async with raw.client.start_session() as session, await session.start_transaction():
            for key in keys[1:3]:
                await raw.accounts.update_one({"_id": ObjectId(key)}, {"$set": {"by": "another"}}, session=session)
        await settle(store, *keys)
        await raw.accounts.delete_one({"_id": ObjectId(keys[3])})
        await stream.barrier()
        assert taker.keys == keys[:4]


async def test_what_others_write_in_a_transaction_with_a_fence_is_told(store: MongoStore, raw: Database) -> None:
    """The fence speaks for its own key only."""
    async with following(store) as stream, Taker(stream) as taker, asyncio.timeout(20):
        fenced, other = ObjectId(), ObjectId()
        async with raw.client.start_session() as session, await session.start_transaction():
            fence = {"_id": {"e": "account", "k": str(fenced)}, "token": 1}
            await raw.strangler_fences.insert_one(fence, session=session)
            for key in (fenced, other):
                await raw.accounts.insert_one({"_id": key, "walletAddress": f"0x{key}"}, session=session)
            await raw.profiles.insert_one({"_id": fenced}, session=session)
        await stream.barrier()
        assert [(change.entity, change.key) for change in taker.taken] == [
            ("account", str(other)),
            ("profile", str(fenced)),
        ]


async def test_no_position_is_inside_a_transaction(store: MongoStore, raw: Database) -> None:
    """Whoever goes on in the middle of a settle of our own would not know it for one."""
    async with following(store) as stream:
        before = await insert(raw)
        keys = [str(ObjectId()) for _ in range(3)]
        await settle(store, *keys)
        after = await insert(raw)
        [one, two] = await take(stream, 2)
        assert (one.key, two.key) == (before, after)
        # The events of the settle have been passed, and the last one has not been asked past.
        position = stream.position
        assert position is not None
        assert position not in (one.position, two.position)
    async with following(store, position) as stream:
        assert [change.key for change in await take(stream, 1)] == [after]

    await raw.elsewhere.insert_one({})  # the server's last time, from which the next stream starts
    async with following(store) as stream, raw.client.start_session() as session:
        async with await session.start_transaction():
            for key in keys:
                await raw.accounts.delete_one({"_id": ObjectId(key)}, session=session)
        begun = stream.position
        assert [change.key for change in await take(stream, 2)] == keys[:2]
        assert stream.position == begun


# Beacons of others


async def answered(store: MongoStore, stream: ChangeStream, changes: int, backlog: int = 0) -> Beacon:
    """Take up to the next beacon, and answer it."""
    async with asyncio.timeout(20):
        while not isinstance(heard := await anext(stream), Beacon):
            pass
    told = Answer("replica-1", dict.fromkeys(heard.entities, changes), dict.fromkeys(heard.entities, backlog))
    await store.beacons.answer(heard, told)
    return heard


async def test_who_asks_is_answered_by_who_follows(store: MongoStore, mongo_database: str, raw: Database) -> None:
    async with connected(mongo_database) as other, following(store) as stream, asyncio.timeout(20):
        key = await insert(raw)
        asking = asyncio.create_task(other.beacons.ask("replica-2", ["profile", "account"]))
        [change] = await take(stream, 1)
        assert change.key == key
        beacon = await answered(store, stream, 7, 2)
        assert (beacon.asker, beacon.entities) == ("replica-2", ("account", "profile"))
        assert await asking == Answer("replica-1", {"account": 7, "profile": 7}, {"account": 2, "profile": 2})


async def test_nobody_is_answered_for_what_was_written_later(store: MongoStore, raw: Database) -> None:
    async with following(store) as stream, Taker(stream) as taker, asyncio.timeout(20):
        await insert(raw)
        asking = asyncio.create_task(store.beacons.ask("replica-2", ["account"]))
        while not taker.beacons:
            await asyncio.sleep(0.01)
        assert not asking.done()
        assert len(taker.taken) == 1
        asking.cancel()


async def test_a_beacon_is_written_again_for_who_follows_next(store: MongoStore) -> None:
    """The first one hears it and dies; the next one starts after it."""
    async with asyncio.timeout(20):
        async with following(store) as first:
            asking = asyncio.create_task(store.beacons.ask("replica-2", ["account"]))
            while not isinstance(heard := await anext(first), Beacon):
                pass
        async with following(store) as second:
            again = await answered(store, second, 1)
        assert again.id == heard.id
        assert (await asking).changes == {"account": 1}


async def test_calls_of_one_asker_share_beacons(store: MongoStore, raw: Database) -> None:
    async with following(store) as stream, asyncio.timeout(20):
        asking = [
            asyncio.create_task(store.beacons.ask("replica-2", [entity])) for entity in ("account", "profile") * 20
        ]
        beacons = [await answered(store, stream, 1)]
        while any(not task.done() for task in asking):
            if not await raw.strangler_beacons.count_documents({"_id": "replica-2", "beacon": {"$ne": beacons[-1].id}}):
                await asyncio.sleep(0.01)
                continue
            beacons.append(await answered(store, stream, 1))
        assert len(beacons) <= 2
        assert all(task.result().follower == "replica-1" for task in asking)


async def test_who_gives_up_asks_no_more(store: MongoStore, raw: Database) -> None:
    asking = asyncio.create_task(store.beacons.ask("replica-2", ["account"]))
    async with asyncio.timeout(20):
        while (lit := await raw.strangler_beacons.find_one({"_id": "replica-2"})) is None:
            await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        # The next one to ask is not kept waiting by the one before.
        async with following(store) as stream:
            task = asyncio.create_task(store.beacons.ask("replica-2", ["profile"]))
            while (beacon := await answered(store, stream, 3)).id == lit["beacon"]:
                pass
            assert beacon.entities == ("profile",)
            assert (await task).changes == {"profile": 3}


# Positions that are kept


async def test_nobody_has_followed_yet(store: MongoStore) -> None:
    saved = await store.positions.load()
    assert (saved, saved.records) == (Saved(), False)


async def test_only_who_claimed_the_position_last_saves_it(store: MongoStore) -> None:
    one, two = {"at": Timestamp(1, 1)}, {"at": Timestamp(2, 1)}
    assert await store.positions.claim("replica-1") == Saved()
    assert await store.positions.save("replica-1", one)
    assert (await store.positions.load()).records
    assert await store.positions.claim("replica-2") == Saved(one)
    assert not await store.positions.save("replica-1", two)
    assert not await store.positions.repaired("replica-1", "account")
    assert not await store.positions.lose("replica-1", "unauthorised")
    assert await store.positions.load() == Saved(one)
    assert await store.positions.save("replica-2", two)
    assert await store.positions.load() == Saved(two)


async def test_what_is_lost_and_what_is_to_be_repaired_is_kept(store: MongoStore) -> None:
    at = {"at": Timestamp(1, 1)}
    await store.positions.claim("replica-1")
    assert await store.positions.save("replica-1", at)
    assert await store.positions.lose("replica-1", "unauthorised")
    saved = await store.positions.load()
    assert (saved, saved.records) == (Saved(at, (), "unauthorised"), False)
    assert await store.positions.restart("replica-1", at, ["profile", "account"])
    assert await store.positions.damaged("replica-1", "account")
    assert await store.positions.load() == Saved(at, ("account", "profile"))
    assert await store.positions.repaired("replica-1", "account")
    assert await store.positions.load() == Saved(at, ("profile",))
