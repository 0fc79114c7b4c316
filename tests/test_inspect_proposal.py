"""What is proposed for collections without a model: accepted by Prisma and by the configuration's checks, and able to hold
the documents that it was learned from."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest
import yaml
from bson import Decimal128, Int64, ObjectId, Timestamp
from bson.binary import Binary
from bson.datetime_ms import DatetimeMS
from hypothesis import given
from hypothesis import strategies as st

from adapters.documents.mapping import Mapper
from adapters.mongo.catalogue import LegacyIndex
from adapters.node import find_node
from config.load import load
from config.model import Config
from config.schema import DATAMODEL_FILE, Schema, load_schema
from examples.commands import run
from examples.databases import PRISMA
from proxy.migration.inspection.profile import Profile
from proxy.migration.inspection.proposal import Proposal, ProposedField, propose
from proxy.migration.inspection.proposed_names import entity_name, field_name, model_name
from proxy.migration.inspection.proposed_text import model_text
from proxy.migration.inspection.refusals import Judge
from tests.inspect_case import ENTITIES, NOW, Place, account, place

Raw = dict[str, Any]


def learned(*documents: Raw, indexes: tuple[LegacyIndex, ...] = (), name: str = "things") -> Proposal:
    proposal = proposed(*documents, indexes=indexes, name=name)
    assert isinstance(proposal, Proposal)
    return proposal


def proposed(*documents: Raw, indexes: tuple[LegacyIndex, ...] = (), name: str = "things") -> Proposal | str:
    profile = Profile()
    for document in documents:
        profile.add({"_id": ObjectId(), **document})
    return propose(name, profile, indexes, models=(), enums=(), entities=())


def judged(proposal: Proposal, raw: Raw) -> list[tuple[str, str]]:
    """What the proposed model cannot hold of the document."""
    schema = proposal.schema()
    found = Judge(proposal.as_entity(), schema.models[proposal.model], schema).read(raw)
    return [(fault.path, fault.reason) for fault in found] if isinstance(found, list) else []


def a(*values: Any) -> ProposedField:
    """What is proposed for a field with these values."""
    return next(its for its in learned(*({"a": value} for value in values)).fields if its.key == "a")


@pytest.mark.parametrize(
    ("values", "type", "legacy"),
    [
        (("x",), "String", None),
        ((ObjectId(),), "String", "objectId"),
        ((uuid4(),), "String", "uuid"),
        ((True,), "Boolean", None),
        ((1, 2**31 - 1), "Int", None),
        ((1, Int64(1)), "BigInt", None),
        ((1.0, 2.0), "Int", "double"),
        ((1.0, 2), "Int", None),
        ((2.0**40,), "BigInt", "double"),
        ((1.5, 2), "Float", None),
        ((float("nan"), 2.0), "Float", None),
        ((2.0**60,), "Float", None),
        ((Decimal128("1.5"), 1), "Decimal", None),
        ((NOW,), "DateTime", None),
        ((NOW, DatetimeMS(1 << 55)), "DateTime", None),
        ((Timestamp(1, 2),), "BigInt", "timestamp"),
        ((b"x",), "Bytes", None),
        ((Binary(b"x", 5),), "Json", None),
        (({"b": 1},), "Json", None),
        (("x", 1), "Json", None),
        ((None,), "Json", None),
        (([],), "Json", None),
        (([["x"]],), "Json", None),
        ((["x", None],), "Json", None),
        (([{"b": 1}],), "Json", None),
        (("x", ["x"]), "Json", None),
    ],
)
def test_types_are_those_that_were_seen(values: tuple[Any, ...], type: str, legacy: str | None) -> None:
    field = a(*values)
    assert (field.type, field.legacy, field.is_list) == (type, legacy, False)


def test_lists_of_one_type_are_lists() -> None:
    field = a([1, 2], [])
    assert (field.type, field.is_list, field.required) == ("Int", True, True)


@pytest.mark.parametrize(
    ("documents", "required"), [(({"a": 1}, {}), False), (({"a": 1}, {"a": None}), False), (({"a": 1},), True)]
)
def test_what_is_missing_or_null_somewhere_is_optional(documents: tuple[Raw, ...], required: bool) -> None:
    [_, field] = learned(*documents).fields
    assert field.required is required


def test_few_constants_that_come_again_are_an_enum() -> None:
    proposal = learned(*({"a": value} for value in ("DONE", "PENDING", "DONE", "DONE")))
    assert proposal.enums == {"ThingA": ("DONE", "PENDING")}
    assert a("ONE", "TWO", "THREE").type == "String"
    assert a("done", "done", "done").type == "String"


@pytest.mark.parametrize(
    ("id", "legacy"), [(ObjectId(), None), ("x", "string"), (7, "int32"), (Int64(7), "int64"), (uuid4(), "uuid")]
)
def test_keys_are_what_the_documents_have(id: Any, legacy: str | None) -> None:
    proposal = learned({"_id": id})
    assert proposal.settings().get("fields", {}).get("id", {}).get("legacy") == legacy
    assert judged(proposal, {"_id": id}) == []


def test_ids_that_are_no_keys_have_no_model() -> None:
    assert "a key is an ObjectId" in str(proposed({"_id": {"a": 1}}))
    assert "no documents" in str(propose("x", Profile(), [], models=(), enums=(), entities=()))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (2**31, "out of the range of Int, 32 bits"),
        (Int64(2**40), "out of the range of Int, 32 bits"),
        (1.5, "expected an integer, got a number with a fraction"),
        (float("nan"), "expected an integer, got a number with a fraction"),
        (Decimal128("NaN"), "expected an integer, got another decimal"),
        ("5", "expected an integer, got a string"),
        (None, "required, but missing or null"),
    ],
)
def test_what_was_not_seen_is_refused_with_its_reason(value: Any, reason: str) -> None:
    assert judged(learned({"a": 1}), {"_id": ObjectId(), "a": value}) == [("a", reason)]


def test_names_are_such_as_both_clients_accept() -> None:
    assert [model_name(name, ()) for name in ("users", "nft_owners", "categories", "String", "class", "2fa", "status")] == [
        "User", "NftOwner", "Category", "StringDocument", "ClassDocument", "Collection2fa", "Status",
    ]  # fmt: skip
    assert model_name("users", {"User"}) == "User2"
    assert [entity_name(name, ()) for name in ("nftOwners", "audit-log", "99")] == [
        "nft_owner",
        "audit_log",
        "collection_99",
    ]
    names = [
        field_name(key, ()) for key in ("ok", "first name", "1st", "copy", "from", "order_by", "имя", "_x", "model_x")
    ]
    assert names == [
        "ok",
        "firstName",
        "field1st",
        "copyValue",
        "fromValue",
        "order_byValue",
        "field",
        "x",
        "model_xValue",
    ]
    assert field_name("first-name", {"firstName"}) == "firstName2"


def test_indexes_become_attributes_and_the_rest_remarks() -> None:
    def index(name: str, *keys: tuple[str, int | str], **options: Any) -> LegacyIndex:
        return LegacyIndex(name, keys, **options)

    proposal = learned(
        {"a": "x", "b": "y", "at": NOW, "doc": {}, "list": ["x"]},
        indexes=(
            index("_id_", ("_id", 1), unique=True),
            index("one", ("a", 1), unique=True),
            index("two", ("a", 1), ("b", -1), unique=True),
            index("three", ("b", 1)),
            index("again", ("b", -1)),
            index("old", ("at", 1), ttl=60.0),
            index("words", ("a", "text")),
            index("some", ("b", 1), unique=True, partial=True),
            index("inside", ("doc.x", 1)),
            index("many", ("list", 1)),
            index("hash", ("b", "hashed")),
        ),
    )
    assert [its.name for its in proposal.fields if its.unique] == ["a"]
    lines = [line.strip() for line in model_text(proposal, {}).splitlines() if line.strip().startswith("@@")]
    expected = ["@@unique([a, b])", "@@index([b])", "@@index([at])", "@@index([b], type: Hash)", '@@map("things")']
    assert lines == expected
    assert [remark.split(":")[0] for remark in proposal.remarks] == [
        "old deletes documents after 60 s", "no index for words", "no index for some", "no index for inside",
        "no index for many",
    ]  # fmt: skip


PLAIN: Final = st.dictionaries(
    st.sampled_from("abcdef"),
    st.none()
    | st.booleans()
    | st.integers(-(2**31), 2**31 - 1)
    | st.integers(-(2**53), 2**53).map(Int64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["DONE", "PENDING", "done", "", NOW, ObjectId(), Timestamp(1, 1), b"x", uuid4()])
    | st.lists(st.integers(-5, 5) | st.none() | st.text("xyz"), max_size=3)
    | st.dictionaries(st.sampled_from("xy"), st.integers(0, 9), max_size=2),
)


@given(st.lists(PLAIN, min_size=1, max_size=8))
def test_a_model_holds_what_it_was_learned_from(documents: list[Raw]) -> None:
    whole = [{"_id": ObjectId(), **document} for document in documents]
    proposal = learned(*whole)
    assert [judged(proposal, document) for document in whole] == [[]] * len(whole)


# On a real mongod, for the official tools

HEADER: Final = """
generator client {
  provider = "prisma-client-js"
  output   = "./client"
}

