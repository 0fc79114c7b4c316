"""The bodies of the old endpoint: what a request may say, what an answer looks like, and how both are read."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest
from bson import Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.binary import Binary
from bson.code import Code
from bson.datetime_ms import DatetimeMS
from bson.dbref import DBRef

from adapters.documents.mapping import Mapper
from adapters.documents.stringified import stringified
from adapters.side import Invalid
from config.schema import DefaultCall
from tests.mapping_case import EVERYTHING, HEX, RULES, field, mapper_of

NOW = datetime(2026, 1, 1, 12, 30, 0, 123000, tzinfo=UTC)
OTHER = "00000000000000000000000f"
MAPPER = mapper_of(*EVERYTHING, rules=RULES)
VIDEO = mapper_of(
    field("accountId", "String", required=True),
    field("jobId", "String", required=True, unique=True),
    field("mood", "Mood", required=True),
    field("title", "String"),
    field("isPublic", "Boolean", required=True, default=False),
    field("tags", "String", is_list=True, required=True),
    field("views", "BigInt", required=True, default="5"),
    field("rate", "Decimal", required=True, default="1.5"),
    field("settings", "Json", required=True, default='{"a": 1}'),
    field("since", "DateTime", required=True, default="2020-01-01T00:00:00Z"),
    field("moods", "Mood", is_list=True, required=True, default=("SAD",)),
    field("ref", "String", required=True, default=DefaultCall("uuid")),
    field("serial", "Int", required=True, default=DefaultCall("autoincrement")),
    field("createdAt", "DateTime", required=True, default=DefaultCall("now")),
    field("updatedAt", "DateTime", required=True, updated_at=True),
    rules={"accountId": {"legacy": "objectId", "body": "account"}, "title": {"body": "meta.title"}},
)
GIVEN = {"account": HEX, "jobId": "j", "mood": "SAD"}


def body(**said: Any) -> Any:
    """As it arrives: through JSON."""
    return orjson.loads(json.dumps({**GIVEN, **said}))


def test_a_body_becomes_a_document_by_the_names_that_bodies_use() -> None:
    document = VIDEO.from_body(body(meta={"title": "t"}, views=7, isPublic=True, tags=["a"]), partial=False)
    assert document == {
        "accountId": HEX,
        "jobId": "j",
        "mood": "SAD",
        "title": "t",
        "views": 7,
        "isPublic": True,
        "tags": ["a"],
    }


def test_unknown_fields_the_id_and_the_times_are_ignored() -> None:
    sent = body(_id=OTHER, id=OTHER, createdAt=5, updatedAt={"$gt": ""}, admin=True, **{"$set": {"jobId": "x"}})
    assert VIDEO.from_body(sent, partial=False) == VIDEO.from_body(body(), partial=False)


def test_accepts_says_which_fields_are_read() -> None:
    sent = body(_id=OTHER.upper(), createdAt="2026-01-01T12:30:00.1239Z", title="not read")
    assert VIDEO.from_body(sent, partial=False, accepts=["id", "createdAt"]) == {"id": OTHER, "createdAt": NOW}
    assert VIDEO.from_body(sent, partial=False, accepts=[]) == {}


def test_what_is_given_elsewhere_is_neither_read_nor_required() -> None:
    document = VIDEO.from_body({"jobId": "j", "account": "x"}, partial=False, given=["accountId", "mood"])
    assert document == {"jobId": "j"}


def test_an_update_needs_nothing_and_null_takes_away() -> None:
    assert VIDEO.from_body({}, partial=True) == {}
    assert VIDEO.from_body({"meta": {"title": None}}, partial=True) == {"title": None}
    assert VIDEO.from_body({"meta": None}, partial=True) == {}
    assert VIDEO.from_body({"tags": None}, partial=True) == {"tags": []}


REFUSED: list[tuple[Any, str, str]] = [
    ([], "body", "is not an object"),
    ("x", "body", "is not an object"),
    (None, "body", "is not an object"),
    ({}, "account", "is required"),
    ({"account": HEX, "jobId": "j"}, "mood", "is required"),
    (body(account=None), "account", "required, but missing or null"),
    (body(isPublic=None), "isPublic", "required, but missing or null"),
    (body(account={"$ne": None}), "account", "expected 24 hex digits"),
    (body(account=HEX[1:]), "account", "expected 24 hex digits"),
    (body(account=HEX + "\n"), "account", "expected 24 hex digits"),
    (body(jobId={"$gt": ""}), "jobId", "expected a string, got an object"),
    (body(jobId=["a"]), "jobId", "expected a string, got a list"),
    (body(jobId=5), "jobId", "expected a string, got an integer"),
    (body(jobId="a\0"), "jobId", "holds the character NUL"),
    (body(mood="ANGRY"), "mood", "expected one of HAPPY, SAD"),
    (body(mood={"$in": ["SAD"]}), "mood", "expected a string, got an object"),
    (body(isPublic="true"), "isPublic", "expected a boolean, got a string"),
    (body(isPublic=1), "isPublic", "expected a boolean, got an integer"),
    (body(views=1.5), "views", "expected an integer, got a number"),
    (body(views=True), "views", "expected an integer, got a boolean"),
    (body(views="1e3"), "views", "expected an integer in decimal digits"),
    (body(views=str(2**63)), "views", "out of the range of BigInt, 64 bits"),
    (body(rate="x"), "rate", "expected a decimal number"),
    (body(rate="NaN"), "rate", "not a finite decimal"),
    (body(rate={"$numberDecimal": "1"}), "rate", "expected a decimal number, got an object"),
    (body(since="yesterday"), "since", "expected an ISO 8601 date with a time zone"),
    (body(since="2026-01-01T00:00:00"), "since", "expected an ISO 8601 date with a time zone"),
    (body(since="2026-02-30"), "since", "expected an ISO 8601 date with a time zone"),
    (body(since={"$date": 0}), "since", "expected a date, got an object"),
    (body(since=1e300), "since", "a date out of the range 0001 to 9999"),
    (body(tags="a"), "tags", "expected a list, got a string"),
    (body(tags=["a", {"$ne": 1}]), "tags.1", "expected a string, got an object"),
    (body(tags=[None]), "tags.0", "null in a list of scalars"),
    (body(meta={"title": 5}), "meta.title", "expected a string, got an integer"),
    (body(meta="x"), "meta.title", "expected an object, got a string at meta"),
    (body(settings={"a": {"$oid": HEX}}), "settings.a", "would be read as Extended JSON"),
    (body(settings=["\0"]), "settings.0", "holds the character NUL"),
    (body(settings=None), "settings", "required, but missing or null"),
]


@pytest.mark.parametrize(("sent", "name", "reason"), REFUSED, ids=[f"{case[1]} {case[2]}" for case in REFUSED])
def test_a_body_that_cannot_be(sent: Any, name: str, reason: str) -> None:
    with pytest.raises(Invalid, match=reason) as refused:
        VIDEO.from_body(sent, partial=False)
    assert refused.value.field == name


ACCEPTED: list[tuple[str, Any, Any]] = [
    ("views", 2**62, 2**62),
    ("views", "-7", -7),
    ("views", 7.0, 7),
    ("rate", 1, Decimal(1)),
    ("rate", 0.1, Decimal("0.1")),
    ("rate", "0.10", Decimal("0.1")),
    ("since", "2026-01-01", datetime(2026, 1, 1, tzinfo=UTC)),
    ("since", "2026-01-01T12:30:00.123999Z", NOW),
    ("since", "2026-01-01T14:30:00.123+02:00", NOW),
    ("since", 1767270600123, NOW),
    ("settings", {"$ne": None, "a": [1.0, {"b": None}]}, {"$ne": None, "a": [1, {"b": None}]}),
    ("settings", 2**60 + 1, float(2**60)),
    ("settings", "text", "text"),
]


@pytest.mark.parametrize(("name", "value", "canonical"), ACCEPTED)
def test_a_value_in_its_json_form(name: str, value: Any, canonical: Any) -> None:
    read = VIDEO.from_body(body(**{name: value}), partial=False)[name]
    assert read == canonical
    assert type(read) is type(canonical)


def test_split_and_nested_fields_of_a_body_are_where_the_collection_has_them() -> None:
    sent = {"name": "Ada King Lovelace", "profile": {"bio": "x"}, "location": {"coordinates": [1, 2.5]}, "cents": 250}
    read = MAPPER.from_body(sent, partial=True)
    assert read == {
        "first": "Ada",
        "last": "King Lovelace",
        "bio": "x",
        "lng": 1.0,
        "lat": 2.5,
        "price": Decimal("2.5"),
    }
    assert MAPPER.to_body(read) == sent


def test_a_shorter_string_takes_the_last_parts_away() -> None:
    assert MAPPER.from_body({"name": "Ada"}, partial=True) == {"first": "Ada", "last": None}
    assert MAPPER.from_body({"name": None}, partial=True) == {"first": None, "last": None}
    assert MAPPER.from_body({}, partial=True) == {}
    raw = {"_id": ObjectId(HEX), "owner": ObjectId(HEX), "name": "Ada Lovelace", "createdAt": NOW, "updatedAt": NOW}
    changed = {**MAPPER.from_legacy(raw), "last": None}
    assert MAPPER.legacy_changes(raw, changed) == ({"name": "Ada"}, {})


def test_a_split_field_with_a_name_of_its_own_in_bodies_is_whole_there() -> None:
    split = {"by": " ", "part": 0}
    mapper = mapper_of(
        field("first", "String"),
        field("last", "String"),
        rules={
            "first": {"from": "name", "split": split, "body": "firstName"},
            "last": {"from": "name", "split": {**split, "part": 1}, "body": "lastName"},
        },
    )
    assert mapper.from_body({"firstName": "Ada", "lastName": "L"}, partial=True) == {"first": "Ada", "last": "L"}
    assert mapper.to_body({"first": "Ada", "last": "L"}) == {"firstName": "Ada", "lastName": "L"}
    assert mapper.to_legacy({"id": HEX, "first": "Ada", "last": "L"}) == {"_id": ObjectId(HEX), "name": "Ada L"}


JAVASCRIPT: list[tuple[Any, Any]] = [
    (NOW, "2026-01-01T12:30:00.123Z"),
    (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000Z"),
    (DatetimeMS(8 * 10**15), "+255479-11-28T14:13:20.000Z"),
    (DatetimeMS(-7 * 10**13), "-000249-10-15T19:33:20.000Z"),
    (DatetimeMS(-62135596800000 - 86400000 * 400), "-000001-11-28T00:00:00.000Z"),
    (DatetimeMS(2**60), None),
    (ObjectId(HEX), HEX),
    (Int64(5), 5),
    (Int64(9007199254740995), {"low": 3, "high": 2097152, "unsigned": False}),
    (Int64(-(2**63)), {"low": 0, "high": -2147483648, "unsigned": False}),
    (Int64(-(2**53) - 1), {"low": -1, "high": -2097153, "unsigned": False}),
    (5.0, 5),
    (-0.0, 0),
    (0.1, 0.1),
    (1e300, 1e300),
    (float("nan"), None),
    (float("-inf"), None),
    (Decimal128("1.50"), {"$numberDecimal": "1.50"}),
    (b"hi", "aGk="),
    (Binary(b"hi", 128), "aGk="),
    (Binary(bytes.fromhex("0e0e0e0e0e0e4e0e8e0e0e0e0e0e0e0e"), 4), "0e0e0e0e-0e0e-4e0e-8e0e-0e0e0e0e0e0e"),
    (Regex("a", "i"), {}),
    (Timestamp(5, 1), {"$timestamp": "21474836481"}),
    (Code("f()"), {"code": "f()"}),
    (Code("f()", {"a": 1}), {"code": "f()", "scope": {"a": 1}}),
    (MinKey(), {}),
    (MaxKey(), {}),
    (DBRef("x", ObjectId(HEX)), {"$ref": "x", "$id": HEX}),
    ({"a": [NOW, {"b": None}]}, {"a": ["2026-01-01T12:30:00.123Z", {"b": None}]}),
]


@pytest.mark.parametrize(("value", "printed"), JAVASCRIPT, ids=[repr(case[0])[:40] for case in JAVASCRIPT])
def test_a_bson_value_is_printed_as_the_drivers_for_node_print_it(value: Any, printed: Any) -> None:
    assert stringified(value) == printed
    assert type(stringified(value)) is type(printed)


def test_a_document_as_the_old_endpoint_answered_it() -> None:
    document = {
        "id": HEX,
        "accountId": OTHER,
        "jobId": "j",
        "mood": "SAD",
        "title": "t",
        "isPublic": False,
        "tags": [],
        "views": 2**60,
        "rate": Decimal("1.5"),
        "settings": {"at": {"$date": "2026-01-01T12:30:00.123Z"}, "by": {"$oid": OTHER}, "n": {"$numberDouble": "NaN"}},
        "since": NOW,
        "serial": None,
    }
    answer = VIDEO.to_body(document)
    assert answer == {
        "_id": HEX,
        "account": OTHER,
        "jobId": "j",
        "mood": "SAD",
        "meta": {"title": "t"},
        "isPublic": False,
        "tags": [],
        "views": {"low": 0, "high": 268435456, "unsigned": False},
        "rate": {"$numberDecimal": "1.5"},
        "settings": {"at": "2026-01-01T12:30:00.123Z", "by": OTHER, "n": None},
        "since": "2026-01-01T12:30:00.123Z",
    }
    read = VIDEO.document_from_answer(answer)
    absent: dict[str, Any] = {"moods": [], "ref": None, "createdAt": None, "updatedAt": None}
    settings = {"settings": {"at": "2026-01-01T12:30:00.123Z", "by": OTHER, "n": None}}
    assert read == {**document, **absent, **settings}
    assert VIDEO.answered({**document, **absent}) == read


@pytest.mark.parametrize(
    ("name", "value", "canonical"),
    [
        ("account", {"_id": HEX, "walletAddress": "w"}, HEX),
        ("account", {"id": HEX.upper()}, HEX),
        ("account", None, None),
        ("rate", {"$numberDecimal": "1.50"}, Decimal("1.5")),
        ("rate", 1.5, Decimal("1.5")),
        ("views", {"low": -1, "high": -1, "unsigned": False}, -1),
        ("views", {"low": -1, "high": 0, "unsigned": False}, 2**32 - 1),
        ("settings", {"$date": 5, "x": 2**60 + 1}, {"$date": 5, "x": float(2**60)}),
    ],
)
def test_an_answer_is_read_with_lenience(name: str, value: Any, canonical: Any) -> None:
    field_name = {"account": "accountId"}.get(name, name)
    assert VIDEO.document_from_answer({name: value, "unknown": 1})[field_name] == canonical


@pytest.mark.parametrize(
    ("answer", "name"),
    [([], "body"), ({"account": "x"}, "account"), ({"since": "x"}, "since"), ({"views": {}}, "views")],
)
def test_an_answer_that_cannot_be_read(answer: Any, name: str) -> None:
    with pytest.raises(Invalid) as refused:
        VIDEO.document_from_answer(answer)
    assert refused.value.field == name


def test_bytes_timestamps_and_other_numbers_of_answers() -> None:
    mapper = mapper_of(
        field("bytes", "Bytes"),
        field("at", "DateTime"),
        field("position", "BigInt"),
        field("ratio", "Float"),
        rules={"at": {"legacy": "timestamp"}, "position": {"legacy": "timestamp"}, "ratio": {"legacy": "decimal128"}},
    )
    whole = NOW.replace(microsecond=0)
    document = {"id": HEX, "bytes": b"hi", "at": whole, "position": 5 << 32 | 7, "ratio": 1.5}
    answer = mapper.to_body(document)
    assert answer["position"] == {"$timestamp": str(5 << 32 | 7)}
    assert answer["ratio"] == {"$numberDecimal": "1.5"}
    assert mapper.document_from_answer(answer) == document
    assert mapper.document_from_answer({**answer, "bytes": {"type": "Buffer", "data": [104, 105]}}) == document


PARSED: list[tuple[str, Any, Any]] = [
    ("id", HEX.upper(), HEX),
    ("owner", HEX, HEX),
    ("token", "0E0E0E0E-0E0E-4E0E-8E0E-0E0E0E0E0E0E", "0e0e0e0e-0e0e-4e0e-8e0e-0e0e0e0e0e0e"),
    ("text", "$ne", "$ne"),
    ("int", "-5", -5),
    ("int", 5, 5),
    ("big", "9223372036854775807", 2**63 - 1),
    ("float", "1.5", 1.5),
    ("decimal", "0.10", Decimal("0.1")),
    ("decimal", Decimal("0.1"), Decimal("0.1")),
    ("flag", "true", True),
    ("flag", False, False),
    ("at", "2026-01-01T12:30:00.123Z", NOW),
    ("at", NOW + timedelta(microseconds=5), NOW),
    ("bytes", "aGk=", b"hi"),
    ("bytes", b"hi", b"hi"),
    ("mood", "SAD", "SAD"),
    ("doc", "text", "text"),
    ("doc", {"a": 1}, {"a": 1}),
    ("texts", ["a"], ["a"]),
    ("text", None, None),
]


@pytest.mark.parametrize(("name", "value", "canonical"), PARSED)
def test_texts_and_values_from_elsewhere(name: str, value: Any, canonical: Any) -> None:
    parsed = MAPPER.parse(name, value)
    assert parsed == canonical
    assert type(parsed) is type(canonical)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("id", "me", "_id: expected 24 hex digits"),
        ("id", None, "_id: required, but missing or null"),
        ("owner", {"$ne": None}, "owner: expected 24 hex digits"),
        ("text", {"$ne": None}, "text: expected a string, got an object"),
        ("text", 5, "text: expected a string, got an integer"),
        ("int", "5.0", "int: expected an integer in decimal digits"),
        ("int", "\u0665", "int: expected an integer in decimal digits"),
        ("int", "9" * 5000, "int: expected an integer in decimal digits"),
        ("int", "", "int: expected an integer in decimal digits"),
        ("float", "inf", "float: expected a finite number"),
        ("flag", "1", "flag: expected true or false"),
        ("flag", "", "flag: expected true or false"),
        ("at", "now", "at: expected an ISO 8601 date with a time zone"),
        ("mood", "sad", "mood: expected one of HAPPY, SAD"),
        ("texts", "a", "texts: expected a list, got a string"),
        ("doc", {"$oid": HEX}, "doc: an object that would be read as Extended JSON"),
        ("nope", "x", "nope: no such field"),
    ],
)
def test_texts_that_cannot_be(name: str, value: Any, reason: str) -> None:
    with pytest.raises(Invalid, match=f"^{reason}"):
        MAPPER.parse(name, value)


def test_defaults_are_those_of_the_schema() -> None:
    given = {"id": HEX, "accountId": OTHER, "jobId": "j", "mood": "SAD", "serial": 1}
    document = VIDEO.defaults(given, NOW + timedelta(microseconds=7))
    ref = document.pop("ref")
    assert len(ref) == 36
    assert document == {
        **given,
        "isPublic": False,
        "tags": [],
        "views": 5,
        "rate": Decimal("1.5"),
        "settings": {"a": 1},
        "since": datetime(2020, 1, 1, tzinfo=UTC),
        "moods": ["SAD"],
        "createdAt": NOW,
        "updatedAt": NOW,
    }
    kept = {**given, "createdAt": datetime(2000, 1, 1, tzinfo=UTC), "isPublic": True, "tags": ["x"], "ref": "mine"}
    assert VIDEO.defaults(kept, NOW).items() >= kept.items()


def test_defaults_of_one_document_are_not_those_of_another() -> None:
    given = {"id": HEX, "accountId": OTHER, "jobId": "j", "mood": "SAD"}
    first, second = VIDEO.defaults(given, NOW), VIDEO.defaults(given, NOW)
    first["settings"]["a"] = 2
    first["moods"].append("HAPPY")
    assert (second["settings"], second["moods"]) == ({"a": 1}, ["SAD"])
    assert VIDEO.defaults(given, NOW)["settings"] == {"a": 1}


@pytest.mark.parametrize("missing", ["accountId", "jobId", "mood"])
def test_a_create_needs_what_has_no_default(missing: str) -> None:
    given = {"id": HEX, "accountId": OTHER, "jobId": "j", "mood": "SAD"}
    del given[missing]
    with pytest.raises(Invalid, match="is required") as refused:
        VIDEO.defaults(given, NOW)
    assert refused.value.field == VIDEO.body_name(missing)


def test_an_update_sets_the_time_of_change_unless_it_is_given() -> None:
    assert VIDEO.touched({"title": "x"}, NOW) == {"title": "x", "updatedAt": NOW}
    earlier = datetime(2000, 1, 1, tzinfo=UTC)
    assert VIDEO.touched({"updatedAt": earlier}, NOW) == {"updatedAt": earlier}


def test_names() -> None:
    mapper: Mapper = VIDEO
    assert (mapper.id, mapper.key_path) == ("id", "_id")
    assert (mapper.body_name("accountId"), mapper.body_name("id"), mapper.body_name("?")) == ("account", "_id", "?")
    assert (mapper.field_of("_id"), mapper.field_of("accountId"), mapper.field_of("x.y")) == ("id", "accountId", "x.y")
