"""Inspecting collections of a real mongod that are as awkward as those that grew over the years."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final

import bson
import pytest
from bson import DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.binary import Binary
from bson.code import Code
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from hypothesis import HealthCheck, given, settings

from adapters.engine import Engine
from adapters.prisma.indexes import PrismaIndex, table_indexes
from proxy.migration.inspection.inspect import NothingSuch
from tests import mongo_case
from tests.inspect_case import ENTITIES, NOW, Place, account, away, fields, place, profile, reasons
from tests.test_inspect_profile import DOCUMENTS, SECRET

UNIQUE: Final = {"walletAddress": 1}


@pytest.fixture
async def here(mongo_database: str) -> AsyncIterator[Place]:
    async with place(mongo_database) as found:
        yield found


@pytest.fixture(scope="module")
async def engine(module_database_url: str) -> AsyncIterator[Engine]:
    engine = Engine(module_database_url, pool=1)
    await engine.connect()
    yield engine
    await engine.disconnect()


# What the model cannot hold


async def test_what_is_refused_is_what_settling_refuses_with_the_same_reason(here: Place) -> None:
    """Every fault of a document is told; the first of them is the one that quarantine has."""
    awkward: list[dict[str, Any]] = [
        account("fine"),
        account(7),
        account("n\0ul"),
        account(None),
        account("x" * 300, createdAt="2026-01-01T00:00:00Z"),
        account("y", createdAt=DatetimeMS(1 << 55)),
        account(Decimal128("NaN"), updatedAt=None),
        {"_id": ObjectId()},
        account({"a": 1}, createdAt=5, updatedAt=[NOW]),
        {**account("own id"), "_id": "not-an-object-id"},
    ]
    await here.database["accounts"].insert_many(awkward)
    found = await here.inspection("account")
    async with mongo_case.connected(here.url) as store:
        keys = [str(raw["_id"]) for raw in awkward]
        refused = (await store.hold("account", keys)).refused
    told = {key: f"{path}: {reason}" for (path, reason), its in found.refusals.reasons.items() for key in its.keys}
    assert found.refusals.documents == len(refused) == 9
    assert {str(error) for key, error in refused.items() if key != "not-an-object-id"} <= {
        f"{path}: {reason}" for path, reason in found.refusals.reasons
    }
    assert told.keys() == refused.keys()
    nothing = str(awkward[7]["_id"])
    wanting = {path for (path, _), its in found.refusals.reasons.items() if nothing in its.keys}
    assert wanting == {"walletAddress", "createdAt", "updatedAt"}


async def test_a_document_that_is_no_valid_bson_is_told_by_its_key(here: Place) -> None:
    """An old driver's Latin-1 among good ones: it spoils nothing but itself."""
    good, bad = account("good"), ObjectId()
    stored = bson.encode({**account("bad wallet"), "_id": bad}).replace(b"bad wallet", b"bad \xe9allet")
    await here.database["accounts"].insert_one(good)
    await here.database["accounts"].insert_one(RawBSONDocument(stored))
    found = await here.one("account")
    assert found["refused"] == {
        "documents": 1,
        "reasons": [{"path": "document", "reason": "is no valid BSON", "documents": 1, "keys": [str(bad)]}],
    }
    assert (found["read"], fields(found)["walletAddress"]["present"]) == (2, 1)


# Duplicates and references


async def test_duplicates_are_counted_with_keys_and_without_values(here: Place) -> None:
    twice = [account("one wallet"), account("one wallet"), account("one wallet"), account("two"), account("two")]
    others = [account("alone"), account(None), account(None), account("x")]
    await here.database["accounts"].insert_many([*twice, *others])
    report = await here.inspected("account")
    [found] = report["collections"]
    [unique] = found["uniques"]
    assert (unique["fields"], unique["guard"], unique["values"], unique["documents"]) == (["walletAddress"], None, 2, 5)
    ids = {str(raw["_id"]) for raw in twice}
    assert all(first != second and {first, second} <= ids for first, second in unique["keys"])
    assert "one wallet" not in json.dumps(report)
    assert report["status"] == 1


