"""The gate of every settle on Mongo: of a settle and a turn, one comes first and the other knows of it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from bson import ObjectId
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from adapters.mongo.store import MongoStore
from adapters.mongo.terms import SLOTS, gate
from adapters.side import Stale, Unavailable
from tests.mongo_case import (
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
    async with connected(mongo_database) as store:
        yield store


@pytest.fixture
async def raw(mongo_database: str) -> AsyncIterator[Database]:
    async with another_program(mongo_database) as database:
        yield database


async def terms(raw: Database, entity: str = "account") -> list[int]:
    return [row["term"] for row in await raw.strangler_fences.find({"_id.e": entity, "_id.s": {"$gte": 0}}).to_list()]


async def left(raw: Database) -> int:
    """Transactions that are open on the server."""
    return len(await operations(raw, transaction={"$exists": True}))


async def calls(raw: Database) -> dict[str, int]:
    """How many of these commands the server has been sent."""
    commands = (await raw.command("serverStatus"))["metrics"]["commands"]
    return {name: commands[name]["total"] for name in ("update", "find", "delete", "insert", "commitTransaction")}


async def test_a_settle_needs_the_very_term(store: MongoStore, raw: Database) -> None:
    document = account("0xa")
    await store.turn("account", 7)
    for term in (6, 8):
        with pytest.raises(Stale) as raised:
            await store.apply("account", term, 1, {document["id"]: document})
        assert raised.value.term == 7
    assert await raw.accounts.count_documents({}) == 0
    assert await raw.strangler_fences.count_documents({"_id.k": {"$exists": True}}) == 0
    assert await left(raw) == 0
    assert (await store.apply("account", 7, 1, {document["id"]: document})).written == {document["id"]}


async def test_before_the_first_turn_every_settle_is_stale(mongo_database: str) -> None:
    store = MongoStore(mongo_database, collections())
    for _ in range(2):
        with pytest.raises(Stale) as raised:
            await store.apply("account", 0, 1, {str(ObjectId()): None})
        assert raised.value.term == -1
    await store.disconnect()


async def test_a_turn_never_lowers_and_knows_one_entity(store: MongoStore, raw: Database) -> None:
    await store.turn("account", 5)
    await store.turn("account", 3)
    assert await terms(raw) == [5] * SLOTS
    assert await terms(raw, "notification") == [1] * SLOTS


async def test_many_turn_a_new_entity_at_once(mongo_database: str, raw: Database) -> None:
    stores = [MongoStore(mongo_database, collections()) for _ in range(6)]
    await asyncio.gather(*(store.turn("account", term) for term, store in enumerate(stores)))
    assert await terms(raw) == [5] * SLOTS
    for store in stores:
        await store.disconnect()


async def test_fences_of_before_there_were_terms_still_hold(store: MongoStore, raw: Database) -> None:
    old, new = account("0x1"), account("0x2")
    await raw.strangler_fences.insert_one({"_id": {"e": "account", "k": old["id"]}, "token": 9})
    applied = await store.apply("account", 1, 8, {old["id"]: old, new["id"]: new})
    assert applied.superseded == {old["id"]}
    assert applied.written == {new["id"]}


async def test_a_turn_waits_for_a_settle_that_is_past_the_gate(
    mongo_database: str, store: MongoStore, raw: Database, mongo_url: str
) -> None:
    """It stands between its reads and its commit, and nothing is lost of what it then commits."""
    document = account("0xa")
    async with connected(mongo_database) as other:
        async with failing(mongo_url, "hangDuringBatchInsert", {"nss": f"{raw.name}.accounts"}):
            settling = asyncio.create_task(store.apply("account", 1, 1, {document["id"]: document}))
            await until_operation(raw, transaction={"$exists": True}, op="insert")
            turning = asyncio.create_task(other.turn("account", 2))
            await until_operation(raw, ns=f"{raw.name}.strangler_fences", writeConflicts={"$gt": 0})
            assert not settling.done()
            assert not turning.done()
        await turning
        assert await raw.accounts.count_documents({}) == 1
        assert (await settling).written == {document["id"]}
        with pytest.raises(Stale):
            await store.apply("account", 1, 2, {document["id"]: None})
    assert await raw.accounts.count_documents({}) == 1


async def test_a_turn_that_cannot_wait_any_longer_says_so(
    mongo_database: str, store: MongoStore, raw: Database, mongo_url: str
) -> None:
    document = account("0xa")
    async with connected(mongo_database, write=0.3) as other:
        async with failing(mongo_url, "hangDuringBatchInsert", {"nss": f"{raw.name}.accounts"}):
            settling = asyncio.create_task(store.apply("account", 1, 1, {document["id"]: document}))
            await until_operation(raw, transaction={"$exists": True}, op="insert")
            with pytest.raises(Unavailable):
                await other.turn("account", 2)
        assert (await settling).written == {document["id"]}


async def test_a_settle_that_has_to_begin_again_after_a_turn_is_refused(
    mongo_database: str, store: MongoStore, raw: Database
) -> None:
    """It meets another's transaction on its key until the turn has come."""
    document = account("0xa")
    await store.apply("account", 1, 1, {document["id"]: document})
    async with raw.client.start_session() as session, connected(mongo_database) as other:
        await session.start_transaction()
        fence = {"_id": {"e": "account", "k": document["id"]}}
        await raw.strangler_fences.update_one(fence, {"$set": {"token": 2}}, session=session)
        late = asyncio.create_task(store.apply("account", 1, 3, {document["id"]: None}))
        await until(lambda: store.retries > 0)
        await other.turn("account", 2)
        await session.abort_transaction()
        with pytest.raises(Stale) as raised:
            await late
        assert raised.value.term == 2
    assert await raw.accounts.count_documents({}) == 1
    assert await left(raw) == 0


