"""The generated Python client on a schema with every type: rich values in, rich values out, and relations of all kinds."""

import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from adapters.client import client
from adapters.engine import Engine
from tests.schema.conftest import PACKAGE

WHEN = datetime(2026, 5, 17, 8, 30, 15, 123000, UTC)


@pytest.fixture
def errors(db: Any) -> Any:
    return sys.modules[f"{PACKAGE}.errors"]


async def test_every_scalar_comes_back_as_the_type_it_went_in_as(db: Any, fields: Any) -> None:
    made = await db.thing.create(
        {
            "id": "t",
            "int": -(2**31),
            "big": 2**63 - 1,
            "float": 0.1,
            "amount": Decimal("12345678901234567890.12345678901234567890"),
            "bool": False,
            "text": "ünïcode \U0001f600",
            "when": WHEN,
            "exact": WHEN,
            "doc": fields.Json({"a": [1, 2.5, None, {"b": "c"}]}),
            "bytes": fields.Base64.encode(b"\x00\x01\xff"),
            "mood": "CALM",
        }
    )
    assert await db.thing.find_unique({"id": "t"}) == made
    assert (made.int, made.big, made.float, made.bool) == (-(2**31), 2**63 - 1, 0.1, False)
    assert made.amount == Decimal("12345678901234567890.12345678901234567890")
    assert (made.text, made.when, made.exact) == ("ünïcode \U0001f600", WHEN, WHEN)
    assert made.doc == {"a": [1, 2.5, None, {"b": "c"}]}
    assert made.bytes.decode() == b"\x00\x01\xff"
    assert made.mood == sys.modules[f"{PACKAGE}.enums"].Mood.CALM
    empty = await db.thing.create({"id": "empty"})
    values = empty.model_dump()
    assert {values[name] for name in ("int", "big", "float", "amount", "doc", "bytes", "mood", "when")} == {None}
    assert (values["ints"], values["docs"]) == ([], [])


async def test_scalar_lists_are_set_pushed_and_searched(db: Any, fields: Any) -> None:
    await db.thing.create({"id": "t", "ints": [1, 2], "texts": {"set": ["a"]}, "moods": ["SAD"], "bigs": [2**60]})
    pushed = await db.thing.update(
        {
            "ints": {"push": [3]},
            "texts": {"push": ["b", "c"]},
            "moods": {"push": ["HAPPY"]},
            "bigs": {"set": [2**61, -1]},
            "decimals": [Decimal("1.5"), Decimal("2")],
            "whens": [WHEN],
            "docs": [fields.Json({"x": 1}), fields.Json(None)],
            "blobs": [fields.Base64.encode(b"\xff")],
            "floats": [0.1 + 0.2],
            "bools": [True, False],
        },
        where={"id": "t"},
    )
    assert (pushed.ints, pushed.texts, pushed.bigs) == ([1, 2, 3], ["a", "b", "c"], [2**61, -1])
    assert [str(mood) for mood in pushed.moods] == ["SAD", "HAPPY"]
    assert (pushed.decimals, pushed.whens, pushed.floats) == ([Decimal("1.5"), Decimal("2")], [WHEN], [0.1 + 0.2])
    assert (pushed.docs, [b.decode() for b in pushed.blobs], pushed.bools) == (
        [{"x": 1}, None],
        [b"\xff"],
        [True, False],
    )
    for where, found in (
        ({"ints": {"has": 3}}, 1),
        ({"ints": {"has": 4}}, 0),
        ({"texts": {"has_every": ["a", "c"]}}, 1),
        ({"texts": {"has_every": ["a", "z"]}}, 0),
        ({"texts": {"has_some": ["z", "b"]}}, 1),
        ({"moods": {"has": "HAPPY"}}, 1),
        ({"bigs": {"equals": [2**61, -1]}}, 1),
        ({"bigs": {"is_empty": True}}, 0),
        ({"decimals": {"has": Decimal("2.0")}}, 1),
        ({"whens": {"has": WHEN}}, 1),
    ):
        assert await db.thing.count(where=where) == found, where