async def test_where_an_index_keeps_them_apart_nobody_looks(here: Place) -> None:
    await here.database["accounts"].create_index(UNIQUE, unique=True)
    await here.database["accounts"].insert_one(account("w"))
    [unique] = (await here.one("account"))["uniques"]
    assert (unique["guard"], unique["documents"]) == ("walletAddress_1", 0)


async def test_an_index_that_is_only_for_some_documents_is_no_guard(here: Place) -> None:
    await here.database["accounts"].create_index(
        UNIQUE, unique=True, partialFilterExpression={"updatedAt": {"$gt": NOW}}
    )
    await here.database["accounts"].insert_many([account("w"), account("w")])
    [unique] = (await here.one("account"))["uniques"]
    assert (unique["guard"], unique["documents"]) == (None, 2)


async def test_under_a_collation_only_more_is_the_same(here: Place) -> None:
    folded = {"locale": "en", "strength": 2}
    await here.database["accounts"].create_index(UNIQUE, unique=True, collation=folded, name="folded")
    await here.database["accounts"].insert_many([account("w"), account("v")])
    [unique] = (await here.one("account"))["uniques"]
    assert (unique["guard"], unique["documents"]) == ("folded", 0)


async def test_strings_are_the_same_where_their_bytes_are_whatever_the_collation(here: Place) -> None:
    await here.database.create_collection("accounts", collation={"locale": "en", "strength": 1})
    await here.database["accounts"].insert_many([account("Wallet"), account("wallet"), account("wállet")])
    [unique] = (await here.one("account"))["uniques"]
    assert unique["documents"] == 0


async def test_references_that_point_nowhere(here: Place) -> None:
    owner = account("w")
    await here.database["accounts"].insert_one(owner)
    orphans = [profile(ObjectId(), f"orphan{number}") for number in range(7)]
    await here.database["profiles"].insert_many([profile(owner["_id"], "fine"), *orphans])
    report = await here.inspected("profile")
    [reference] = report["collections"][0]["references"]
    keys = {str(raw["_id"]) for raw in orphans}
    assert len(reference["keys"]) == 5
    assert set(reference.pop("keys")) <= keys
    assert reference == {"field": "accountId", "entity": "account", "checked": 8, "missing": 7}
    assert report["status"] == 1


async def test_references_to_a_model_without_an_entity_cannot_be_asked_about(here: Place) -> None:
    await here.database["profiles"].insert_one(profile(ObjectId(), "u"))
    report = await here.inspected("profile", entities={"profile": ENTITIES["profile"]})
    [found] = report["collections"]
    assert found["references"] == []
    [unasked] = [one for one in found["unasked"] if "references" in one["what"]]
    assert "no entity has the model Account" in unasked["why"]
    assert report["status"] == 0


# Indexes


async def test_indexes_of_both_sides(here: Place, engine: Engine) -> None:
    async def tables(table: str) -> list[PrismaIndex] | None:
        return await table_indexes(engine, table)

    profiles = here.database["profiles"]
    await profiles.create_index({"accountId": -1})
    await profiles.create_index({"createdAt": 1}, expireAfterSeconds=86_400)
    await profiles.create_index({"bio": "text", "username": "text"})
    await profiles.insert_one(profile(None, "u" * 3000, createdAt=datetime.now(UTC)))
    found = await here.one("profile", tables=tables)
    told = {tuple(pair["fields"]): (pair["verdict"], pair["legacy"], pair["prisma"]) for pair in found["indexes"]}
    assert told == {
        ("_id",): ("both", "_id_", "profiles_pkey"),
        ("accountId",): ("both", "accountId_-1", "profiles_accountId_idx"),
        ("createdAt",): ("legacy only", "createdAt_1", None),
        ("bio", "username"): ("legacy only", "bio_text_username_text", None),
        ("username",): ("unique in prisma only", None, "profiles_username_key"),
    }
    notes = {tuple(pair["fields"]): pair["notes"] for pair in found["indexes"]}
    assert "deletes documents 86,400 s" in notes["createdAt",][0]
    assert found["notes"] == ["username: up to 3000 characters, in an index whose entries hold 2704 bytes"]


