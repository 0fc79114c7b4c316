"""Placeholders: what fills them, what is left out, what is missing, and that nothing is read twice."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import templates
from config.templates import Left, Missing, Placeholder, Sources, TemplateError, compile_all, fill_all

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def fill(value: Any, **sources: Any) -> Any:
    return templates.compile(value).fill(Sources(now=NOW, **sources))


@pytest.mark.parametrize(
    ("value", "sources", "expected"),
    [
        ("{id}", {"path": {"id": "7"}}, "7"),
        ("{query.limit}", {"query": {"limit": "5"}}, "5"),
        ("{query.limit}", {"query": {"limit": ""}}, ""),
        ("{query.limit:20}", {}, "20"),
        ("{query.limit:20}", {"query": {"limit": ""}}, "20"),
        ("{query.limit:}", {}, ""),
        ("{query.at:12:30}", {}, "12:30"),
        ("{query.page[size]}", {"query": {"page[size]": "5"}}, "5"),
        ("{query.status?}", {}, Left.OUT),
        ("{query.status?}", {"query": {"status": ""}}, Left.OUT),
        ("{query.status?}", {"query": {"status": "NEW"}}, "NEW"),
        ("{body.title}", {"body": {"title": "a"}}, "a"),
        ("{body.count}", {"body": {"count": 3}}, 3),
        ("{body.title}", {"body": {"title": None}}, None),
        ("{body.title}", {"body": {"title": ""}}, ""),
        ("{body.title}", {"body": {"title": {"$ne": None}}}, {"$ne": None}),
        ("{body.a.b}", {"body": {"a": {"b": [1]}}}, [1]),
        ("{body.a.b?}", {"body": {"a": 1}}, Left.OUT),
        ("{body.a.b?}", {}, Left.OUT),
        ("{body.status:NEW}", {"body": {}}, "NEW"),
        ("{body.status:NEW}", {"body": {"status": None}}, None),
        ("{account.id}", {"account": {"id": "k"}}, "k"),
        ("{now}", {}, NOW),
        ("v-{id}.{query.ext:mp4}", {"path": {"id": "7"}}, "v-7.mp4"),
        ("v-{query.ext?}", {}, Left.OUT),
        ("{body.a}/{body.b}/{now}", {"body": {"a": True, "b": 1.5}}, "true/1.5/2026-11-22T12:00:00+00:00"),
        ("{{id}}", {}, "{id}"),
        ("{{{id}}}", {"path": {"id": "7"}}, "{7}"),
        ("", {}, ""),
        ("plain", {}, "plain"),
        (20, {}, 20),
        (None, {}, None),
        (True, {}, True),
        ([1, "{id}", "{query.x?}"], {"path": {"id": "7"}}, [1, "7"]),
        ({"a": "{id}", "b": ["{{"], "c": "{query.x?}"}, {"path": {"id": "7"}}, {"a": "7", "b": ["{"]}),
        ({"a": "}}"}, {}, {"a": "}"}),
        (["{{x}}"], {}, ["{x}"]),
    ],
)
def test_fills(value: Any, sources: Mapping[str, Any], expected: Any) -> None:
    filled = fill(value, **sources)
    assert filled == expected
    assert type(filled) is type(expected)


@pytest.mark.parametrize(
    ("value", "sources", "message"),
    [
        ("{id}", {}, "path parameter id is required"),
        ("{query.walletAddress}", {}, "query parameter walletAddress is required"),
        ("{body.title}", {"body": {}}, "body field title is required"),
        ("{body.title}", {}, "body field title is required"),
        ("{body.a.b}", {"body": {"a": [0]}}, "body field a.b is required"),
        ("{account.id}", {}, "account field id is required"),
        ("{account.id}", {"account": {}}, "account field id is required"),
        ("x{body.a}", {"body": {"a": {"$ne": 1}}}, "body field a must be text, a number, true or false"),
        ("x{body.a}", {"body": {"a": None}}, "body field a must be text, a number, true or false"),
    ],
)
def test_says_what_is_missing(value: str, sources: Mapping[str, Any], message: str) -> None:
    with pytest.raises(Missing) as caught:
        fill(value, **sources)
    assert str(caught.value) == message
    assert f"{caught.value.name} {caught.value.reason}" in message


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "}",
        "a{b",
        "{a}}",
        "{}",
        "{ id }",
        "{id?}",
        "{id:1}",
        "{now?}",
        "{account.id:1}",
        "{account.id?}",
        "{header.x}",
        "{query.}",
        "{body..a}",
        "{body.a.}",
        "{1}",
        "{query}extra}",
        "{é}",
    ],
)
def test_refuses_what_is_no_template(text: str) -> None:
    with pytest.raises(TemplateError):
        templates.compile(text)


def test_tells_its_placeholders() -> None:
    template = templates.compile(["{query.a:1}", {"b": "x{body.c?}"}])
    assert template.placeholders == (Placeholder("query", "a", "1"), Placeholder("body", "c", None, True))
    assert template.whole is None
    assert not template.constant
    assert templates.compile("{id}").whole == Placeholder("path", "id")
    assert templates.compile("{{id}}").constant


def test_a_template_with_placeholders_has_no_constant() -> None:
    assert templates.compile("{{id}}").fill_constant() == "{id}"
    with pytest.raises(ValueError, match="only a constant"):
        templates.compile("{id}").fill_constant()


def test_fill_all_leaves_out() -> None:
    compiled = compile_all({"accountId": "{account.id}", "status": "{query.status?}", "public": True})
    assert fill_all(compiled, Sources(now=NOW, account={"id": "k"})) == {"accountId": "k", "public": True}


def escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


@given(st.text())
def test_any_escaped_text_is_itself(text: str) -> None:
    assert fill(escaped(text)) == text


@given(st.text(), st.text(), st.text())
def test_what_fills_is_never_read(before: str, value: str, after: str) -> None:
    template = f"{escaped(before)}{{body.x}}{escaped(after)}"
    assert fill(template, body={"x": value}) == before + value + after


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_a_value_stays_the_one_that_was_sent(value: Any) -> None:
    assert fill("{body.x}", body={"x": value}) is value


def escaped_all(value: Any) -> Any:
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, list):
        return [escaped_all(item) for item in value]
    if isinstance(value, dict):
        return {name: escaped_all(item) for name, item in value.items()}
    return value


@given(json_values)
def test_constants_of_any_shape_are_themselves(value: Any) -> None:
    template = templates.compile(escaped_all(value))
    assert template.constant
    assert template.fill_constant() == value


@given(st.text(alphabet="{}ab.?:query", max_size=20))
def test_any_text_compiles_or_is_refused(text: str) -> None:
    try:
        template = templates.compile(text)
    except TemplateError:
        return
    assert template.constant == (not template.placeholders)