async def test_numbers_change_atomically_and_filter_exactly(db: Any) -> None:
    await db.thing.create({"id": "t", "int": 10, "big": 2**53, "float": 1.5, "amount": Decimal("0.1")})
    data = {"int": {"multiply": 3}, "big": {"increment": 1}, "float": {"divide": 2}, "amount": {"decrement": "0.3"}}
    changed = await db.thing.update(data, where={"id": "t"})
    assert (changed.int, changed.big, changed.float, changed.amount) == (30, 2**53 + 1, 0.75, Decimal("-0.2"))
    for where, found in (
        ({"big": 2**53 + 1}, 1),
        ({"big": 2**53}, 0),
        ({"big": {"gt": 2**53, "lt": 2**53 + 2}}, 1),
        ({"amount": Decimal("-0.20")}, 1),
        ({"amount": {"in": [Decimal("-0.2"), Decimal("7")]}}, 1),
        ({"float": {"not_in": [0.75]}}, 0),
        ({"int": {"not": {"gte": 31}}}, 1),
    ):
        assert await db.thing.count(where=where) == found, where


async def test_bytes_and_json_filters(db: Any, fields: Any) -> None:
    blob, other = fields.Base64.encode(b"one"), fields.Base64.encode(b"two")
    await db.thing.create({"id": "1", "bytes": blob, "doc": fields.Json({"tags": ["a", "b"], "n": 5})})
    await db.thing.create({"id": "2", "bytes": other, "doc": fields.Json(None)})
    await db.thing.create({"id": "3"})

    async def ids(where: Any) -> list[str]:
        return [thing.id for thing in await db.thing.find_many(where=where, order={"id": "asc"})]

    assert await ids({"bytes": blob}) == ["1"]
    assert await ids({"bytes": {"in": [other]}}) == ["2"]
    assert await ids({"bytes": None}) == ["3"]
    assert await ids({"doc": {"equals": fields.Json({"n": 5, "tags": ["a", "b"]})}}) == ["1"]
    assert await ids({"doc": {"equals": fields.Json(None)}}) == ["2"]
    assert await ids({"doc": {"path": ["tags"], "array_contains": fields.Json(["b"])}}) == ["1"]
    assert await ids({"doc": {"not": fields.Json(None)}}) == ["1"]


async def test_setting_null_clears_and_defaults_fill(db: Any, fields: Any) -> None:
    await db.thing.create({"id": "t", "text": "x", "doc": fields.Json(1), "mood": "SAD", "when": WHEN})
    cleared = await db.thing.update({"text": None, "doc": None, "mood": None, "when": None}, where={"id": "t"})
    assert (cleared.text, cleared.doc, cleared.mood, cleared.when) == (None, None, None, None)
    [row] = await db.query_raw("SELECT doc IS NULL AS database_null FROM things")
    assert row["database_null"] is True
    config = await db.config.create({"id": "c"})
    assert (config.settings, config.limit, config.rate, config.tags) == ({"a": 1}, 2**53 + 1, Decimal("1.5"), ["new"])


async def test_groups_of_numbers(db: Any) -> None:
    for n in range(4):
        await db.thing.create({"id": str(n), "bool": n > 0, "int": n, "amount": Decimal(n) / 2, "big": 2**60 + n})
    groups = await db.thing.group_by(
        ["bool"],
        **{"sum": {"int": True, "amount": True, "big": True}, "avg": {"int": True}, "min": {"amount": True}},
        **{"max": {"big": True}, "having": {"int": {"_sum": {"gt": 0}}}, "count": True},
    )
    assert groups == [
        {
            "bool": True,
            "_sum": {"int": 6, "amount": "3", "big": 3 * 2**60 + 6},
            "_avg": {"int": 2},
            "_min": {"amount": "0.5"},
            "_max": {"big": 2**60 + 3},
            "_count": {"_all": 3},
        }
    ]


