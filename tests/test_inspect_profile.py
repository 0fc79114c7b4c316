"""Profiles: what they count, that they keep no values, that they stay small."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import pytest
from bson import DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.binary import Binary
from bson.code import Code
from bson.datetime_ms import DatetimeMS
from hypothesis import given
from hypothesis import strategies as st

from proxy.migration.inspection.bson_types import type_name
from proxy.migration.inspection.profile import CONSTANTS, ELEMENTS, KEYS, PATHS, Profile, text_of

NOW: Final = datetime(2026, 1, 2, tzinfo=UTC)
SECRET: Final = "§whoever reads this knows too much§"


def of(*documents: dict[str, Any]) -> Profile:
    profile = Profile()
    for document in documents:
        profile.add(document)
    return profile


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "null"),
        (True, "bool"),
        (1, "int"),
        (Int64(1), "long"),
        (1.5, "double"),
        (Decimal128("1.5"), "decimal"),
        ("x", "string"),
        (NOW, "date"),
        (DatetimeMS(1 << 52), "dateOutOfRange"),
        (ObjectId(), "objectId"),
        (UUID(int=1), "uuid"),
        (b"x", "binData"),
        (Binary(b"x", 5), "binData(5)"),
        ({}, "object"),
        ([], "array"),
        (Timestamp(1, 1), "timestamp"),
        (Regex("x"), "regex"),
        (Code("x"), "javascript"),
        (DBRef("c", 1), "dbRef"),
        (MinKey(), "minKey"),
        (MaxKey(), "maxKey"),
    ],
)
def test_every_type_has_the_name_that_the_server_gives_it(value: Any, name: str) -> None:
    assert type_name(value) == name


def test_missing_null_and_empty_are_three_things() -> None:
    profile = of({"a": 1}, {}, {"a": None}, {"a": ""}, {"a": []}, {"a": {}}, {"a": b""})
    node = profile.at("a")
    assert node is not None
    assert (profile.root.seen, node.seen, node.nulls, node.empty) == (7, 6, 1, 4)


def test_ranges_are_of_numbers_dates_lengths_and_elements() -> None:
    earlier = datetime(1999, 1, 1, tzinfo=UTC)
    node = of(
        {"a": -1}, {"a": 2.5}, {"a": Decimal128("7.25")}, {"a": Int64(3)}, {"a": float("nan")}, {"a": Decimal128("NaN")},
        {"a": "four"}, {"a": NOW}, {"a": earlier}, {"a": [1, 2]}, {"a": b"0123456789"},
    ).at("a")  # fmt: skip
    assert node is not None
    spans = [(text_of(s.low), text_of(s.high)) for s in (node.numbers, node.lengths, node.elements)]
    assert spans == [(-1, "7.25"), (4, 10), (2, 2)]
    assert (text_of(node.dates.low), text_of(node.dates.high)) == (earlier.isoformat("T", "milliseconds"),
                                                                  NOW.isoformat("T", "milliseconds"))  # fmt: skip
    assert not node.finite


def test_embedded_objects_and_arrays_have_paths_of_their_own() -> None:
    profile = of({"a": {"b": [{"c": 1}, {"c": "x"}, {}]}}, {"a": 5}, {"a": {"b": []}})
    told = {node.path: (node.seen, of) for node, of in profile.paths()}
    assert told == {"a": (3, 3), "a.b": (2, 2), "a.b.*": (3, 3), "a.b.*.c": (2, 3)}
    node = profile.at("a.b.*.c")
    assert node is not None
    assert node.kinds() == {"int", "string"}


def test_constants_are_remembered_while_they_are_few_and_short() -> None:
    def constants(*values: str) -> Any:
        node = of(*({"a": value} for value in values)).at("a")
        assert node is not None
        return node.constants

    assert constants("PENDING", "DONE", "DONE") == {"PENDING": 1, "DONE": 2}
    assert constants("PENDING", "done") is None
    assert constants("PENDING", "") is None
    assert constants("A" * 41) is None
    assert constants(*(f"VALUE_{number}" for number in range(CONSTANTS + 1))) is None


def test_keys_that_are_data_are_not_told_apart() -> None:
    profile = of({"by": {f"user-{number}": {"x": number} for number in range(KEYS + 1)}}, {"by": {"other": 1}})
    node = profile.at("by")
    assert node is not None
    assert (node.scattered, node.fields) == (True, {})
    assert [found.path for found, _ in profile.paths()] == ["by"]


def test_it_stays_small_whatever_it_is_given() -> None:
    profile = Profile()
    deep: Any = 1
    for _ in range(90):
        deep = {"d": [deep]}
    for number in range(300):
        profile.add({f"k{number}-{other}": {"a": 1, "b": [number]} for other in range(20)} | {"deep": deep})
    assert sum(1 for _ in profile.paths()) <= PATHS
    assert profile.left_out > 0


def test_of_a_long_array_some_elements_are_looked_at() -> None:
    node = of({"a": list(range(100_000))}).at("a")
    assert node is not None
    assert node.each is not None
    assert node.elements.high == 100_000
    assert ELEMENTS <= node.each.seen <= 2 * ELEMENTS
    assert node.each.numbers.high > 99_000


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**31), 2**31 - 1)
    | st.integers(-(2**63), 2**63 - 1).map(Int64)
    | st.floats()
    | st.integers(-(10**9), 10**9).map(lambda number: Decimal128(str(number / 8)))
    | st.sampled_from([Decimal128("NaN"), Decimal128("-Infinity"), Decimal128("1E+6000"), Decimal128("1E-6000")])
    | st.sampled_from(["", "A", "é\0", "x" * 99]).map(lambda text: SECRET + text)
    | st.datetimes(timezones=st.just(UTC))
    | st.integers(2**48, 2**60).map(DatetimeMS)
    | st.binary(max_size=5)
    | st.builds(Binary, st.binary(max_size=5), st.integers(1, 127))
    | st.uuids()
    | st.sampled_from([ObjectId(), Timestamp(1, 2), MinKey(), MaxKey(), Code(SECRET), DBRef(SECRET, 1), Regex(SECRET)]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.lists(st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4), max_size=6)


def places(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each value of a document and its path, told apart in another way than the profile does."""
    match value:
        case dict():
            for key, item in value.items():
                below = f"{path}.{key}" if path else key
                yield below, item
                yield from places(item, below)
        case list():
            for item in value:
                yield f"{path}.*", item
                yield from places(item, f"{path}.*")


@given(DOCUMENTS)
def test_it_counts_each_value_at_its_path_and_keeps_no_text(documents: list[dict[str, Any]]) -> None:
    profile = of(*documents)
    counted: dict[str, list[Any]] = {}
    for document in documents:
        for path, value in places(document):
            counted.setdefault(path, []).append(value)
    assert {node.path: node.seen for node, _ in profile.paths()} == {path: len(its) for path, its in counted.items()}
    for node, of_all in profile.paths():
        assert node.types.total() == node.seen <= of_all
        assert node.nulls == sum(1 for value in counted[node.path] if value is None)
        spans = [
            [text_of(span.low), text_of(span.high)] for span in (node.lengths, node.numbers, node.dates, node.elements)
        ]
        assert "§" not in json.dumps([spans, node.types, node.constants], allow_nan=False, ensure_ascii=False)
