"""Values of every type, to the database and back through the engine: what arrives is what was sent."""

import base64
import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.engine import Engine, Invalid, Json, JsonText, ValueRefused

INT64 = st.integers(-(2**63), 2**63 - 1)
INT32 = st.integers(-(2**31), 2**31 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, places=20, min_value=-(10**30), max_value=10**30)
WHENS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(
    lambda d: d.replace(microsecond=d.microsecond // 1000 * 1000, tzinfo=UTC)
)
BLOBS = st.binary(max_size=64)
MOODS = st.sampled_from(["HAPPY", "SAD", "CALM"])
JSONS = st.recursive(
    st.none() | st.booleans() | INT64 | st.floats(-1e15, 1e15, allow_subnormal=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)

many = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


async def stored(engine: Engine, **data: Any) -> dict[str, Any]:
    """What reads find of a thing made with `data`, which the create had answered already."""
    args = {"where": {"id": "t"}, "create": {"id": "t", **data}, "update": data}
    await engine.call("Thing", "deleteMany", {})
    created: dict[str, Any] = await engine.call("Thing", "upsert", args)
    read: dict[str, Any] = await engine.call("Thing", "findUnique", {"where": {"id": "t"}})
    assert read == created or any(isinstance(v, float) and math.isnan(v) for v in created.values())
    return read


@many
@given(INT32, INT64, FLOATS, DECIMALS, TEXTS, WHENS, BLOBS, MOODS, st.booleans())
async def test_scalars(
    engine: Engine,
    small: int,
    big: int,
    real: float,
    decimal: Decimal,
    text: str,
    when: datetime,
    blob: bytes,
    mood: str,
    flag: bool,
) -> None:
    got = await stored(
        engine,
        **{"int": small, "big": big, "float": real, "amount": decimal, "text": text, "when": when, "exact": when},
        **{"bytes": blob, "mood": mood, "bool": flag},
    )
    assert (got["int"], got["big"], got["text"], got["mood"], got["bool"]) == (small, big, text, mood, flag)
    assert got["float"] == real
    assert Decimal(got["amount"]) == decimal
    assert base64.b64decode(got["bytes"]) == blob
    assert datetime.fromisoformat(got["when"]) == when
    assert datetime.fromisoformat(got["exact"]) == when


@many
@given(st.lists(INT32), st.lists(INT64), st.lists(FLOATS), st.lists(DECIMALS), st.lists(TEXTS), st.lists(BLOBS))
async def test_lists_of_scalars(
    engine: Engine,
    ints: list[int],
    bigs: list[int],
    floats: list[float],
    decimals: list[Decimal],
    texts: list[str],
    blobs: list[bytes],
) -> None:
    got = await stored(engine, ints=ints, bigs=bigs, floats=floats, decimals=decimals, texts=texts, blobs=blobs)
    assert (got["ints"], got["bigs"], got["floats"], got["texts"]) == (ints, bigs, floats, texts)
    assert [base64.b64decode(blob) for blob in got["blobs"]] == blobs
    # A Decimal[] column is numeric(65,30), as a Decimal is.
    assert [Decimal(d) for d in got["decimals"]] == decimals


@many
@given(JSONS, st.lists(JSONS, max_size=3))
async def test_json(engine: Engine, value: Any, values: Sequence[Any]) -> None:
    got = await stored(engine, doc=Json(value), docs=[Json(v) for v in values])
    assert got["doc"] == value
    assert got["docs"] == values


@pytest.mark.parametrize("text", ["9007199254740993", "123456789012345678901234567890", '"9007199254740993"', "-0.5"])
async def test_json_keeps_every_digit(engine: Engine, text: str) -> None:
    got = await stored(engine, doc=JsonText(f'{{"n": {text}}}'))
    assert got["doc"] == {"n": json.loads(text)}
    as_text = await engine.call("Thing", "findUnique", {"where": {"id": "t"}}, json_text=True)
    assert as_text["doc"] == f'{{"n": {text}}}'


async def test_null_of_json_and_null_of_the_database(engine: Engine) -> None:
    await engine.call("Thing", "deleteMany", {})
    for id, value in (("json", Json(None)), ("database", None)):
        await engine.call("Thing", "create", {"data": {"id": id, "doc": value}})
    rows = await engine.call("Thing", "findMany", {"orderBy": {"id": "asc"}}, json_text=True)
    assert [row["doc"] for row in rows] == [None, "null"]
    for value, id in ((None, "database"), (Json(None), "json")):
        found = await engine.call("Thing", "findMany", {"where": {"doc": {"equals": value}}})
        assert [row["id"] for row in found] == [id]
    await engine.call("Thing", "deleteMany", {})


async def test_a_key_called_type_inside_json_is_only_a_key(engine: Engine) -> None:
    value = {"$type": "BigInt", "value": "1", "json": None, "nested": {"$type": "Json"}}
    assert (await stored(engine, doc=Json(value)))["doc"] == value


async def test_a_datetime_without_a_zone_is_utc_and_another_zone_is_converted(engine: Engine) -> None:
    naive = datetime(2026, 3, 29, 2, 30, 0, 123999)
    east = datetime.fromisoformat("2026-03-29T04:30:00.123+02:00")
    got = await stored(engine, when=naive, exact=east)
    assert got["when"] == got["exact"] == "2026-03-29T02:30:00.123Z"
    [row] = await engine.query_raw('SELECT "when"::text AS "when", extract(epoch FROM exact)::float8 AS e FROM things')
    assert row["when"] == "2026-03-29 02:30:00.123"
    assert row["e"] == east.timestamp()


async def test_floats_keep_their_seventeenth_digit(engine: Engine) -> None:
    values = [0.1 + 0.2, 1.7126972312464488e46, 1.7976931348623157e308, 5e-324, 2.0**53 + 2, -0.0]
    got = await stored(engine, floats=values)
    assert got["floats"] == values
    for value in values:
        assert (await stored(engine, float=value))["float"] == value
        found = await engine.call("Thing", "findMany", {"where": {"float": value}})
        assert [row["float"] for row in found] == [value]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
async def test_what_is_not_finite_is_refused_on_the_way_in_and_kept_on_the_way_out(
    engine: Engine, value: float
) -> None:
    for field, sent in (("float", value), ("amount", Decimal(value)), ("doc", Json({"deep": [value]}))):
        with pytest.raises(Invalid):
            await stored(engine, **{field: sent})
    await stored(engine, float=1.0)
    await engine.execute_raw("UPDATE things SET float = $1::float8", str(value))
    got = await engine.call("Thing", "findUnique", {"where": {"id": "t"}})
    assert got["float"] == value or (math.isnan(got["float"]) and math.isnan(value))
    [row] = await engine.query_raw("SELECT float FROM things")
    assert repr(row["float"]) == repr(got["float"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("int", 2**31),
        ("int", "7"),
        ("big", 2**63),
        ("bool", 1),
        ("mood", "ANGRY"),
        ("mood", "serene"),
        ("when", "yesterday"),
        ("text", 5),
        ("text", "a\0b"),
        ("texts", "one"),
        ("doc", JsonText("{")),
        ("text", "\ud800"),
        ("text", {"$type": "BigInt", "value": "1"}),
        ("id", object()),
        ("nope", 1),
    ],
)
async def test_what_does_not_fit_is_refused(engine: Engine, field: str, value: Any) -> None:
    with pytest.raises((Invalid, ValueRefused)):
        await stored(engine, **{field: value})
    assert await engine.call("Thing", "count", {}) == 0


async def test_defaults_of_the_schema(engine: Engine) -> None:
    made = await engine.call("Config", "create", {"data": {"id": "c"}})
    assert made == {
        "id": "c",
        "settings": {"a": 1},
        "limit": 9007199254740993,
        "rate": "1.5",
        "tags": ["new"],
        "level": "CALM",
    }
    await engine.call("Config", "deleteMany", {})


async def test_raw_queries_bind_and_return_every_type(engine: Engine) -> None:
    when = datetime(2026, 2, 3, 4, 5, 6, 789000, UTC) + timedelta(0)
    [row] = await engine.query_raw(
        "SELECT $1::int AS i, $2::bigint AS b, $3::float8 AS f, $4::numeric AS d, $5::text AS t, $6::timestamptz AS w,"
        " $7::bytea AS x, $8::jsonb AS j, $9::bool AS y, $10::bigint[] AS l, $11::text AS n, $12::text[] AS s,"
        " date '2026-02-03' AS day, time '04:05:06.5' AS clock",
        *(7, 2**62, 0.1, Decimal("1.10"), "tø'$1", when, b"\x00\xff", Json({"n": 2**60, "z": None}), True),
        *([1, 2**62], None, ["a", 'b"c']),
    )
    assert row == {
        **{"i": 7, "b": 2**62, "f": 0.1, "d": "1.10", "t": "tø'$1", "w": "2026-02-03T04:05:06.789+00:00"},
        **{"x": "AP8=", "j": {"n": 2**60, "z": None}, "y": True, "l": [1, 2**62], "n": None, "s": ["a", 'b"c']},
        **{"day": "2026-02-03", "clock": "04:05:06.5"},
    }
