"""What counts as the same, rule by rule, and what is said of what does not."""

import copy
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from comparators.compare import compare
from comparators.difference import Change, Difference
from comparators.explain import LARGEST, MOST
from comparators.group import Group, general, group
from comparators.normalise import normalise
from comparators.rules import Rules
from config.model import Compare

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
NAN = float("nan")
SECOND = timedelta(seconds=1)
MILLISECOND = timedelta(milliseconds=1)


def rules(**said: Any) -> Rules:
    return Rules.of(Compare.model_validate(said))


SAME: list[tuple[str, Any, Any, dict[str, Any]]] = [
    ("nothing", {}, {}, {}),
    ("key order", {"a": 1, "b": 2}, {"b": 2, "a": 1}, {}),
    ("key order inside", {"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}, {}),
    ("1 and 1.0", {"a": 1}, {"a": 1.0}, {}),
    ("-0.0 and 0.0", {"a": -0.0}, {"a": 0.0}, {}),
    ("NaN", {"a": NAN}, {"a": float("nan")}, {}),
    ("NaN inside", {"a": [{"b": NAN}]}, {"a": [{"b": float("nan")}]}, {}),
    ("trailing zeros of a decimal", {"a": Decimal("1.50")}, {"a": Decimal("1.5")}, {}),
    ("one moment in two zones", {"a": NOON}, {"a": NOON.astimezone(timezone(timedelta(hours=5)))}, {}),
    ("missing and null", {"a": None}, {}, {}),
    ("missing and null inside", {"a": {"b": None}}, {"a": {}}, {}),
    ("no documents", (), [], {}),
    ("a tuple and a list of documents", ({"a": 1},), [{"a": 1}], {}),
    ("ignored", {"a": 1, "b": 1}, {"a": 2, "b": 1}, {"ignore": ["a"]}),
    ("ignored, only on one side", {"a": 1}, {}, {"ignore": ["a"]}),
    ("ignored inside", {"a": {"b": 1, "c": 2}}, {"a": {"b": 2, "c": 2}}, {"ignore": ["a.b"]}),
    ("ignored in any entry", {"a": [{"b": 1}, {"b": 2}]}, {"a": [{"b": 3}, {"b": 4}]}, {"ignore": ["a.*.b"]}),
    ("ignored in one entry", {"a": [1, 2]}, {"a": [3, 2]}, {"ignore": ["a.0"]}),
    (
        "what is said of any entry holds for one that more is said of",
        {"a": [{"b": 1, "c": 1}]},
        {"a": [{"b": 2, "c": 2}]},
        {"ignore": ["a.*.b", "a.0.c"]},
    ),
    ("ignored in each document of a list", [{"a": 1}, {"a": 2}], [{"a": 3}, {"a": 4}], {"ignore": ["a"]}),
    ("at the tolerance of a date", {"a": NOON}, {"a": NOON + SECOND}, {"tolerance": {"a": "1s"}}),
    ("dates as text", {"a": "2026-01-01T00:00:00Z"}, {"a": "2026-01-01T00:00:01.000Z"}, {"tolerance": {"a": "1s"}}),
    (
        "dates as Extended JSON",
        {"d": {"at": {"$date": "2026-01-01T00:00:00Z"}}},
        {"d": {"at": {"$date": "2026-01-01T00:00:00.5Z"}}},
        {"tolerance": {"d.at": "1s"}},
    ),
    ("at the tolerance of a number", {"a": 1.1}, {"a": 1.0}, {"tolerance": {"a": 0.1}}),
    ("a decimal and a float", {"a": Decimal("1.1")}, {"a": 1.0}, {"tolerance": {"a": 0.1}}),
    ("tolerance in a list", {"a": [{"x": 1.0}]}, {"a": [{"x": 1.5}]}, {"tolerance": {"a.*.x": 0.5}}),
    ("unordered", {"a": [3, 1, 2]}, {"a": [1, 2, 3]}, {"unordered": ["a"]}),
    ("unordered numbers of equal hash", {"a": [-1, -2]}, {"a": [-2, -1]}, {"unordered": ["a"]}),
    ("unordered, 1 and 1.0", {"a": [2, 1.0]}, {"a": [1, 2.0]}, {"unordered": ["a"]}),
    (
        "unordered objects",
        {"a": [{"x": 1, "y": 2}, {"x": 0}]},
        {"a": [{"x": 0}, {"y": 2, "x": 1}]},
        {"unordered": ["a"]},
    ),
    ("unordered in each document", [{"a": [1, 2]}], [{"a": [2, 1]}], {"unordered": ["a"]}),
    (
        "unordered under a tolerance, where the first partner that fits is the wrong one",
        {"a": [1.0, 2.0]},
        {"a": [1.9, 2.9]},
        {"unordered": ["a"], "tolerance": {"a.*": 0.9}},
    ),
    (
        "unordered under a tolerance, where the order of sorting is not that of the partners",
        {"a": [{"at": 5.0, "z": 1}, {"at": 5.1, "z": 0}]},
        {"a": [{"at": 5.05, "z": 0}, {"at": 5.06, "z": 1}]},
        {"unordered": ["a"], "tolerance": {"a.*.at": 0.1}},
    ),
    ("a comparator of one's own", {"a": "X"}, {"a": "x"}, {"comparator": "tests.test_comparators:same_letters"}),
]

DIFFERENT: list[tuple[str, Any, Any, dict[str, Any], list[tuple[str, str]]]] = [
    ("a value", {"a": 1}, {"a": 2}, {}, [("a", "value")]),
    ("a type", {"a": 1}, {"a": "1"}, {}, [("a", "type")]),
    ("true and 1", {"a": True}, {"a": 1}, {}, [("a", "type")]),
    ("true and 1 inside", {"a": [{"b": 1}]}, {"a": [{"b": True}]}, {}, [("a.0.b", "type")]),
    ("false and 0.0", {"a": 0.0}, {"a": False}, {}, [("a", "type")]),
    ("NaN and a number", {"a": NAN}, {"a": 1.0}, {}, [("a", "value")]),
    ("only here", {"a": 1, "b": 2}, {"a": 1}, {}, [("b", "missing")]),
    ("only there", {"a": 1}, {"a": 1, "b": 2}, {}, [("b", "extra")]),
    ("a private name", {"a": {}}, {"a": {"__b": 1}}, {}, [("a.__b", "extra")]),
    ("list order", {"a": [1, 2]}, {"a": [2, 1]}, {"ignore": ["b"]}, []),
    ("null and missing", {"a": None}, {}, {"missing_equals_null": False}, [("a", "missing")]),
    ("null and missing in lists", {"a": [None]}, {"a": []}, {}, [("a.0", "missing")]),
    (
        "past the tolerance",
        {"a": NOON},
        {"a": NOON + SECOND + MILLISECOND},
        {"tolerance": {"a": "1s"}},
        [("a", "value")],
    ),
    ("past the tolerance of a number", {"a": 1.0}, {"a": 1.1001}, {"tolerance": {"a": 0.1}}, [("a", "value")]),
    ("a tolerance is not for true", {"a": True}, {"a": 1.0}, {"tolerance": {"a": 1.0}}, [("a", "type")]),
    ("nor for NaN", {"a": NAN}, {"a": 1.0}, {"tolerance": {"a": 1e9}}, [("a", "value")]),
    ("nor for infinity", {"a": float("inf")}, {"a": 1.0}, {"tolerance": {"a": 1e9}}, [("a", "value")]),
    ("nor for text that is no date", {"a": "x"}, {"a": "y"}, {"tolerance": {"a": "1s"}}, [("a", "value")]),
    ("a date with and one without zone", {"a": NOON}, {"a": NOON.replace(tzinfo=None)}, {"tolerance": {"a": "1s"}}, []),
    ("beside what is ignored", {"a": 1, "b": 1}, {"a": 2, "b": 2}, {"ignore": ["a"]}, [("b", "value")]),
    ("unordered, another item", {"a": [1, 2]}, {"a": [3, 1]}, {"unordered": ["a"]}, [("a.1", "value")]),
    ("unordered, one item too few", {"a": [1, 2, 3]}, {"a": [3, 1]}, {"unordered": ["a"]}, [("a.1", "missing")]),
    ("unordered, how often", {"a": [1, 1, 2]}, {"a": [1, 2, 2]}, {"unordered": ["a"]}, []),
    (
        "unordered under a tolerance, with only one partner for two",
        {"a": [1.0, 1.1]},
        {"a": [1.5, 9.0]},
        {"unordered": ["a"], "tolerance": {"a.*": 0.5}},
        [("a.1", "value")],
    ),
    ("a document too many", [{"a": 1}], [{"a": 1}, {"a": 2}], {}, [("1", "extra")]),
    ("a document too few", [{"a": 1}, {"a": 2}, {"a": 3}], [{"a": 1}, {"a": 3}], {}, [("1", "missing")]),
    ("no document", [], [{"a": 1}], {}, [("0", "extra")]),
    (
        "a field of one of the documents",
        [{"a": 1}, {"a": 2}, {"a": 3}],
        [{"a": 1}, {"a": 0}, {"a": 3}],
        {},
        [("1.a", "value")],
    ),
    ("a document and a list", {"a": 1}, [{"a": 1}], {}, [("$", "type")]),
    (
        "a comparator that says no",
        {"a": "X"},
        {"a": "y"},
        {"comparator": "tests.test_comparators:same_letters"},
        [("a", "value")],
    ),
]


def same_letters(primary: Any, secondary: Any) -> bool:
    return str(primary).lower() == str(secondary).lower()


@pytest.mark.parametrize(("one", "other", "said"), [case[1:] for case in SAME], ids=[case[0] for case in SAME])
def test_the_same(one: Any, other: Any, said: dict[str, Any]) -> None:
    assert compare(one, other, rules(**said)) is None
    assert compare(other, one, rules(**said)) is None


@pytest.mark.parametrize(("one", "other", "said"), [c[1:] for c in SAME if c[3]], ids=[c[0] for c in SAME if c[3]])
def test_it_takes_the_rule(one: Any, other: Any, said: dict[str, Any]) -> None:
    assert compare(one, other, rules()) is not None


@pytest.mark.parametrize(
    ("one", "other", "said", "shapes"), [case[1:] for case in DIFFERENT], ids=[case[0] for case in DIFFERENT]
)
def test_different(one: Any, other: Any, said: dict[str, Any], shapes: list[tuple[str, str]]) -> None:
    before = copy.deepcopy((one, other))
    found, reverse = compare(one, other, rules(**said)), compare(other, one, rules(**said))
    assert found is not None
    assert reverse is not None
    if shapes:
        assert [(change.path, change.kind) for change in found.changes] == shapes
    assert found.changes
    assert repr((one, other)) == repr(before), "neither is changed"


def test_missing_equals_null_can_be_said_otherwise_for_both_directions() -> None:
    strict = rules(missing_equals_null=False)
    assert compare({"a": None}, {"a": None}, strict) is None
    assert compare({}, {"a": None}, strict) == Difference((Change("a", "extra", None, None),))


def test_a_change_holds_the_values() -> None:
    found = compare({"a": {"b": 1}}, {"a": {"b": 2}}, rules())
    assert found == Difference((Change("a.b", "value", 1, 2),))


def test_changes_with_nan_are_equal_to_themselves_read_again() -> None:
    first = compare({"a": float("nan")}, {"a": 1.0}, rules())
    second = compare({"a": float("nan")}, {"a": 1.0}, rules())
    assert first == second
    assert first != compare({"a": float("nan")}, {"a": 2.0}, rules())
    assert hash(first) == hash(second)


def test_the_number_of_changes_is_bounded_and_the_rest_counted() -> None:
    one = [{"id": n, "a": n, "b": 0} for n in range(80)]
    other = [{"id": n, "a": -1, "b": 0} for n in range(80)]
    other[79]["b"] = 1
    found = compare(one, other, rules())
    assert found is not None
    assert len(found.changes) == MOST
    assert found.left_out == 81 - MOST
    assert {change.path for change in found.changes} >= {"79.b"}, "the first of every shape is kept"


def test_a_long_list_of_different_length_is_told_by_position_past_what_agrees_at_its_ends() -> None:
    one = [{"id": n, "data": list(range(20))} for n in range(100)]
    other = [{**document, "id": -1} for document in one[10:]]
    found = compare([{"first": True}, *one, {"last": True}], [{"first": True}, *other, {"last": True}], rules())
    assert found is not None
    assert {change.kind for change in found.changes} == {"value", "missing"}
    assert found.changes[1] == Change("91", "missing", {"id": 90, "data": list(range(20))}, None)
    assert found.left_out == 100 - MOST


def test_what_is_too_large_for_deepdiff_is_told_by_its_fields() -> None:
    one = {"a": list(range(LARGEST)), "b": 1, "c": 2, "same": 0}
    other = {"a": list(range(1, LARGEST + 1)), "b": 1, "d": 2, "same": 0}
    found = compare(one, other, rules())
    assert found is not None
    assert [(change.path, change.kind) for change in found.changes] == [
        ("a", "value"),
        ("c", "missing"),
        ("d", "extra"),
    ]


def test_many_large_documents_are_told_one_by_one() -> None:
    one = [{"id": n, "data": list(range(200))} for n in range(30)]
    other = [{**document, "id": -1} for document in one]
    other[7] = one[7]
    found = compare(one, other, rules())
    assert found == Difference(tuple(Change(f"{n}.id", "value", n, -1) for n in range(30) if n != 7))


def test_an_unknown_comparator_is_refused_when_the_rules_are_compiled() -> None:
    with pytest.raises(ValueError, match="no comparator nowhere:at_all; expected module:name"):
        rules(comparator="nowhere:at_all")


def test_normalising_leaves_the_original_alone() -> None:
    document = {"a": [2, 1], "b": None, "c": {"d": None, "e": 1}}
    assert normalise(document, rules(unordered=["a"], ignore=["c.e"])) == {"a": [1, 2], "c": {}}
    assert document == {"a": [2, 1], "b": None, "c": {"d": None, "e": 1}}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("updatedAt", "updatedAt"),
        ("3.updatedAt", "*.updatedAt"),
        ("data.items.12.price", "data.items.*.price"),
        ("data.65ab65ab65ab65ab65ab65ab.x", "data.*.x"),
        ("data.0e0e0e0e-0e0e-4e0e-8e0e-0e0e0e0e0e0e", "data.*"),
        ("data.x1", "data.x1"),
        ("$", "$"),
    ],
)
def test_general_paths(path: str, expected: str) -> None:
    assert general(path) == expected


def test_groups_gather_what_is_wrong_in_the_same_way() -> None:
    found = [
        compare([{"a": 1}, {"a": 2}], [{"a": 1}, {"a": 3}], rules()),
        compare([{"a": 9}, {"a": 2}], [{"a": 8}, {"a": 2}], rules()),
        compare([{"a": 1}], [{"a": "1"}], rules()),
    ]
    groups = [group("video", "list", difference) for difference in found if difference]
    assert groups[0] == groups[1] == Group("video", "list", (("*.a", "value"),))
    assert groups[2] == Group("video", "list", (("*.a", "type"),))
    assert groups[0].id == groups[1].id
    assert len({groups[0].id, groups[2].id, Group("video", "read", groups[0].shapes).id}) == 3


def test_a_groups_id_is_the_same_in_every_process() -> None:
    code = (
        "from comparators.group import Group; import json; print(json.dumps(Group('a', 'read', (('b', 'value'),)).id))"
    )
    ids = {
        json.loads(
            subprocess.check_output([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."})
        )
        for seed in ("1", "2")
    }
    assert ids == {Group("a", "read", (("b", "value"),)).id}
