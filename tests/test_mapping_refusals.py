"""What no field of the model can hold is refused with its path and the reason, and never written."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId, Timestamp
from bson.binary import Binary
from bson.code import Code
from bson.datetime_ms import DatetimeMS

from adapters.documents.mapping import Mapper, RuleError
from adapters.side import Invalid
from tests.mapping_case import EVERYTHING, HEX, RULES, cents_to_legacy, field, mapper_of

MAPPER = mapper_of(*EVERYTHING, rules=RULES)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
RAW: dict[str, Any] = {"_id": ObjectId(HEX), "owner": ObjectId(HEX), "createdAt": NOW, "updatedAt": NOW}
NAN, INFINITY = float("nan"), float("inf")


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


FROM_LEGACY: list[tuple[dict[str, Any], str, str]] = [
    ({"text": 5}, "text", "expected a string, got an integer"),
    ({"text": {"$ne": None}}, "text", "expected a string, got an object"),
    ({"text": ObjectId(HEX)}, "text", "expected a string, got a value of type ObjectId"),
    ({"text": Code("x")}, "text", "expected a string, got a string"),
    ({"text": "a\0b"}, "text", "holds the character NUL"),
    ({"text": "\ud800"}, "text", "holds half of a surrogate pair"),
    ({"_id": HEX}, "_id", "expected an ObjectId, got a string"),
    ({"_id": None}, "_id", "expected an ObjectId, got null|required"),
    ({"owner": HEX}, "owner", "expected an ObjectId, got a string"),
    ({"owner": None}, "owner", "required, but missing or null"),
    ({"createdAt": None}, "createdAt", "required, but missing or null"),
    ({"int": True}, "int", "expected an integer, got a boolean"),
    ({"int": "5"}, "int", "expected an integer, got a string"),
    ({"int": 1.5}, "int", "got a number with a fraction"),
    ({"int": NAN}, "int", "got a number with a fraction"),
    ({"int": 2**31}, "int", "out of the range of Int, 32 bits"),
    ({"int": -(2**31) - 1}, "int", "out of the range of Int, 32 bits"),
    ({"int": Int64(2**40)}, "int", "out of the range of Int, 32 bits"),
    ({"big": 2.0**63}, "big", "out of the range of BigInt, 64 bits"),
    ({"big": Decimal128("1.5")}, "big", "expected an integer, got another decimal"),
    ({"float": True}, "float", "expected a number, got a boolean"),
    ({"float": Int64(2**53 + 1)}, "float", "an integer that a double cannot hold exactly"),
    ({"float": Decimal128("1.5")}, "float", "expected a number, got a value of type Decimal128"),
    ({"decimal": Decimal128("NaN")}, "decimal", "not a finite decimal"),
    ({"decimal": Decimal128("-Infinity")}, "decimal", "not a finite decimal"),
    ({"decimal": Decimal128("1E-31")}, "decimal", "more than 30 digits after the point"),
    ({"decimal": Decimal128("1E+35")}, "decimal", "more than 35 digits before the point"),
    ({"decimal": INFINITY}, "decimal", "not a finite decimal"),
    ({"decimal": "1"}, "decimal", "expected a decimal, got a string"),
    ({"flag": 1}, "flag", "expected a boolean, got an integer"),
    ({"at": "2026-01-01"}, "at", "expected a date, got a string"),
    ({"at": 0}, "at", "expected a date, got an integer"),
    ({"at": DatetimeMS(2**60)}, "at", "a date out of the range 0001 to 9999"),
    ({"at": datetime(2026, 1, 1)}, "at", "a date without a time zone"),
    ({"bytes": Binary(b"x", 5)}, "bytes", "expected binary of subtype 0, got subtype 5"),
    ({"bytes": "x"}, "bytes", "expected bytes, got a string"),
    ({"mood": "ANGRY"}, "mood", "expected one of HAPPY, SAD"),
    ({"mood": 1}, "mood", "expected a string, got an integer"),
    ({"token": Binary(b"x" * 16, 0)}, "token", "expected a UUID"),
    ({"ints": 5}, "ints", "expected a list, got an integer"),
    ({"ints": [1, None]}, "ints.1", "null in a list of scalars"),
    ({"ints": [1, 2, "x"]}, "ints.2", "expected an integer, got a string"),
    ({"docs": [{}, {"a": [{"$oid": "x"}]}]}, "docs.1.a.0", "would be read as Extended JSON"),
    ({"doc": {"a": {"$date": "2026-01-01"}}}, "doc.a", "would be read as Extended JSON"),
    ({"doc": {"$numberLong": 1}}, "doc", "would be read as Extended JSON"),
    ({"doc": {"a": [0, "x\0"]}}, "doc.a.1", "holds the character NUL"),
    ({"doc": {"a\0": 1}}, "doc.a\0", "holds the character NUL"),
    ({"doc": nested(101)}, "doc" + ".0" * 100, "nested deeper than 100 levels"),
    ({"profile": 5}, "profile.bio", "expected an object, got an integer at profile"),
    ({"profile": {"bio": 5}}, "profile.bio", "expected a string, got an integer"),
    ({"location": {"coordinates": "x"}}, "location.coordinates.0", "expected an object, got a string"),
    ({"location": {"coordinates": [1.5, "x"]}}, "location.coordinates.1", "expected a number, got a string"),
    ({"name": 5}, "name", "expected a string, got an integer"),
    ({"cents": "x"}, "cents", r"its function could not convert it \(InvalidOperation\)"),
]


@pytest.mark.parametrize(("change", "path", "reason"), FROM_LEGACY, ids=[f"{c[1][:20]} {c[2]}" for c in FROM_LEGACY])
def test_what_a_collection_holds(change: dict[str, Any], path: str, reason: str) -> None:
    with pytest.raises(Invalid, match=reason) as refused:
        MAPPER.from_legacy({**RAW, **change})
    assert refused.value.field == path


@pytest.mark.parametrize("missing", ["_id", "owner", "createdAt"])
def test_a_default_does_not_stand_in_for_what_a_collection_lacks(missing: str) -> None:
    raw = {name: value for name, value in RAW.items() if name != missing}
    with pytest.raises(Invalid, match=f"^{missing}: required, but missing or null$"):
        MAPPER.from_legacy(raw)


def test_json_as_deep_as_mongodb_allows_is_no_trouble() -> None:
    assert MAPPER.from_legacy({**RAW, "doc": nested(100)})["doc"] == nested(100)


TO_LEGACY: list[tuple[dict[str, Any], str, str]] = [
    ({"id": "xyz"}, "id", "expected 24 lower-case hex digits"),
    ({"id": HEX.upper()}, "id", "expected 24 lower-case hex digits"),
    ({"owner": {"$ne": None}}, "owner", "expected 24 lower-case hex digits, got an object"),
    ({"text": {"$gt": ""}}, "text", "expected a string, got an object"),
    ({"int": {"$inc": 1}}, "int", "expected an integer, got an object"),
    ({"int": True}, "int", "expected an integer, got a boolean"),
    ({"mood": "ANGRY"}, "mood", "expected one of"),
    ({"token": "not-a-uuid"}, "token", "expected a UUID"),
    ({"token": "0E0E0E0E-0E0E-4E0E-8E0E-0E0E0E0E0E0E"}, "token", "expected a UUID in lower case"),
    ({"decimal": Decimal("1" * 35)}, "decimal", "more than the 34 digits of a Decimal128"),
    ({"decimal": 1.5}, "decimal", "expected a decimal, got a number"),
    ({"at": datetime(2026, 1, 1)}, "at", "a date without a time zone"),
    ({"texts": ["a", None]}, "texts.1", "null in a list"),
    ({"texts": "a"}, "texts", "expected a list, got a string"),
    ({"doc": {"a": {"$oid": "x"}}}, "doc.a", r"not a well-formed \$oid"),
    ({"doc": {"$date": 5}}, "doc", r"not a well-formed \$date"),
    ({"doc": {"$numberLong": str(2**63)}}, "doc", r"not a well-formed \$numberLong"),
    ({"doc": {"$binary": {"base64": "%", "subType": "00"}}}, "doc", r"not a well-formed \$binary"),
    ({"doc": [NAN]}, "doc.0", "not a finite number"),
    ({"doc": [Decimal(1)]}, "doc.0", "JSON has no word for"),
    ({"doc": [10**400]}, "doc.0", "out of the range of a double"),
    ({"first": None, "last": "Lovelace"}, "first", "a part of a split string is missing"),
    ({"first": "Ada M.", "last": "Lovelace"}, "first", "a part of a split string holds the separator"),
]


@pytest.mark.parametrize(
    ("change", "path", "reason"),
    TO_LEGACY,
    ids=[f"{c[1]} {c[2]}" for c in TO_LEGACY],
)
def test_what_a_canonical_document_holds(change: dict[str, Any], path: str, reason: str) -> None:
    document = {**MAPPER.from_legacy(RAW), **change}
    with pytest.raises(Invalid, match=reason) as refused:
        MAPPER.to_legacy(document)
    assert refused.value.field == path


@pytest.mark.parametrize(
    ("where", "path", "reason"),
    [
        ({"id": {"$ne": None}}, "id", "expected 24 lower-case hex digits, got an object"),
        ({"owner": {"$exists": True}}, "owner", "expected 24 lower-case hex digits, got an object"),
        ({"text": {"$regex": ".*"}}, "text", "expected a string, got an object"),
        ({"first": "Ada"}, "first", "a part of a legacy string cannot be asked for"),
        ({"$where": "1"}, "$where", "no such field"),
        ({"__v": 1}, "__v", "no such field"),
    ],
)
def test_no_operator_gets_into_a_filter(where: dict[str, Any], path: str, reason: str) -> None:
    with pytest.raises(Invalid, match=reason) as refused:
        MAPPER.legacy_where(where)
    assert refused.value.field == path
    if path not in ("first",):
        with pytest.raises(Invalid):
            MAPPER.to_row(where)


def test_a_filter_holds_equalities_only() -> None:
    where = {"id": HEX, "bio": "x", "int": 5, "texts": ["a"], "mood": None, "doc": {"$date": "2026-01-01T00:00:00Z"}}
    assert MAPPER.legacy_where(where) == {
        "_id": {"$eq": ObjectId(HEX)},
        "profile.bio": {"$eq": "x"},
        "int": {"$eq": 5},
        "texts": {"$eq": ["a"]},
        "mood": {"$eq": None},
        "doc": {"$eq": NOW},
    }
    assert MAPPER.legacy_order([("createdAt", True), ("bio", False)]) == [("createdAt", -1), ("profile.bio", 1)]


def test_a_key_that_is_none_is_refused() -> None:
    for key in ("", "5", HEX + "0", HEX.upper()):
        with pytest.raises(Invalid, match=r"^id: expected 24 lower-case hex digits$"):
            MAPPER.legacy_key(key)


def reverse(value: Any) -> Any:
    return value


NOT_A_FUNCTION = 5

RULES_REFUSED: list[tuple[dict[str, dict[str, Any]], str, str]] = [
    ({"txt": {}}, "txt", "model Thing has no such field; expected one of id, text, int"),
    ({"text": {"legacy": "date"}}, "text", "a field of type String cannot be date; expected int32, int64, objectId"),
    ({"doc": {"legacy": "string"}}, "doc", "a field of type Json cannot be string; expected none, it is embedded"),
    ({"text": {"from": "a..b"}}, "text", "is no path"),
    ({"text": {"from": "$a"}}, "text", "is no path"),
    ({"text": {"from": "0.a"}}, "text", "is no path"),
    ({"text": {"body": "a."}}, "text", "is no path"),
    ({"text": {"from": "int"}}, "text", "its place int is at, inside or around that of int, int"),
    ({"text": {"from": "doc.text"}}, "text", "its place doc.text is at, inside or around that of doc, doc"),
    ({"text": {"from": "_id"}}, "text", "its place _id is at, inside or around that of id, _id"),
    ({"int": {"split": {"by": " ", "part": 0}}}, "int", "only a string can be split"),
    ({"text": {"from": "n", "split": {"by": " ", "part": 1}}}, "text", "the parts of n are not each one field"),
    (
        {
            "text": {"from": "n", "split": {"by": " ", "part": 0}},
            "more": {"from": "n", "split": {"by": "-", "part": 1}},
        },
        "text",
        "split by the same",
    ),
    ({"text": {"functions": {"to_prisma": "nowhere:f", "to_legacy": "nowhere:f"}}}, "text", "no function nowhere:f"),
    (
        {"text": {"functions": {"to_prisma": f"{__name__}:nope", "to_legacy": f"{__name__}:reverse"}}},
        "text",
        "there is no function",
    ),
    (
        {"text": {"functions": {"to_prisma": f"{__name__}:NOT_A_FUNCTION", "to_legacy": f"{__name__}:reverse"}}},
        "text",
        "is no function",
    ),
    (
        {
            "text": {
                "legacy": "string",
                "functions": {"to_prisma": f"{__name__}:reverse", "to_legacy": f"{__name__}:reverse"},
            }
        },
        "text",
        "has functions beside split or legacy",
    ),
]


@pytest.mark.parametrize(("rules", "name", "reason"), RULES_REFUSED, ids=[case[2] for case in RULES_REFUSED])
def test_a_rule_that_cannot_be_followed(rules: dict[str, dict[str, Any]], name: str, reason: str) -> None:
    fields = (field("text", "String"), field("int", "Int"), field("doc", "Json"), field("more", "String"))
    with pytest.raises(RuleError, match=re.escape(reason)) as refused:
        mapper_of(*fields, rules=rules)
    assert refused.value.field == name


def test_a_key_is_one_text() -> None:
    with pytest.raises(
        RuleError, match=r"^id: the id of model Thing is \(id Int\); expected one field of type String$"
    ):
        mapper_of(field("id", "Int", id=True, required=True))
    with pytest.raises(RuleError, match=r"^a: the id of model Thing is \(a String, b String\); expected one field"):
        mapper_of(field("a", "String", id=True, required=True), field("b", "String", id=True, required=True))


def test_a_key_in_a_place_and_form_of_its_own() -> None:
    mapper = mapper_of(
        field("id", "String", id=True, required=True),
        rules={"id": {"from": "meta.uid", "legacy": "uuid", "body": "uid"}},
    )
    key = "0e0e0e0e-0e0e-4e0e-8e0e-0e0e0e0e0e0e"
    raw: dict[str, Any] = {"_id": 1, "meta": {"uid": Binary(bytes.fromhex(key.replace("-", "")), 4), "x": 1}}
    assert mapper.key_of(raw) == key
    assert mapper.legacy_key(key) == raw["meta"]["uid"]
    assert (mapper.key_path, mapper.body_name("id")) == ("meta.uid", "uid")
    assert mapper.legacy_changes(raw, {"id": key}) == ({}, {})


NATIVE: list[tuple[str, tuple[str, ...], Any, str]] = [
    ("String", ("VarChar", "3"), "abcd", "longer than 3 characters"),
    ("Int", ("SmallInt",), 2**15, "out of the range of SmallInt"),
    ("Decimal", ("Decimal", "5", "2"), Decimal128("1.234"), "more than 2 digits after the point"),
    ("Decimal", ("Decimal", "5", "2"), Decimal128("1234"), "more than 3 digits before the point"),
]


@pytest.mark.parametrize(("type", "native", "value", "reason"), NATIVE)
def test_what_its_column_cannot_hold(type: str, native: tuple[str, ...], value: Any, reason: str) -> None:
    with pytest.raises(Invalid, match=reason):
        mapper_of(field("x", type, native=native)).from_legacy({"_id": ObjectId(HEX), "x": value})


@pytest.mark.parametrize(
    ("type", "native", "value"),
    [
        ("String", ("VarChar", "3"), "äöü"),
        ("Int", ("SmallInt",), -(2**15)),
        ("Decimal", ("Decimal", "5", "2"), Decimal128("123.45")),
        ("Decimal", ("Decimal", "5", "2"), Decimal128("123.4500")),
        ("Decimal", ("Decimal", "5", "2"), Decimal128("0E-50")),
    ],
)
def test_what_its_column_can_hold(type: str, native: tuple[str, ...], value: Any) -> None:
    mapper_of(field("x", type, native=native)).from_legacy({"_id": ObjectId(HEX), "x": value})


WRITTEN: list[tuple[str, str, Any, Any]] = [
    ("String", "int32", "5", 5),
    ("String", "int64", "5", Int64(5)),
    ("Int", "int64", 5, Int64(5)),
    ("Int", "double", 5, 5.0),
    ("Int", "string", 5, "5"),
    ("Int", "decimal128", 5, Decimal128("5")),
    ("BigInt", "int32", 2**40, 2**40),
    ("BigInt", "double", 2**40, 2.0**40),
    ("BigInt", "string", 2**62, str(2**62)),
    ("BigInt", "timestamp", 5 << 32 | 7, Timestamp(5, 7)),
    ("Float", "int32", 5.0, 5),
    ("Float", "decimal128", 1.5, Decimal128("1.5")),
    ("Decimal", "double", Decimal("1.5"), 1.5),
    ("Decimal", "string", Decimal("1.50"), "1.50"),
    ("Decimal", "int64", Decimal("5"), Int64(5)),
    ("DateTime", "string", NOW, "2026-01-01T00:00:00.000Z"),
    ("DateTime", "int64", NOW, Int64(1767225600000)),
    ("DateTime", "double", NOW, 1767225600000.0),
    ("DateTime", "timestamp", NOW, Timestamp(1767225600, 0)),
]


@pytest.mark.parametrize(("type", "legacy", "canonical", "raw"), WRITTEN)
def test_declared_bson_types(type: str, legacy: str, canonical: Any, raw: Any) -> None:
    mapper = mapper_of(field("x", type), rules={"x": {"legacy": legacy}})
    written = mapper.to_legacy({"id": HEX, "x": canonical})
    assert written == {"_id": ObjectId(HEX), "x": raw}
    assert written["x"].__class__ is raw.__class__
    assert mapper.from_legacy(written) == {"id": HEX, "x": canonical}


UNWRITABLE: list[tuple[str, str, Any, str]] = [
    ("String", "int32", "05", "expected an integer in decimal digits"),
    ("String", "int32", str(2**31), "out of the range of 32 bits"),
    ("String", "int64", "x", "expected an integer in decimal digits"),
    ("BigInt", "double", 2**53 + 1, "an integer that a double cannot hold exactly"),
    ("BigInt", "timestamp", -1, "a negative number is no BSON timestamp"),
    ("Float", "int32", 1.5, "not an integer within 64 bits"),
    ("Float", "int64", NAN, "not an integer within 64 bits"),
    ("Decimal", "double", Decimal("0.1000000000000000055511151231"), "a decimal that a double cannot hold"),
    ("Decimal", "int32", Decimal("1.5"), "not an integer within 64 bits"),
    ("DateTime", "timestamp", NOW.replace(microsecond=1000), "not a whole second from 1970 to 2106"),
]


@pytest.mark.parametrize(("type", "legacy", "canonical", "reason"), UNWRITABLE)
def test_what_a_declared_bson_type_cannot_hold(type: str, legacy: str, canonical: Any, reason: str) -> None:
    mapper: Mapper = mapper_of(field("x", type), rules={"x": {"legacy": legacy}})
    with pytest.raises(Invalid, match=f"^x: {reason}"):
        mapper.to_legacy({"id": HEX, "x": canonical})


def test_a_function_is_asked_about_what_is_missing_too() -> None:
    assert MAPPER.from_legacy(RAW)["price"] is None
    assert MAPPER.from_legacy({**RAW, "cents": 250})["price"] == Decimal("2.5")
    assert MAPPER.to_legacy({"id": HEX, "price": Decimal("2.5")})["cents"] == cents_to_legacy(Decimal("2.5"))