async def test_a_snapshot_of_before_the_turn_does_not_pass_after_it(store: MongoStore, raw: Database) -> None:
    async with raw.client.start_session() as session:
        await session.start_transaction(ReadConcern("snapshot"), WriteConcern("majority"))
        assert await raw.strangler_fences.count_documents({"_id.e": "account", "term": 1}, session=session) == SLOTS
        await store.turn("account", 2)
        with pytest.raises(OperationFailure) as raised:
            await raw.strangler_fences.bulk_write([gate("account", 1, 0)], session=session)
        assert raised.value.has_error_label("TransientTransactionError")
        await session.abort_transaction()
        await session.start_transaction(ReadConcern("snapshot"), WriteConcern("majority"))
        result = await raw.strangler_fences.bulk_write([gate("account", 1, 0)], session=session)
        assert result.matched_count == 0


async def test_the_gate_costs_no_call(store: MongoStore, raw: Database) -> None:
    """It goes with the fences; then the documents are read, written, and all of it is committed."""
    documents = [account(f"0x{n}") for n in range(10)]
    await store.apply("account", 1, 1, {document["id"]: document for document in documents})
    before = await calls(raw)
    await store.apply("account", 1, 2, {document["id"]: None for document in documents})
    made = {name: count - before[name] for name, count in (await calls(raw)).items()}
    assert made == {"update": 1, "find": 1, "delete": 1, "insert": 0, "commitTransaction": 1}


async def test_settles_of_several_processes_do_not_exclude_each_other(mongo_database: str, raw: Database) -> None:
    documents = [account(f"0x{n}") for n in range(60)]
    async with connected(mongo_database) as one, connected(mongo_database) as two, connected(mongo_database) as three:
        stores = [one, two, three]
        settles = [
            stores[n % 3].apply("account", 1, n, {document["id"]: document}) for n, document in enumerate(documents)
        ]
        for applied in await asyncio.gather(*settles):
            assert len(applied.written) == 1
    assert await raw.accounts.count_documents({}) == 60
    # As many as there were settles: each wrote a slot, and so shut out a turn while it ran.
    passed = [row async for row in raw.strangler_fences.find({"_id.e": "account", "_id.s": {"$gte": 0}})]
    assert sum(row.get("settles", 0) for row in passed) == 60