async def test_a_table_that_is_not_there_is_said_and_an_engine_that_is_away_fails(here: Place, engine: Engine) -> None:
    assert await table_indexes(engine, 'no "such" table') is None
    await here.database["accounts"].insert_one(account("w"))
    without, gone = await asyncio.gather(here.inspected("account"), here.inspected("account", tables=away))
    [said] = without["collections"][0]["unasked"]
    assert (said["failed"], said["why"], without["status"]) == (False, "there is no such table yet", 0)
    [failed] = gone["collections"][0]["unasked"]
    assert (failed["failed"], failed["why"], gone["status"]) == (True, "the engine is gone", 2)


# Overlap


async def test_overlap_of_natural_keys_is_a_share(here: Place) -> None:
    await here.database["accounts"].create_index(UNIQUE, unique=True)
    await here.database["users"].create_index({"wallet": 1}, unique=True)
    await here.database["accounts"].insert_many([account(f"0x{number}") for number in range(20)])
    await here.database["users"].insert_many([{"wallet": f"0x{number}", "nick": "n"} for number in range(15, 35)])
    await here.database["owned"].insert_many([{"walletAddress": f"0x{number % 3}"} for number in range(30)])
    found = await here.one("account")
    shares = {(one["path"], one["collection"], one["other"]): (one["found"], one["asked"]) for one in found["overlaps"]}
    assert shares == {
        ("walletAddress", "users", "wallet"): (5, 20),
        ("walletAddress", "users", "walletAddress"): (0, 20),
        ("walletAddress", "owned", "walletAddress"): (3, 20),
    }
    assert "0x17" not in json.dumps(found)


# Kinds of collections


async def test_an_empty_collection_holds_nothing_that_is_refused(here: Place) -> None:
    await here.database.create_collection("accounts")
    report = await here.inspected("account")
    [found] = report["collections"]
    assert (found["documents"], found["read"], found["fields"], report["status"]) == (0, 0, [], 0)


async def test_a_collection_that_is_not_there_is_not_clean(here: Place) -> None:
    report = await here.inspected("account")
    assert report["status"] == 2
    assert "none of that name" in report["collections"][0]["unasked"][0]["why"]


async def test_views_time_series_and_capped_collections(here: Place) -> None:
    database = here.database
    await database["accounts"].insert_many([account(f"w{number}") for number in range(30)])
    await database.create_collection("recent", viewOn="accounts", pipeline=[{"$project": {"walletAddress": 1}}])
    await database.create_collection("seen", timeseries={"timeField": "at", "metaField": "who"})
    await database["seen"].insert_many([{"at": NOW, "who": number, "value": 1.5} for number in range(40)])
    await database.create_collection("log", capped=True, size=1 << 20)
    await database["log"].insert_many([{"line": number} for number in range(50)])
    await database.create_collection("own", clusteredIndex={"key": {"_id": 1}, "unique": True})
    await database["own"].insert_many([{"_id": number} for number in range(60)])
    for name, kind, capped, count in (
        ("recent", "view", False, 30),
        ("seen", "timeseries", False, 40),
        ("log", "collection", True, 50),
        ("own", "collection", False, 60),
    ):
        for wanted in (None, 10):
            found = await here.one(name, wanted=wanted)
            assert (found["kind"], found["capped"], found["documents"]) == (kind, capped, count)
            assert found["all"] is (wanted is None)
            assert found["read"] == count if wanted is None else found["read"] <= count
            assert not [one for one in found["unasked"] if one["failed"]]


