"""A model that has every type and every kind of rule, and BSON documents of it, for the tests of the mapping."""

from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import bson
from bson import Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.binary import Binary
from bson.code import Code
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.dbref import DBRef
from hypothesis import strategies as st

from adapters.documents.mapping import Mapper
from config.model import Entity
from config.schema import DefaultCall, Field, Model, Schema

OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
HEX = "65ab65ab65ab65ab65ab65ab"
MOODS = ("HAPPY", "SAD")


def field(name: str, type: str, **said: Any) -> Field:
    kind = "enum" if type == "Mood" else "scalar"
    return Field(**{"name": name, "column": name, "type": type, "kind": kind, "required": False, **said})


def schema_of(*fields: Field) -> Schema:
    given = {f.name: f for f in fields}
    if not any(f.id for f in fields):
        given = {"id": field("id", "String", column="_id", id=True, required=True), **given}
    model = Model("Thing", "things", MappingProxyType(given), tuple(f.name for f in given.values() if f.id), ())
    return Schema({"Thing": model}, {"Mood": MOODS})


def mapper_of(*fields: Field, rules: dict[str, dict[str, Any]] | None = None) -> Mapper:
    schema = schema_of(*fields)
    entity = Entity.model_validate({"collection": "things", "model": "Thing", "fields": rules or {}})
    return Mapper(entity, schema.models["Thing"], schema)


def stored(raw: dict[str, Any]) -> dict[str, Any]:
    """The document as it comes back from MongoDB."""
    return bson.decode(bson.encode(raw), OPTIONS)


def cents_to_prisma(value: Any) -> Any:
    return None if value is None else Decimal(value) / 100


def cents_to_legacy(value: Any) -> Any:
    return None if value is None else Int64(int(value * 100))


SCALARS = {
    "text": "String",
    "int": "Int",
    "big": "BigInt",
    "float": "Float",
    "decimal": "Decimal",
    "flag": "Boolean",
    "at": "DateTime",
    "bytes": "Bytes",
    "doc": "Json",
    "mood": "Mood",
}
EVERYTHING = (
    field("owner", "String", required=True),
    field("token", "String"),
    *(field(name, type) for name, type in SCALARS.items()),
    *(field(f"{name}s", type, is_list=True, required=True) for name, type in SCALARS.items()),
    field("bio", "String"),
    field("lng", "Float"),
    field("lat", "Float"),
    field("first", "String"),
    field("last", "String"),
    field("price", "Decimal"),
    field("createdAt", "DateTime", required=True, default=DefaultCall("now")),
    field("updatedAt", "DateTime", required=True, updated_at=True),
)
RULES: dict[str, dict[str, Any]] = {
    "owner": {"legacy": "objectId"},
    "token": {"legacy": "uuid"},
    "bio": {"from": "profile.bio"},
    "lng": {"from": "location.coordinates.0"},
    "lat": {"from": "location.coordinates.1"},
    "first": {"from": "name", "split": {"by": " ", "part": 0}},
    "last": {"from": "name", "split": {"by": " ", "part": 1}},
    "price": {
        "from": "cents",
        "functions": {
            "to_prisma": "tests.mapping_case:cents_to_prisma",
            "to_legacy": "tests.mapping_case:cents_to_legacy",
        },
    },
}

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_subnormal=False)
DATES = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(
    lambda when: when.replace(microsecond=when.microsecond // 1000 * 1000, tzinfo=UTC)
)
OBJECT_IDS = st.binary(min_size=12, max_size=12).map(ObjectId)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=8)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": TEXTS,
    "int": INT32 | INT32.map(Int64) | INT32.map(float),
    "big": INT32 | INT64.map(Int64) | st.integers(-(2**53), 2**53).map(float),
    "float": FLOATS | INT32 | st.integers(-(2**53), 2**53).map(Int64),
    "decimal": DECIMALS.map(Decimal128) | INT32 | INT64.map(Int64) | st.floats(-1e6, 1e6).map(lambda f: round(f, 6)),
    "flag": st.booleans(),
    "at": DATES,
    "bytes": st.binary(max_size=12) | st.binary(max_size=12).map(lambda data: Binary(data, 0)),
    "mood": st.sampled_from(MOODS),
}
BSON_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    TEXTS,
    INT32,
    INT64.map(Int64),
    st.floats(),
    DATES,
    OBJECT_IDS,
    DECIMALS.map(Decimal128),
    st.sampled_from([Decimal128("NaN"), Decimal128("-Infinity"), Decimal128("1E+6000"), MinKey(), MaxKey()]),
    st.binary(max_size=8),
    st.builds(Binary, st.binary(max_size=8), st.sampled_from([0, 5, 128])),
    st.builds(lambda u: Binary(u.bytes, 4), st.uuids()),
    st.builds(Timestamp, st.integers(1, 2**32 - 1), st.integers(0, 2**32 - 1)),
    st.builds(Regex, st.text("ab.*", max_size=4), st.sampled_from(["", "i", "imx"])),
    st.builds(Code, TEXTS),
    st.builds(Code, TEXTS, st.dictionaries(st.text("ab"), INT32, max_size=2)),
    st.builds(DBRef, st.text("ab", min_size=1), OBJECT_IDS, st.none() | st.just("base")),
    st.builds(bson.datetime_ms.DatetimeMS, st.integers(-(2**60), 2**60)),
)
KEYS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0$"), max_size=4)
EMBEDDED = st.recursive(
    BSON_SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
VALUES["doc"] = EMBEDDED
NAMES = st.text("abc", min_size=1, max_size=4)


def documents(names: tuple[str, ...] = tuple(SCALARS)) -> st.SearchStrategy[dict[str, Any]]:
    """Raw documents with any of these scalars and their lists, null and missing included."""
    optional: dict[str, st.SearchStrategy[Any]] = {name: st.none() | VALUES[name] for name in names}
    for name in names:
        items = VALUES[name].filter(lambda value: value is not None)
        optional[f"{name}s"] = st.none() | st.lists(items, max_size=3)
    return st.fixed_dictionaries({"_id": OBJECT_IDS}, optional=optional)


def everything() -> st.SearchStrategy[dict[str, Any]]:
    """Raw documents of the whole model, with fields besides that Prisma does not know."""
    rest = st.fixed_dictionaries(
        {"owner": OBJECT_IDS, "createdAt": DATES, "updatedAt": DATES},
        optional={
            "token": st.none() | st.uuids().map(lambda u: Binary(u.bytes, 4)),
            "profile": st.none() | st.fixed_dictionaries({}, optional={"bio": st.none() | TEXTS, "other": INT32}),
            "location": st.none()
            | st.fixed_dictionaries({"type": st.just("Point")}, optional={"coordinates": st.lists(FLOATS, max_size=3)}),
            "name": st.none() | st.lists(NAMES, max_size=4).map(" ".join),
            "cents": st.none() | INT32,
            "__v": INT32,
            "unknown": EMBEDDED,
        },
    )
    return st.tuples(documents(), rest).map(lambda both: {**both[0], **both[1]})
