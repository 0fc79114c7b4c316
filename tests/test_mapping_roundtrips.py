"""Whatever a collection holds comes through the mapping and back as it was, and nothing is touched that did not change."""

from typing import Any

import bson
import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.documents.extended_json import canonical, from_bson, to_bson
from adapters.documents.values import alike
from tests.mapping_case import EMBEDDED, EVERYTHING, OPTIONS, RULES, everything, mapper_of, stored

MAPPER = mapper_of(*EVERYTHING, rules=RULES)
many = settings(deadline=None)


@many
@given(everything())
def test_a_document_that_did_not_change_is_not_touched(raw: dict[str, Any]) -> None:
    raw = stored(raw)
    assert MAPPER.legacy_changes(raw, MAPPER.from_legacy(raw)) == ({}, {})


@many
@given(everything())
def test_a_document_written_anew_is_the_same(raw: dict[str, Any]) -> None:
    document = MAPPER.from_legacy(stored(raw))
    assert alike(MAPPER.from_legacy(stored(MAPPER.to_legacy(document))), document)


@many
@given(everything())
def test_an_upsert_of_a_missing_document_sets_everything_but_the_key(raw: dict[str, Any]) -> None:
    document = MAPPER.from_legacy(stored(raw))
    to_set, unset = MAPPER.legacy_changes(None, document)
    assert unset == {}
    assert bson.encode({"_id": raw["_id"], **to_set}) == bson.encode(MAPPER.to_legacy(document))


@many
@given(everything())
def test_the_body_of_a_document_is_read_back_as_what_it_was(raw: dict[str, Any]) -> None:
    document = MAPPER.from_legacy(stored(raw))
    body = orjson.loads(orjson.dumps(MAPPER.to_body(document)))
    assert alike(MAPPER.document_from_answer(body), MAPPER.answered(document))


@many
@given(everything())
def test_the_key_is_the_same_both_ways(raw: dict[str, Any]) -> None:
    key = MAPPER.key_of(stored(raw))
    assert MAPPER.legacy_key(key) == raw["_id"]
    assert key == MAPPER.from_legacy(stored(raw))["id"]


@many
@given(EMBEDDED)
def test_every_bson_value_comes_back_out_of_json(value: Any) -> None:
    [value] = stored({"v": [value]})["v"]
    json = from_bson(value)
    again = from_bson(stored({"v": to_bson(json)})["v"])
    assert alike(again, json)
    assert alike(canonical(json), json)
    assert _same_but_for_width(stored({"v": to_bson(json)})["v"], value)


@many
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text("ab"),
        st.lists,
    )
)
def test_canonical_json_is_canonical_already(value: Any) -> None:
    once = canonical(value)
    assert alike(canonical(once), once)


def _same_but_for_width(one: Any, other: Any) -> bool:
    """As BSON, where a number may have become one of another width."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(_same_but_for_width(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same_but_for_width, one, other))
    if isinstance(one, int | float) and isinstance(other, int | float) and not isinstance(one, bool):
        return (one == other and str(float(one)) == str(float(other))) or (one != one and other != other)
    return bson.encode({"v": one}, codec_options=OPTIONS) == bson.encode({"v": other}, codec_options=OPTIONS)
