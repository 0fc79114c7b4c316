"""The least changes, made by a real MongoDB: the document becomes what it should be, and nothing else of it moves."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64, ObjectId
from hypothesis import HealthCheck, given, settings
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection

from adapters.documents.values import alike
from adapters.side import Invalid
from tests.mapping_case import EVERYTHING, HEX, OPTIONS, RULES, everything, mapper_of, stored

MAPPER = mapper_of(*EVERYTHING, rules=RULES)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
RAW: dict[str, Any] = {"_id": ObjectId(HEX), "owner": ObjectId(HEX), "createdAt": NOW, "updatedAt": NOW}

Raw = dict[str, Any]


@pytest.fixture(scope="module")
async def things(module_mongo_database: str) -> AsyncIterator[AsyncCollection[Raw]]:
    async with AsyncMongoClient[Raw](module_mongo_database) as client:
        yield client.get_default_database()["things"].with_options(OPTIONS)


async def changed(things: AsyncCollection[Raw], raw: Raw, wanted: Raw) -> tuple[Raw, Raw]:
    """The document before and after its changes to what is wanted."""
    await things.delete_many({})
    await things.insert_one(raw)
    before = await things.find_one({"_id": raw["_id"]})
    assert before is not None
    to_set, unset = MAPPER.legacy_changes(before, wanted)
    update = {name: changes for name, changes in (("$set", to_set), ("$unset", unset)) if changes}
    if update:
        await things.update_one({"_id": MAPPER.legacy_key(wanted["id"])}, update)
    after = await things.find_one({"_id": raw["_id"]})
    assert after is not None
    return before, after


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(everything(), everything())
async def test_one_document_becomes_the_other_and_keeps_what_prisma_does_not_know(
    things: AsyncCollection[Raw], raw: Raw, other: Raw
) -> None:
    wanted = MAPPER.from_legacy(stored({**other, "_id": raw["_id"]}))
    before, after = await changed(things, raw, wanted)
    assert alike(MAPPER.from_legacy(after), wanted)
    assert MAPPER.legacy_changes(after, wanted) == ({}, {})
    to_set, unset = MAPPER.legacy_changes(before, wanted)
    touched = {path.split(".")[0] for path in (*to_set, *unset)}
    assert not touched & {"_id", "__v", "unknown"}
    for name in before.keys() - touched:
        assert bson.encode({"v": after[name]}) == bson.encode({"v": before[name]})
    if isinstance(before.get("profile"), dict):
        assert after["profile"].get("other") == before["profile"].get("other")


CASES: list[tuple[str, Raw, Raw, tuple[Raw, Raw]]] = [
    ("null for missing", {"text": None}, {}, ({}, {})),
    ("a double for an int", {"int": 5.0, "big": 5}, {}, ({}, {})),
    ("a double for a decimal", {"decimal": 1.5}, {}, ({}, {})),
    ("the order of keys", {"doc": {"b": 1, "a": 1}}, {"doc": {"a": 1, "b": 1}}, ({}, {})),
    ("no list for an empty one", {}, {"ints": []}, ({}, {})),
    ("true is not 1", {"doc": {"a": 1}}, {"doc": {"a": True}}, ({"doc": {"a": True}}, {})),
    ("NaN is NaN", {"float": float("nan")}, {"float": float("nan")}, ({}, {})),
    ("a value", {"int": 5.0}, {"int": 6}, ({"int": 6}, {})),
    ("away", {"int": 5}, {"int": None}, ({}, {"int": ""})),
    ("nested, beside others", {"profile": {"bio": "x", "z": 1}}, {"bio": "y"}, ({"profile.bio": "y"}, {})),
    ("nested, in nothing", {}, {"bio": "y"}, ({"profile.bio": "y"}, {})),
    ("nested, in null", {"profile": None}, {"bio": "y"}, ({"profile": {"bio": "y"}}, {})),
    ("nested, in a scalar", {"profile": 5}, {"bio": "y"}, ({"profile": {"bio": "y"}}, {})),
    ("nothing, in a scalar", {"profile": 5}, {"bio": None}, ({}, {"profile": ""})),
    ("in a list", {"location": {"coordinates": [1, 2, 3]}}, {"lat": 5.0}, ({"location.coordinates.1": 5.0}, {})),
    ("away from a list", {"location": {"coordinates": [1, 2]}}, {"lng": None}, ({"location.coordinates.0": None}, {})),
    ("past the end", {"location": {"coordinates": []}}, {"lat": 5.0}, ({"location.coordinates.1": 5.0}, {})),
    (
        "in no list",
        {"location": {"type": "Point"}},
        {"lng": 1.0, "lat": 2.0},
        ({"location.coordinates": [1.0, 2.0]}, {}),
    ),
    ("in nothing", {}, {"lat": 2.0}, ({"location": {"coordinates": [None, 2.0]}}, {})),
    ("a part", {"name": "Ada King"}, {"last": "Lovelace"}, ({"name": "Ada Lovelace"}, {})),
    ("no part", {"name": "Ada King"}, {"first": None, "last": None}, ({}, {"name": ""})),
    ("functions", {"cents": 250}, {}, ({}, {})),
    ("what cannot be read", {"int": "x"}, {"int": 5}, ({"int": 5}, {})),
    ("what cannot be read, away", {"int": "x", "mood": 5}, {"int": None}, ({}, {"int": "", "mood": ""})),
]


@pytest.mark.parametrize(("raw", "fields", "changes"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
async def test_the_least_changes(things: AsyncCollection[Raw], raw: Raw, fields: Raw, changes: tuple[Raw, Raw]) -> None:
    raw = {**RAW, **raw}
    try:
        present = MAPPER.from_legacy(raw)
    except Invalid:
        present = MAPPER.from_legacy(RAW)
    wanted = {**present, **fields}
    assert MAPPER.legacy_changes(raw, wanted) == changes
    _, after = await changed(things, raw, wanted)
    assert alike(MAPPER.from_legacy(after), wanted)


async def test_what_is_stored_has_the_type_that_the_field_implies(things: AsyncCollection[Raw]) -> None:
    document = {**MAPPER.from_legacy(RAW), "int": 5, "big": 5, "float": 5.0, "at": NOW, "doc": {"a": 2**40, "b": 1.0}}
    await things.delete_many({})
    await things.insert_one(MAPPER.to_legacy(document))
    types = {
        "int": "int",
        "big": "long",
        "float": "double",
        "at": "date",
        "doc.a": "long",
        "doc.b": "int",
        "_id": "objectId",
    }
    assert await things.count_documents({name: {"$type": type} for name, type in types.items()}) == 1


async def test_a_filter_finds_by_value_and_never_by_operator(things: AsyncCollection[Raw]) -> None:
    await things.delete_many({})
    values = {"decimal": Decimal128("1.5"), "big": Int64(5), "doc": {"$ne": 1}, "text": "$ne", "texts": ["a", "b"]}
    await things.insert_one({**RAW, **values})
    document = MAPPER.from_legacy(stored({**RAW, **values}))
    for name in ("id", "owner", "createdAt", *values, "mood"):
        assert await things.count_documents(MAPPER.legacy_where({name: document[name]})) == 1, name
    assert await things.count_documents(MAPPER.legacy_where({"doc": {"$ne": 2}})) == 0