async def test_with_no_name_all_entities_and_a_list_of_the_rest(here: Place) -> None:
    for entity in ENTITIES.values():
        await here.database.create_collection(entity["collection"])
    await here.database["old_things"].insert_many([{}, {}])
    await here.database["strangler_outbox"].insert_one({})
    report = await here.inspected()
    assert [found["entity"] for found in report["collections"]] == list(ENTITIES)
    assert report["others"] == [{"collection": "old_things", "kind": "collection", "documents": 2}]


async def test_a_name_that_nothing_has(here: Place) -> None:
    await here.database.create_collection("old_things")
    with pytest.raises(NothingSuch, match=r"unknown entity or collection oldthings; expected one of .*old_things"):
        await here.inspected("oldthings")


async def test_a_collection_of_an_entity_is_that_entity(here: Place) -> None:
    await here.database["accounts"].insert_one(account("w"))
    assert (await here.one("accounts"))["entity"] == "account"


# Sources


async def test_an_entity_with_several_collections_is_each_of_them(here: Place) -> None:
    """What one does not have another may; a reference to any of them is none to nowhere."""
    first, second = account("0x1"), {"_id": ObjectId(), "wallet": "0x2", "since": NOW}
    await here.database["accounts"].insert_one(first)
    await here.database["users"].insert_many([second, {"_id": ObjectId(), "wallet": 3, "since": "long ago"}])
    await here.database["profiles"].insert_many([profile(first["_id"], "a"), profile(second["_id"], "b")])
    also = {"collection": "users", "by": "walletAddress", "lacks": ["updatedAt"]}
    rules = {"walletAddress": {"from": "wallet"}, "createdAt": {"from": "since"}}
    entities = {
        **ENTITIES,
        "account": {**ENTITIES["account"], "legacy": {"via": "endpoint"}, "also": [{**also, "fields": rules}]},
    }
    accounts, users = (await here.inspected("account", entities=entities))["collections"]
    assert (accounts["collection"], users["collection"], users["entity"]) == ("accounts", "users", "account")
    assert (accounts["refused"]["documents"], users["refused"]["documents"]) == (0, 1)
    assert reasons(users) == {
        "wallet": ("expected a string, got an integer", 1),
        "since": ("expected a date, got a string", 1),
    }
    assert accounts["notes"] == ["no index on walletAddress, by which its documents are found"]
    assert users["notes"] == ["no index on wallet, by which its documents are found"]
    [reference] = (await here.one("profile", entities=entities))["references"]
    assert (reference["checked"], reference["missing"]) == (2, 0)


# Reading


async def test_a_sample_is_about_as_large_as_was_asked_for(here: Place) -> None:
    await here.database["accounts"].insert_many([account(f"w{number}") for number in range(4000)])
    few = await here.one("account", wanted=100)
    assert (few["read"], few["all"], few["documents"]) == (100, False, 4000)
    many = await here.one("account", wanted=2000)
    assert 1500 < many["read"] < 2500
    every = await here.one("account", wanted=4000)
    assert (every["read"], every["all"]) == (4000, True)


async def test_every_document_is_read_once_whatever_its_id(here: Place) -> None:
    """More than a query's worth, of all types that ids can be of, NaN among them."""
    ids: list[Any] = [
        *range(6000),
        float("nan"),
        "x",
        "",
        ObjectId(),
        NOW,
        b"b",
        {"a": 1},
        True,
        MinKey(),
        MaxKey(),
        None,
    ]
    ids += [Decimal128("0.5"), Timestamp(1, 1), Binary(b"x", 7), Regex("x")][:3]
    await here.database["mixed"].insert_many([{"_id": id} for id in ids])
    found = await here.one("mixed")
    assert (found["read"], fields(found)["_id"]["present"]) == (len(ids), len(ids))
    assert fields(found)["_id"]["types"]["int"] == 6000