generator python {
  provider                    = "python -m adapters.generator"
  output                      = "./prisma_proposed"
  interface                   = "asyncio"
  recursive_type_depth        = -1
  enable_experimental_decimal = true
}

datasource db {
  provider = "postgresql"
}
"""
COLLECTIONS: Final[Mapping[str, list[Raw]]] = {
    "users": [
        {"walletAddress": f"0x{number}", "nick": None, "role": ("ADMIN", "USER")[number % 2], "createdAt": NOW,
         "updatedAt": NOW, "visits": number, "score": 1.5, "tags": ["x"], "settings": {"dark": True}, "__v": 0,
         "first name": "x", "1st": 1, "copy": True, "from": "here", "a.b": 1, "$c": 2, "имя": "x", "type": "x"}
        for number in range(6)
    ],
    "order-items": [{"_id": f"item-{number}", "price": Decimal128("1.50"), "at": NOW, "n": Int64(5)} for number in range(4)],
    "2fa": [{"_id": number, "secret": b"x", "id": "an id beside _id", "mixed": (1, "x", None)[number]} for number in range(3)],
    "class": [{"_id": uuid4(), "list": [], "nothing": None, "roles": ["A_A", "B_B", "A_A", "B_B"]}],
    "odd": [{"_id": ObjectId(), "text": "n\0ul", "when": DatetimeMS(1 << 55), "stamp": Timestamp(5, 1)}],
}  # fmt: skip


@pytest.fixture(scope="module")
async def here(module_mongo_database: str) -> AsyncIterator[Place]:
    async with place(module_mongo_database) as found:
        for name, documents in COLLECTIONS.items():
            await found.database[name].insert_many(documents)
        users = found.database["users"]
        await users.create_index({"walletAddress": 1}, unique=True)
        await users.create_index({"role": 1, "createdAt": -1})
        await users.create_index({"first name": "hashed"})
        await users.create_index({"settings.dark": 1})
        await users.create_index({"nick": "text"})
        yield found


@dataclass(frozen=True, slots=True)
class Accepted:
    """The reports of all the collections, and what the official tools and our loader made of their proposals."""

    reports: Mapping[str, Mapping[str, Any]]
    schema: Schema
    config: Config


@pytest.fixture(scope="module")
async def accepted(here: Place, tmp_path_factory: pytest.TempPathFactory) -> Accepted:
    """Raises CommandFailed for a model that Prisma, or the generator of the Python client, does not take; ConfigError for
    an entry that our checks do not."""
    reports = {found["collection"]: found for found in (await here.inspected(*COLLECTIONS))["collections"]}
    folder = tmp_path_factory.mktemp("proposed")
    own = [found["proposed"] for found in reports.values()]
    schema_file = folder / "schema.prisma"
    schema_file.write_text("\n".join([HEADER, *(each["model"] for each in own)]))
    (folder / "node_modules").symlink_to(PRISMA / "node_modules")
    python = {"STRANGLER_PYTHON": sys.executable}
    generate: list[str | os.PathLike[str]] = [find_node(), PRISMA / "generate.mjs", f"--schema={schema_file}"]
    await run(generate, cwd=PRISMA, env=python, seconds=90)
    schema = load_schema(folder / "prisma_proposed" / DATAMODEL_FILE)
    shutil.rmtree(folder / "client")
    entities: Raw = {}
    for each in own:
        entities |= yaml.safe_load(each["config"])["entities"]
    return Accepted(reports, schema, _loaded(folder / "proposed.yaml", entities, schema))


def _loaded(file: Path, entities: Raw, schema: Schema) -> Config:
    file.write_text(yaml.safe_dump({"upstreams": {}, "entities": entities}))
    return load(file, {}, schema, list(COLLECTIONS))


def test_prisma_and_the_configuration_accept_what_is_proposed(accepted: Accepted) -> None:
    names = {its.collection: its.model for its in accepted.config.entities.values()}
    assert names == {
        "users": "User", "order-items": "OrderItem", "2fa": "Collection2fa", "class": "ClassDocument", "odd": "Odd",
    }  # fmt: skip
    user = accepted.schema.models["User"]
    told = {field.name: (field.type, field.required, field.is_list) for field in user.stored()}
    assert told == {
        "id": ("String", True, False),
        "walletAddress": ("String", True, False),
        "nick": ("Json", False, False),
        "role": ("UserRole", True, False),
        "createdAt": ("DateTime", True, False),
        "updatedAt": ("DateTime", True, False),
        "visits": ("Int", True, False),
        "score": ("Float", True, False),
        "tags": ("String", True, True),
        "settings": ("Json", True, False),
        "firstName": ("String", True, False),
        "field1st": ("Int", True, False),
        "copyValue": ("Boolean", True, False),
        "fromValue": ("String", True, False),
        "field": ("String", True, False),
        "type": ("String", True, False),
    }
    assert user.uniques == (("walletAddress",),)
    assert accepted.schema.enums["UserRole"] == ("ADMIN", "USER")


async def test_what_is_proposed_holds_what_is_there(accepted: Accepted, here: Place) -> None:
    """Through the loaded configuration and the generated data model, as a running proxy would have it."""
    for entity in accepted.config.entities.values():
        if entity.collection == "odd":
            continue
        mapper = Mapper(entity, accepted.schema.models[entity.model], accepted.schema)
        async for raw in here.database[entity.collection].find():
            document = mapper.from_legacy(raw)
            assert mapper.from_legacy(mapper.to_legacy(document)) == document
            assert mapper.sql_row(document).keys() == {field.column for field in mapper.model.stored()}


def test_what_no_model_holds_is_told_of_the_proposed_one_too(accepted: Accepted) -> None:
    reasons = accepted.reports["odd"]["refused"]["reasons"]
    assert {(one["path"], one["reason"]) for one in reasons} == {
        ("text", "holds the character NUL"),
        ("when", "a date out of the range 0001 to 9999"),
    }
    assert accepted.reports["users"]["refused"]["documents"] == 0


def test_what_is_left_out_is_said(accepted: Accepted) -> None:
    model = accepted.reports["users"]["proposed"]["model"]
    for remark in (
        "left out: __v",
        "left out: a.b",
        "left out: $c",
        "no index for settings.dark_1",
        "no index for nick_text",
    ):
        assert remark in model


async def test_what_ids_may_refer_to_is_guessed(here: Place) -> None:
    owners = [account(f"w{number}") for number in range(4)]
    await here.database["accounts"].insert_many(owners)
    await here.database["badges"].insert_many([{"ownerId": owner["_id"], "other": ObjectId()} for owner in owners])
    model = (await here.one("badges"))["proposed"]["model"]
    [owner] = [line for line in model.splitlines() if "ownerId" in line]
    assert "100% of its values are in accounts: owner Account @relation(fields: [ownerId], references: [id])" in owner
    [other] = [line for line in model.splitlines() if line.strip().startswith("other")]
    assert "//" not in other


async def test_a_collection_that_overlaps_an_entity_may_be_a_further_source_of_it(here: Place) -> None:
    """What is proposed then is what the configuration takes and the collection holds."""
    owners = [account(f"0y{number}") for number in range(4)]
    people = [{"wallet": f"0y{number}", "createdAt": NOW, "nick": "x"} for number in range(2, 8)]
    await here.database["accounts"].insert_many(owners)
    await here.database["people"].insert_many(people)
    await here.database["people"].create_index({"wallet": 1}, unique=True)
    text = (await here.one("people"))["proposed"]["config"]
    said, *lines = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("#")]
    assert said == "2 of 6 values of wallet are in accounts: instead, it may be a further source of account"
    [also] = yaml.safe_load("\n".join(lines))["also"]
    rules = {"walletAddress": {"from": "wallet"}}
    assert also == {"collection": "people", "by": "walletAddress", "fields": rules, "lacks": ["updatedAt"]}
    entities = {**ENTITIES, "account": {**ENTITIES["account"], "legacy": {"via": "endpoint"}, "also": [also]}}
    found = (await here.inspected("account", entities=entities))["collections"]
    assert [(one["collection"], one["refused"]["documents"]) for one in found] == [("accounts", 0), ("people", 0)]
    assert "further source" not in (await here.one("users"))["proposed"]["config"]


async def test_strings_are_in_it_only_where_they_are_constants(here: Place) -> None:
    report = json.dumps(await here.inspected("users"))
    assert "ADMIN" in report
    assert "0x1" not in report
