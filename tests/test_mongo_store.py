"""The legacy side through Motor: operations and their marks, settling under fences, what the proxies share."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import CodecOptions, MaxKey, MinKey, ObjectId, encode
from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient

from adapters.documents.mapping import Mapper, RuleError
from adapters.mongo.change_stream import StreamLost
from adapters.mongo.store import Collection, MongoStore, StandaloneServer
from adapters.side import Applied, Conflict, Document, Invalid, Operation, Stale, Unavailable, Unreadable
from config.model import Entity
from config.schema import load_schema
from examples.servers import free_port, mongod_server, program, with_database
from tests.mongo_case import Database, account, another_program, collections, connected, create, failing


@pytest.fixture
async def store(mongo_database: str) -> AsyncIterator[MongoStore]:
    async with connected(mongo_database) as store:
        yield store


@pytest.fixture
async def raw(mongo_database: str) -> AsyncIterator[Database]:
    async with another_program(mongo_database) as database:
        yield database


# Operations


async def test_create_makes_key_and_defaults(store: MongoStore, raw: Database) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    outcome = await store.perform(create("0xa"))
    [document] = outcome.documents
    assert outcome.keys == (document["id"],)
    assert outcome.marks == ()
    assert before <= document["createdAt"] <= datetime.now(UTC)
    [found] = await raw.accounts.find().to_list()
    assert found == {
        "_id": ObjectId(document["id"]),
        "walletAddress": "0xa",
        "createdAt": document["createdAt"],
        "updatedAt": document["updatedAt"],
    }


async def test_create_takes_the_key_it_is_given(store: MongoStore) -> None:
    key = str(ObjectId())
    assert (await store.perform(create("0xa", id=key))).keys == (key,)


async def test_read_by_id_and_by_unique(store: MongoStore) -> None:
    [document] = (await store.perform(create("0xa"))).documents
    await store.perform(create("0xb"))
    for where in ({"id": document["id"]}, {"walletAddress": "0xa"}):
        assert (await store.perform(Operation("account", "read", where))).documents == (document,)
    assert (await store.perform(Operation("account", "read", {"walletAddress": "0xc"}))).documents == ()


async def test_read_of_an_id_that_is_none(store: MongoStore) -> None:
    with pytest.raises(Invalid) as raised:
        await store.perform(Operation("account", "read", {"id": "no id"}))
    assert raised.value.field == "id"


async def test_operators_are_values(store: MongoStore) -> None:
    await store.perform(create("0xa"))
    with pytest.raises(Invalid):
        await store.perform(Operation("account", "read", {"walletAddress": {"$ne": None}}))


async def test_list(store: MongoStore, raw: Database) -> None:
    owner, other = ObjectId(), ObjectId()
    start = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [
        {
            "_id": ObjectId(),
            "accountId": other if n == 2 else owner,
            "type": "NFT_VERIFIED",
            "title": str(n),
            "message": "",
            "isRead": False,
            "createdAt": start + timedelta(days=n),
            "updatedAt": start,
        }
        for n in range(6)
    ]
    await raw.notifications.insert_many(rows)

    async def titles(**more: Any) -> list[str]:
        outcome = await store.perform(Operation("notification", "list", {"accountId": str(owner)}, **more))
        return [document["title"] for document in outcome.documents]

    newest_first = (("createdAt", True),)
    assert await titles(order=newest_first) == ["5", "4", "3", "1", "0"]
    assert await titles(order=newest_first, take=2, skip=1) == ["4", "3"]
    assert await titles(take=0) == []


async def test_update(store: MongoStore, raw: Database) -> None:
    [document] = (await store.perform(create("0xa"))).documents
    await raw.accounts.update_one({}, {"$set": {"unmapped": [1, {"a": 2}]}})
    update = Operation("account", "update", {"walletAddress": "0xa"}, {"walletAddress": "0xb"})
    outcome = await store.perform(update)
    [after] = outcome.documents
    assert outcome.keys == (document["id"],)
    assert after == {**document, "walletAddress": "0xb", "updatedAt": after["updatedAt"]}
    assert after["updatedAt"] >= document["updatedAt"]
    [found] = await raw.accounts.find().to_list()
    assert found["walletAddress"] == "0xb"
    assert found["unmapped"] == [1, {"a": 2}]
    assert (await store.perform(update)).documents == ()


async def test_update_by_key_and_more_finds_nothing_where_the_rest_differs(store: MongoStore) -> None:
    [document] = (await store.perform(create("0xa"))).documents
    where = {"id": document["id"], "walletAddress": "0xother"}
    outcome = await store.perform(Operation("account", "update", where, {"walletAddress": "0xb"}), mark=True)
    assert (outcome.documents, outcome.keys, outcome.marks) == ((), (), ())
    assert await store.marks("account", 10) == []


async def test_delete_answers_what_was_there(store: MongoStore, raw: Database) -> None:
    [document] = (await store.perform(create("0xa"))).documents
    outcome = await store.perform(Operation("account", "delete", {"id": document["id"]}))
    assert outcome.documents == (document,)
    assert await raw.accounts.count_documents({}) == 0


async def test_documents_that_cannot_be_mapped_are_not_changed(store: MongoStore, raw: Database) -> None:
    key = ObjectId()
    await raw.accounts.insert_one({"_id": key, "walletAddress": 7})
    for operation in (
        Operation("account", "update", {"id": str(key)}, {"walletAddress": "0xb"}),
        Operation("account", "delete", {"id": str(key)}),
    ):
        with pytest.raises(Unreadable):
            await store.perform(operation, mark=True)
    assert await raw.accounts.count_documents({"walletAddress": 7}) == 1
    assert await store.marks("account", 10) == []


async def test_a_date_beyond_our_calendar_is_one_documents_trouble(store: MongoStore, raw: Database) -> None:
    [good] = (await store.perform(create("0xa"))).documents
    bad = ObjectId()
    await raw.command("insert", "accounts", documents=[{"_id": bad, "walletAddress": "0xb"}])
    await raw.accounts.update_one({"_id": bad}, [{"$set": {"createdAt": {"$toDate": 2**52}, "updatedAt": "$$NOW"}}])
    held = await store.hold("account", [good["id"], str(bad)])
    assert held.documents == {good["id"]: good}
    assert list(held.refused) == [str(bad)]


async def test_a_document_that_is_no_valid_bson_is_refused_alone(store: MongoStore, raw: Database) -> None:
    [good] = (await store.perform(create("0xa"))).documents
    bad = ObjectId()
    corrupt = encode({"_id": bad, "walletAddress": "0x??"}).replace(b"??", b"\xff\xfe")
    await raw.accounts.with_options(CodecOptions(RawBSONDocument)).insert_one(RawBSONDocument(corrupt))
    held = await store.hold("account", [good["id"], str(bad)])
    assert held.documents == {good["id"]: good}
    assert list(held.refused) == [str(bad)]


# Refusals and marks


async def marks_left(store: MongoStore) -> int:
    return len(await store.marks("account", 10))


async def test_each_marked_write_leaves_one_mark(store: MongoStore) -> None:
    start = datetime.now(UTC) - timedelta(milliseconds=1)
    made = await store.perform(create("0xa"), mark=True)
    where = {"id": made.keys[0]}
    changed = await store.perform(Operation("account", "update", where, {"walletAddress": "0xb"}), mark=True)
    deleted = await store.perform(Operation("account", "delete", where), mark=True)
    marks = await store.marks("account", 10)
    assert [mark.id for mark in marks] == [*made.marks, *changed.marks, *deleted.marks]
    assert {mark.key for mark in marks} == set(made.keys)
    assert all(start <= mark.at <= datetime.now(UTC) for mark in marks)
    assert [mark.id for mark in await store.marks("account", 1)] == list(made.marks)
    assert await store.marks("notification", 10) == []
    await store.unmark([*made.marks, *deleted.marks])
    await store.unmark([*made.marks, *deleted.marks])
    assert [mark.id for mark in await store.marks("account", 10)] == list(changed.marks)


async def test_a_duplicate_is_a_conflict_by_field_and_its_mark_is_gone(store: MongoStore, raw: Database) -> None:
    await raw.accounts.create_index("walletAddress", unique=True)
    await store.perform(create("0xa"))
    [other] = (await store.perform(create("0xb"))).documents
    for operation in (create("0xa"), Operation("account", "update", {"id": other["id"]}, {"walletAddress": "0xa"})):
        with pytest.raises(Conflict) as raised:
            await store.perform(operation, mark=True)
        assert raised.value.fields == ("walletAddress",)
        assert "0xa" not in str(raised.value)
        assert await marks_left(store) == 0


async def test_a_duplicate_key_names_the_id(store: MongoStore) -> None:
    [document] = (await store.perform(create("0xa"))).documents
    with pytest.raises(Conflict) as raised:
        await store.perform(create("0xb", id=document["id"]), mark=True)
    assert raised.value.fields == ("id",)
    assert await marks_left(store) == 0


async def test_a_validators_refusal_names_the_field_and_its_mark_is_gone(store: MongoStore, raw: Database) -> None:
    rule = {"$jsonSchema": {"properties": {"walletAddress": {"pattern": "^0x"}}}}
    await raw.create_collection("accounts", validator=rule)
    with pytest.raises(Invalid) as raised:
        await store.perform(create("secret"), mark=True)
    assert raised.value.field == "walletAddress"
    assert "secret" not in str(raised.value)
    assert await marks_left(store) == 0


async def test_the_mark_is_there_before_the_write_can_be_seen(store: MongoStore, raw: Database, mongo_url: str) -> None:
    """The write waits at a fail point: its mark is there, it is not."""
    async with failing(mongo_url, "hangDuringBatchInsert", {"nss": f"{raw.name}.accounts"}):
        writing = asyncio.create_task(store.perform(create("0xa"), mark=True))
        while not (marks := await store.marks("account", 10)):
            assert not writing.done()
        assert await raw.accounts.count_documents({}) == 0
    outcome = await writing
    assert outcome.marks == (marks[0].id,)
    assert outcome.keys == (marks[0].key,)


async def test_a_write_whose_answer_is_lost_keeps_its_mark(store: MongoStore, raw: Database, mongo_url: str) -> None:
    # Both the write and its one retry lose their connection.
    data = {"failCommands": ["insert"], "closeConnection": True, "namespace": f"{raw.name}.accounts"}
    async with (
        connected(with_database(mongo_url, raw.name), write=1.0) as impatient,
        failing(mongo_url, "failCommand", data),
    ):
        with pytest.raises(Unavailable) as raised:
            await impatient.perform(create("0xa"), mark=True)
    assert raised.value.sent
    assert await marks_left(store) == 1


async def test_a_lost_connection_is_tried_again(store: MongoStore, raw: Database, mongo_url: str) -> None:
    data = {"failCommands": ["insert"], "closeConnection": True, "namespace": f"{raw.name}.accounts"}
    async with failing(mongo_url, "failCommand", data, times=1):
        outcome = await store.perform(create("0xa"), mark=True)
    assert await raw.accounts.count_documents({}) == 1
    assert len(outcome.marks) == 1


async def test_a_write_without_its_mark_is_not_sent(store: MongoStore, raw: Database, mongo_url: str) -> None:
    data = {"failCommands": ["update"], "errorCode": 13, "namespace": f"{raw.name}.strangler_marks"}
    async with failing(mongo_url, "failCommand", data):
        with pytest.raises(Unavailable) as raised:
            await store.perform(create("0xa"), mark=True)
    assert not raised.value.sent
    assert await raw.accounts.count_documents({}) == 0


async def test_a_write_that_hangs_ends_with_its_deadline(mongo_database: str, raw: Database, mongo_url: str) -> None:
    data = {
        "failCommands": ["insert"],
        "blockConnection": True,
        "blockTimeMS": 2_000,
        "namespace": f"{raw.name}.accounts",
    }
    async with connected(mongo_database, write=0.3) as impatient:
        async with failing(mongo_url, "failCommand", data):
            with pytest.raises(Unavailable) as raised:
                await impatient.perform(create("0xa"), mark=True)
        assert raised.value.sent
        assert len(await impatient.marks("account", 10)) == 1


async def test_a_server_that_is_not_there(server_folder: Path) -> None:
    folder = server_folder / "gone"
    folder.mkdir()
    async with mongod_server(folder) as server:
        url = with_database(server.url, "gone")
        store = MongoStore(url, collections(), connect=0.3, read=0.5, write=0.5)
        await store.connect()
        assert await store.is_healthy()
    assert not await store.is_healthy()
    with pytest.raises(Unavailable) as raised:
        await store.perform(create("0xa"), mark=True)
    assert not raised.value.sent
    with pytest.raises(Unavailable):
        await store.perform(Operation("account", "read", {"walletAddress": "0xa"}))
    await store.disconnect()


# Settling


async def test_tokens_grow(store: MongoStore) -> None:
    tokens = [(await store.hold("account", [])).token for _ in range(3)]
    several = await asyncio.gather(*(store.hold("account", []) for _ in range(20)))
    every = [*tokens, *sorted(held.token for held in several)]
    assert every == list(range(every[0], every[0] + 23))


async def test_hold_tells_documents_refusals_and_what_is_not_there(store: MongoStore, raw: Database) -> None:
    [good] = (await store.perform(create("0xa"))).documents
    bad, gone = ObjectId(), ObjectId()
    await raw.accounts.insert_one({"_id": bad, "walletAddress": None})
    held = await store.hold("account", [good["id"], str(bad), str(gone), "no key"])
    assert held.documents == {good["id"]: good}
    assert set(held.refused) == {str(bad), "no key"}


async def test_hold_sees_what_was_acknowledged_without_majority(store: MongoStore, mongo_database: str) -> None:
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongo_database, w=1, journal=False)
    async with client:
        rows = client.get_default_database().accounts
        for n in range(50):
            key = ObjectId()
            await rows.insert_one({"_id": key, **{k: v for k, v in account(f"0x{n}").items() if k != "id"}})
            held = await store.hold("account", [str(key)])
            assert held.documents[str(key)]["walletAddress"] == f"0x{n}"


async def test_apply_inserts_updates_deletes_and_leaves_alone(store: MongoStore, raw: Database) -> None:
    kept, changed, deleted, made, absent = (account(f"0x{n}") for n in range(5))
    first = await store.apply("account", 1, 1, {d["id"]: d for d in (kept, changed, deleted)})
    assert first.written == {kept["id"], changed["id"], deleted["id"]}
    await raw.accounts.update_many({}, {"$set": {"unmapped": 1}})
    changed = {**changed, "walletAddress": "0xnew"}
    documents = {kept["id"]: kept, changed["id"]: changed, deleted["id"]: None, made["id"]: made, absent["id"]: None}
    assert await store.apply("account", 1, 2, documents) == Applied(frozenset(documents))
    found = {str(row.pop("_id")): row for row in await raw.accounts.find().to_list()}
    assert set(found) == {kept["id"], changed["id"], made["id"]}
    assert found[changed["id"]]["walletAddress"] == "0xnew"
    assert found[changed["id"]]["unmapped"] == 1
    assert (await store.hold("account", list(found))).documents == {d["id"]: d for d in (kept, changed, made)}


async def test_apply_of_what_is_there_writes_nothing(store: MongoStore, raw: Database) -> None:
    document = account("0xa")
    await store.apply("account", 1, 1, {document["id"]: document})
    async with await raw.accounts.watch() as changes:
        assert (await store.apply("account", 1, 2, {document["id"]: document})).written == {document["id"]}
        await raw.accounts.insert_one({"_id": "after"})
        assert (await changes.next())["documentKey"] == {"_id": "after"}


async def test_a_lower_token_is_superseded(store: MongoStore) -> None:
    one, two = account("0x1"), account("0x2")
    await store.apply("account", 1, 5, {one["id"]: one})
    stale = {one["id"]: {**one, "walletAddress": "0xstale"}, two["id"]: two}
    assert await store.apply("account", 1, 4, stale) == Applied(frozenset({two["id"]}), frozenset({one["id"]}))
    held = await store.hold("account", [one["id"], two["id"]])
    assert held.documents == {one["id"]: one, two["id"]: two}


async def test_a_delete_is_fenced_too(store: MongoStore) -> None:
    document = account("0x1")
    await store.apply("account", 1, 5, {document["id"]: None})
    late = await store.apply("account", 1, 4, {document["id"]: document})
    assert late.superseded == {document["id"]}
    assert await store.count("account") == 0


async def test_fences_are_per_entity(store: MongoStore) -> None:
    document = account("0x1")
    await store.apply("notification", 1, 9, {document["id"]: None})
    assert (await store.apply("account", 1, 1, {document["id"]: document})).written == {document["id"]}


async def test_the_same_settle_again_passes_again(store: MongoStore) -> None:
    document = account("0x1")
    first = await store.apply("account", 1, 3, {document["id"]: document})
    assert await store.apply("account", 1, 3, {document["id"]: document}) == first


async def test_concurrent_applies_end_with_the_highest_token(store: MongoStore) -> None:
    keys = [str(ObjectId()) for _ in range(3)]
    settles = [
        store.apply("account", 1, token, {key: account(f"0x{token}.{n}", key) for n, key in enumerate(keys)})
        for token in (3, 8, 1, 6, 2, 7, 4, 5)
    ]
    for applied in await asyncio.gather(*settles):
        assert applied.written | applied.superseded == set(keys)
        assert applied.refused == {}
    held = await store.hold("account", keys)
    assert [held.documents[key]["walletAddress"] for key in keys] == [f"0x8.{n}" for n in range(3)]


async def test_only_the_culprits_are_refused(store: MongoStore, raw: Database) -> None:
    await raw.accounts.create_index("walletAddress", unique=True)
    taken = account("0xtaken")
    await store.apply("account", 1, 1, {taken["id"]: taken})
    good = [account(f"0x{n}") for n in range(10)]
    culprit = account("0xtaken")
    documents: dict[str, Document | None] = {d["id"]: d for d in (*good, culprit)}
    applied = await store.apply("account", 1, 2, documents)
    assert applied.written == {d["id"] for d in good}
    assert isinstance(applied.refused[culprit["id"]], Conflict)
    assert list(applied.refused) == [culprit["id"]]
    assert await store.count("account") == 11


async def test_a_unique_value_may_move_within_a_settle(store: MongoStore, raw: Database) -> None:
    await raw.accounts.create_index("walletAddress", unique=True)
    giver, taker = sorted((account("0xmoves"), account("0xold")), key=lambda d: str(d["id"]), reverse=True)
    giver, taker = {**giver, "walletAddress": "0xmoves"}, {**taker, "walletAddress": "0xold"}
    await store.apply("account", 1, 1, {giver["id"]: giver, taker["id"]: taker})
    moved = {giver["id"]: {**giver, "walletAddress": "0xnew"}, taker["id"]: {**taker, "walletAddress": "0xmoves"}}
    assert await store.apply("account", 1, 2, moved) == Applied(frozenset(moved))


async def test_what_cannot_be_mapped_is_refused_alone(store: MongoStore) -> None:
    good, bad = account("0xa"), {**account("0xb"), "walletAddress": 7}
    applied = await store.apply("account", 1, 1, {good["id"]: good, bad["id"]: bad})
    assert applied.written == {good["id"]}
    assert isinstance(applied.refused[bad["id"]], Invalid)


async def test_apply_survives_a_commit_whose_answer_is_lost(store: MongoStore, raw: Database, mongo_url: str) -> None:
    document = account("0xa")
    data = {"failCommands": ["commitTransaction"], "closeConnection": True}
    async with failing(mongo_url, "failCommand", data, times=3):
        applied = await store.apply("account", 1, 1, {document["id"]: document})
    assert applied.written == {document["id"]}
    assert await raw.accounts.count_documents({}) == 1


async def test_apply_that_runs_out_of_time_lets_go_of_its_keys(
    mongo_database: str, store: MongoStore, mongo_url: str
) -> None:
    document = account("0xa")
    data = {"failCommands": ["commitTransaction"], "blockConnection": True, "blockTimeMS": 2_000}
    async with connected(mongo_database, write=0.5) as impatient:
        async with failing(mongo_url, "failCommand", data, times=1):
            with pytest.raises(Unavailable) as raised:
                await impatient.apply("account", 1, 1, {document["id"]: document})
        assert raised.value.sent
    newer = {**document, "walletAddress": "0xb"}
    assert (await store.apply("account", 1, 2, {document["id"]: newer})).written == {document["id"]}


# Keys


async def test_keys_in_batches_in_their_order(store: MongoStore, raw: Database) -> None:
    ids = sorted(ObjectId() for _ in range(25))
    await raw.accounts.insert_many([{"_id": id} for id in reversed(ids)])
    batches = [batch async for batch in store.keys("account", batch=10)]
    assert [len(batch) for batch in batches] == [10, 10, 5]
    assert [key for batch in batches for key in batch] == [str(id) for id in ids]
    assert await store.count("account") == 25


async def test_keys_of_mixed_types_are_all_given(store: MongoStore, raw: Database) -> None:
    ids = [7, "words", ObjectId(), ObjectId(), datetime(2026, 1, 1, tzinfo=UTC)]
    await raw.accounts.insert_many([{"_id": id} for id in ids])
    keys = [key async for batch in store.keys("account", batch=2) for key in batch]
    assert sorted(keys) == sorted(map(str, ids))
    held = await store.hold("account", keys)
    assert {"7", "words"} <= held.refused.keys()


@pytest.mark.parametrize("most", [1, 2, 100])
async def test_ids_of_every_kind_are_walked_over_once(store: MongoStore, raw: Database, most: int) -> None:
    ids = [MinKey(), None, float("nan"), 7, "words", {"a": 1}, ObjectId(), True, datetime(2026, 1, 1), MaxKey()]
    await raw.accounts.insert_many([{"_id": id} for id in ids])
    places: list[str | None] = [None]
    found: list[str] = []
    while part := await store.range("account", places[-1], most=most, size=1_000_000):
        assert part.upto not in places
        places.append(part.upto)
        found += part.keys
    assert len(found) == len(set(found)) == len(ids)
    assert found == [key async for batch in store.keys("account", batch=most) for key in batch]


async def test_keys_of_an_empty_collection(store: MongoStore) -> None:
    assert [batch async for batch in store.keys("account")] == []
    assert await store.count("account") == 0


def test_the_key_has_to_be_the_id() -> None:
    schema = load_schema()
    entity = Entity.model_validate({"collection": "accounts", "model": "Account", "fields": {"id": {"from": "code"}}})
    with pytest.raises(RuleError):
        Collection("accounts", Mapper(entity, schema.models["Account"], schema))


# Starting


async def test_a_store_that_was_away_at_the_start_prepares_itself(mongo_database: str, raw: Database) -> None:
    store = MongoStore(mongo_database, collections())
    document = account("0xa")
    with pytest.raises(Stale) as raised:
        await store.apply("account", 0, 1, {document["id"]: document})
    assert raised.value.term == -1
    assert store.is_replica_set
    assert "strangler_fences" in await raw.list_collection_names()
    await store.turn("account", 0)
    assert (await store.apply("account", 0, 1, {document["id"]: document})).written == {document["id"]}
    await store.disconnect()


async def test_two_who_prepare_at_once(mongo_database: str) -> None:
    stores = [MongoStore(mongo_database, collections()) for _ in range(4)]
    await asyncio.gather(*(store.connect() for store in stores))
    tokens = [(await store.hold("account", [])).token for store in stores]
    assert tokens == list(range(tokens[0], tokens[0] + 4))
    for store in stores:
        await store.disconnect()


async def test_a_standalone_server_can_be_settled_from_but_not_to(server_folder: Path, mongo_url: str) -> None:
    folder, port = server_folder / "standalone", free_port()
    folder.mkdir()
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongo_url)
    async with client:
        binary = (await client.admin.command("getCmdLineOpts"))["argv"][0]
    argv = [binary, "--dbpath", str(folder), "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket"]
    async with (
        program("mongod", argv, folder=folder, ready_line="Waiting for connections"),
        connected(f"mongodb://127.0.0.1:{port}/alone") as store,
    ):
        assert not store.is_replica_set
        outcome = await store.perform(create("0xa"), mark=True)
        [document] = outcome.documents
        assert [mark.id for mark in await store.marks("account", 10)] == list(outcome.marks)
        held = await store.hold("account", outcome.keys)
        assert (held.documents, held.clock) == ({document["id"]: document}, None)
        with pytest.raises(StandaloneServer):
            await store.apply("account", 1, 1, {document["id"]: document})
        with pytest.raises(StreamLost):
            await store.changes(replica="replica-1").open()