async def test_huge_arrays_and_huge_documents(here: Place) -> None:
    await here.database["wide"].insert_many([{"list": list(range(10_000)), "text": "x" * (4 << 20)} for _ in range(6)])
    found = fields(await here.one("wide"))
    assert found["list"]["elements"] == {"min": 10_000, "max": 10_000}
    assert found["text"]["length"] == {"min": 4 << 20, "max": 4 << 20}


async def test_a_question_that_takes_too_long_is_not_known_and_the_rest_is(here: Place) -> None:
    """Grouping by the server is held up until its deadline; reading goes on."""
    await here.database["accounts"].insert_many([account("w"), account("w")])
    hang = {"failCommands": ["aggregate"], "errorCode": 50}
    async with mongo_case.failing(here.url, "failCommand", hang):
        report = await here.inspected("account")
    [found] = report["collections"]
    assert (found["read"], found["uniques"], report["status"]) == (2, [], 2)
    [failed] = [one for one in found["unasked"] if one["what"] == "duplicates under walletAddress"]
    assert failed["failed"]


async def test_those_who_run_the_server_can_tell_its_questions(here: Place) -> None:
    await here.database["accounts"].insert_many([account(f"w{number}") for number in range(500)])
    await here.database.command("profile", 2)
    await here.one("account", wanted=10)
    await here.one("account")
    await here.database.command("profile", 0)
    seen = [
        entry["command"]
        async for entry in here.database["system.profile"].find(
            {"appName": "strangler", "op": {"$in": ["query", "command"]}}
        )
    ]
    asked = [command for command in seen if {"find", "aggregate"} & command.keys()]
    assert asked
    assert all(command.get("comment") == "strangler inspect" for command in asked)
    assert all("maxTimeMS" in command for command in asked)


async def test_nothing_is_written(here: Place) -> None:
    await here.database["accounts"].insert_one(account("w"))
    before = await here.database.command("dbHash")
    await here.inspected("account")
    await here.inspected("accounts", entities={})
    after = await here.database.command("dbHash")
    assert (before["collections"], before["md5"]) == (after["collections"], after["md5"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents=DOCUMENTS)
async def test_whatever_is_stored_a_report_comes_of_it(here: Place, documents: list[dict[str, Any]]) -> None:
    """Every BSON type, mixed: a report, JSON, of all documents, with none of their strings in it."""
    await here.database["any"].drop()
    await here.database.create_collection("any")
    if documents:
        await here.database["any"].insert_many([{**document, "_id": ObjectId()} for document in documents])
    report = await here.inspected("any")
    [found] = report["collections"]
    assert SECRET not in json.dumps(report, allow_nan=False, ensure_ascii=False)
    assert (found["read"], found["all"]) == (len(documents), True)
    for field in found["fields"]:
        assert sum(field["types"].values()) == field["present"] == field["of"] - field["missing"]
    assert not [one for one in found["unasked"] if one["failed"]]


TYPES: Final[dict[str, Any]] = {
    "double": 1.5,
    "string": "x",
    "object": {"a": 1},
    "array": [1],
    "binData": b"x",
    "objectId": ObjectId(),
    "bool": True,
    "date": datetime(2026, 1, 1, tzinfo=UTC),
    "null": None,
    "regex": Regex("x"),
    "dbRef": DBRef("c", 1),
    "javascript": Code("x"),
    "int": 1,
    "timestamp": Timestamp(1, 1),
    "long": Int64(1),
    "decimal": Decimal128("1.5"),
    "minKey": MinKey(),
    "maxKey": MaxKey(),
    "binData(7)": Binary(b"x", 7),
}


async def test_every_type_of_bson_comes_back_by_its_name(here: Place) -> None:
    await here.database["types"].insert_many([{"a": value} for value in TYPES.values()])
    assert fields(await here.one("types"))["a"]["types"] == dict.fromkeys(TYPES, 1)
