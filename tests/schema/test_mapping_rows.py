"""Documents of every type on a real PostgreSQL: by SQL as a settle writes them, and through Prisma Client, as they were."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
import pytest
from bson import ObjectId
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from adapters.documents.mapping import Mapper
from adapters.documents.values import alike
from adapters.engine import Engine
from adapters.engine import Invalid as EngineInvalid
from adapters.side import Document, Invalid
from config.model import Entity
from tests.mapping_case import EMBEDDED, VALUES, stored
from tests.schema.conftest import Generated

NAN, INFINITY = float("nan"), float("inf")
KINDS = {
    "int": "int",
    "big": "big",
    "float": "float",
    "amount": "decimal",
    "bool": "flag",
    "text": "text",
    "when": "at",
    "exact": "at",
    "doc": "doc",
    "bytes": "bytes",
    "mood": "mood",
}
LISTS = {
    **{"ints": "int", "bigs": "big", "floats": "float", "decimals": "decimal", "bools": "flag", "texts": "text"},
    **{"whens": "at", "docs": "doc", "blobs": "bytes", "moods": "mood"},
}
RAWS = st.fixed_dictionaries(
    {},
    optional={
        **{name: st.none() | VALUES[kind] for name, kind in KINDS.items()},
        **{
            name: st.none() | st.lists(VALUES[kind].filter(lambda value: value is not None), max_size=3)
            for name, kind in LISTS.items()
        },
    },
)
BATCHES = st.lists(RAWS, min_size=1, max_size=8)
many = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def mapper(generated: Generated) -> Mapper:
    entity = Entity.model_validate({"collection": "things", "model": "Thing"})
    return Mapper(entity, generated.schema.models["Thing"], generated.schema)


async def upsert(engine: Engine, mapper: Mapper, documents: Sequence[Document]) -> None:
    rows = orjson.dumps([mapper.sql_row(document) for document in documents]).decode()
    await engine.execute_raw(
        'INSERT INTO "things" SELECT * FROM json_populate_recordset(NULL::"things", $1::text::json)', rows
    )


async def read(engine: Engine, mapper: Mapper, documents: Sequence[Document]) -> list[Document]:
    """The documents with these keys, in their order."""
    keys = [document["id"] for document in documents]
    rows = await engine.call("Thing", "findMany", {"where": {"id": {"in": keys}}})
    found = {row["id"]: mapper.from_row(row) for row in rows}
    return [found[key] for key in keys]


def canonical(mapper: Mapper, raws: Sequence[dict[str, Any]]) -> list[Document]:
    return [mapper.from_legacy(stored({**raw, "_id": ObjectId()})) for raw in raws]


@many
@given(BATCHES)
async def test_what_a_settle_writes_is_read_as_it_was(
    engine: Engine, mapper: Mapper, raws: list[dict[str, Any]]
) -> None:
    documents = canonical(mapper, raws)
    await upsert(engine, mapper, documents)
    for got, document in zip(await read(engine, mapper, documents), documents, strict=True):
        assert alike(got, document)
        assert alike(mapper.from_legacy(stored(mapper.to_legacy(got))), document)


@many
@given(RAWS)
async def test_what_the_client_writes_is_read_as_it_was(engine: Engine, mapper: Mapper, raw: dict[str, Any]) -> None:
    [document] = canonical(mapper, [raw])
    # The client's JSON has no word for what is not finite: refused, see below.
    assume(all(value - value == 0 for value in [document["float"] or 0.0, *document["floats"]]))
    created = await engine.call("Thing", "create", {"data": mapper.to_row(document)})
    assert alike(mapper.from_row(created), document)
    where = mapper.to_row({"id": document["id"]})
    changed = await engine.call("Thing", "update", {"where": where, "data": mapper.to_row(document)})
    assert alike(mapper.from_row(changed), document)
    assert alike(await read(engine, mapper, [document]), [document])


@many
@given(st.lists(EMBEDDED, min_size=1, max_size=10))
async def test_json_of_any_bson_value(engine: Engine, mapper: Mapper, values: list[Any]) -> None:
    documents = canonical(mapper, [{"doc": value} for value in values])
    await upsert(engine, mapper, documents)
    for got, document in zip(await read(engine, mapper, documents), documents, strict=True):
        assert alike(got["doc"], document["doc"])


EXTREMES: dict[str, list[Any]] = {
    "int": [-(2**31), 2**31 - 1, 0],
    "big": [-(2**63), 2**63 - 1, 2**53 + 1],
    "float": [NAN, INFINITY, -INFINITY, -0.0, 5e-324, 1.7976931348623157e308, 0.1 + 0.2, 1.2345678901234568e20, 1e16],
    "amount": [Decimal("0." + "0" * 29 + "1"), Decimal("9" * 35 + "." + "9" * 30), Decimal("-0"), Decimal("1E+20")],
    "text": ["", "\\x41", "'\"\n\t{}", "\U0001f600\ufffe", "NULL"],
    "when": [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)],
    "exact": [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)],
    "doc": [
        "",
        "null",
        0,
        False,
        [],
        {},
        [None],
        {"a": None},
        1e300,
        1.2345678901234568e20,
        1.5,
        2**53,
        "\\u0000",
        {"": {"": ""}},
    ],
    "bytes": [b"", b"\0\xff", b"\\x41"],
    "texts": [[], [""], ["{}", "NULL", '"', ",", "\\"]],
    "floats": [[NAN, INFINITY, -0.0]],
    "blobs": [[b"", b"\0"]],
    "docs": [[{"a": [1]}, [], "x", 1, True]],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in EXTREMES.items() for value in values])
async def test_extremes(engine: Engine, mapper: Mapper, name: str, value: Any) -> None:
    [document] = canonical(mapper, [{}])
    document[name] = value
    await upsert(engine, mapper, [document])
    [got] = await read(engine, mapper, [document])
    assert alike(got, document)
    assert repr(got[name]) == repr(value) or name == "amount"


async def test_the_client_refuses_numbers_that_are_not_finite_rather_than_change_them(
    engine: Engine, mapper: Mapper
) -> None:
    row = mapper.to_row({"id": "00000000000000000000000f", "float": NAN})
    with pytest.raises(EngineInvalid):
        await engine.call("Thing", "create", {"data": row})


async def test_a_record_of_the_python_client_becomes_a_body(mapper: Mapper, db: Any, fields: Any) -> None:
    when = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
    record = await db.thing.create(
        data={
            "id": "00000000000000000000000f",
            "big": 2**60,
            "amount": Decimal("1.5"),
            "when": when,
            "mood": "SAD",
            "bytes": fields.Base64.encode(b"hi"),
            "doc": fields.Json({"at": {"$date": "2026-01-01T12:30:00Z"}}),
        }
    )
    assert mapper.record_body(record) == {
        "_id": "00000000000000000000000f",
        "big": {"low": 0, "high": 268435456, "unsigned": False},
        "amount": {"$numberDecimal": "1.5"},
        "when": "2026-01-01T12:30:00.000Z",
        "mood": "SAD",
        "bytes": "aGk=",
        "doc": {"at": "2026-01-01T12:30:00.000Z"},
        **{name: [] for name in LISTS},
    }


def test_only_fields_go_into_a_row(mapper: Mapper) -> None:
    with pytest.raises(Invalid, match=r"^AND: no such field$"):
        mapper.to_row({"AND": []})
    with pytest.raises(Invalid, match=r"^id: required, but missing or null$"):
        mapper.sql_row({"text": "x"})
