"""What holds of every comparison, whatever the documents."""

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from comparators.compare import agree, compare
from comparators.normalise import normalise
from comparators.rules import Rules
from comparators.same import identical, same
from config.model import Compare

DATES = st.datetimes(datetime(2026, 1, 1), datetime(2026, 1, 2)).map(lambda when: when.replace(tzinfo=UTC))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats()
    | st.text("ab", max_size=2)
    | DATES
    | st.decimals(allow_nan=False)
)
NAMES = st.sampled_from("abc")
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=8
)
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=3)
READS = DOCUMENTS | st.lists(DOCUMENTS, max_size=3)
PATHS = st.lists(st.sampled_from(["a", "b", "c", "*", "0"]), min_size=1, max_size=3).map(".".join)
TOLERANCES = st.floats(0, 2) | st.timedeltas(timedelta(), timedelta(hours=1))
RULES = st.builds(
    Compare,
    ignore=st.lists(PATHS, max_size=2),
    tolerance=st.dictionaries(PATHS, TOLERANCES, max_size=2),
    unordered=st.lists(PATHS, max_size=2),
    missing_equals_null=st.booleans(),
).map(Rules.of)


@given(READS, RULES)
def test_a_copy_is_the_same(read: Any, rules: Rules) -> None:
    assert compare(read, copy.deepcopy(read), rules) is None


@given(READS, READS, RULES)
def test_it_does_not_matter_which_side_is_the_primary(one: Any, other: Any, rules: Rules) -> None:
    assert (compare(one, other, rules) is None) == (compare(other, one, rules) is None)


@given(READS, READS)
def test_a_difference_has_changes_and_no_rules_mean_equality(one: Any, other: Any) -> None:
    found = compare(one, other, Rules(missing_equals_null=False))
    assert (found is None) == identical(one, other)
    assert found is None or found.changes


@given(READS, READS, RULES)
def test_rules_never_make_the_same_differ_and_whatever_differs_is_explained(one: Any, other: Any, rules: Rules) -> None:
    found = compare(one, other, rules)
    if found is not None:
        assert compare(one, other, Rules(missing_equals_null=False)) is not None
        assert found.changes
        assert found == compare(copy.deepcopy(one), copy.deepcopy(other), rules)


@given(READS, READS, RULES)
def test_comparing_field_by_field_is_comparing_what_is_normalised(one: Any, other: Any, rules: Rules) -> None:
    mine, theirs = normalise(one, rules), normalise(other, rules)
    if isinstance(mine, list) and isinstance(theirs, list):
        expected = len(mine) == len(theirs) and all(same(a, b, rules.root) for a, b in zip(mine, theirs, strict=True))
    else:
        expected = same(mine, theirs, rules.root)
    assert agree(one, other, rules) == expected


@given(DATES, st.timedeltas(timedelta(), timedelta(minutes=1)))
def test_the_bound_of_a_tolerance_is_within_it(when: datetime, tolerance: timedelta) -> None:
    rules = Rules.of(Compare(tolerance={"at": tolerance}))
    assert compare({"at": when}, {"at": when + tolerance}, rules) is None
    assert compare({"at": when}, {"at": when + tolerance + timedelta(microseconds=1)}, rules) is not None


@given(st.lists(VALUES, max_size=5), st.randoms(use_true_random=False))
def test_order_does_not_matter_where_the_rules_say_so(items: list[Any], random: Any) -> None:
    shuffled = copy.deepcopy(items)
    random.shuffle(shuffled)
    assert compare({"a": items}, {"a": shuffled}, Rules.of(Compare(unordered=["a"]))) is None