async def test_raw_rows_have_the_stock_clients_types(db: Any, fields: Any) -> None:
    await db.thing.create(
        {
            **{"id": "t", "big": 2**60, "amount": Decimal("1.25"), "bytes": fields.Base64.encode(b"\xff")},
            **{"doc": fields.Json([1]), "when": WHEN, "mood": "CALM", "bigs": [1, 2**60], "bool": True},
        }
    )
    [row] = await db.query_raw('SELECT big, amount, bytes, doc, "when", its_mood, bigs, bool, text FROM things')
    assert row == {
        **{"big": 2**60, "amount": 1.25, "bytes": "/w==", "doc": [1], "when": "2026-05-17T08:30:15.123+00:00"},
        **{"its_mood": "serene", "bigs": [1, 2**60], "bool": True, "text": None},
    }
    by_decimal = await db.query_raw('SELECT id FROM things WHERE amount = $1 AND "when" = $2', Decimal("1.25"), WHEN)
    assert by_decimal == [{"id": "t"}]
    [typed] = await db.thing.query_raw("SELECT *, its_mood AS mood FROM things WHERE its_mood <> 'serene'") or [None]
    assert typed is None
    [thing] = await db.thing.query_raw(
        "SELECT id, doc, amount, ints, bigs, floats, decimals, bools, texts, whens, docs, blobs, moods FROM things"
    )
    assert (thing.doc, thing.amount, thing.bigs) == ([1], Decimal("1.25"), [1, 2**60])


async def test_relations_are_created_connected_and_disconnected(db: Any, errors: Any) -> None:
    boss = await db.author.create({"name": "Boss", "email": "b@x"})
    ada = await db.author.create(
        {
            "name": "Ada",
            "boss": {"connect": {"email": "b@x"}},
            "books": {
                "create": [{"shelf": "A", "number": 1, "title": "One"}],
                "connect_or_create": {
                    "where": {"shelf_number": {"shelf": "A", "number": 2}},
                    "create": {"shelf": "A", "number": 2, "title": "Two", "price": Decimal("9.99")},
                },
            },
        },
        include={"books": {"order_by": {"number": "desc"}}, "boss": {"include": {"staff": True}}},
    )
    assert [book.title for book in ada.books] == ["Two", "One"]
    assert (ada.boss.id, [a.name for a in ada.boss.staff]) == (boss.id, ["Ada"])
    changed = await db.author.update(
        {
            "boss": {"disconnect": True},
            "books": {
                "update": [{"where": {"shelf_number": {"shelf": "A", "number": 1}}, "data": {"title": "Uno"}}],
                "delete": [{"shelf_number": {"shelf": "A", "number": 2}}],
                "create": [{"shelf": "B", "number": 1, "title": "Three"}],
            },
        },
        where={"id": ada.id},
        include={"books": {"order_by": [{"shelf": "asc"}, {"number": "asc"}]}},
    )
    assert (changed.bossId, [book.title for book in changed.books]) == (None, ["Uno", "Three"])
    with pytest.raises(errors.UniqueViolationError) as caught:
        await db.author.create({"name": "Copy", "email": "b@x"})
    assert caught.value.meta["target"] == ["email"]
    with pytest.raises(errors.RecordNotFoundError):
        await db.author.create({"name": "Lost", "boss": {"connect": {"id": 0}}})


async def test_compound_keys_and_optional_relations(db: Any) -> None:
    author = await db.author.create({"name": "Ada"})
    await db.book.create({"shelf": "A", "number": 1, "title": "One", "author": {"connect": {"id": author.id}}})
    await db.book.create_many([{"shelf": "A", "number": 2, "title": "Two"}, {"shelf": "B", "number": 1, "title": "X"}])
    found = await db.book.find_unique({"shelf_number": {"shelf": "A", "number": 2}})
    assert found.title == "Two"
    by_title = await db.book.find_unique({"title_authorId": {"title": "One", "authorId": author.id}})
    assert by_title.number == 1
    order = [{"shelf": "asc"}, {"number": "asc"}]
    after = await db.book.find_many(cursor={"shelf_number": {"shelf": "A", "number": 1}}, skip=1, order=order)
    assert [book.title for book in after] == ["Two", "X"]
    assert await db.book.count(where={"author": {"is": {"name": "Ada"}}}) == 1
    assert await db.book.count(where={"author": {"is": None}}) == 2
    await db.author.delete({"id": author.id})
    assert (await db.book.find_unique({"shelf_number": {"shelf": "A", "number": 1}})).authorId is None


async def test_two_clients_of_two_packages_share_nothing(db: Any, engine: Engine) -> None:
    import prisma

    assert not isinstance(db, prisma.Prisma)
    assert hasattr(db, "thing")
    assert not hasattr(db, "account")
    assert type(client(engine, package=PACKAGE)) is type(db)
