"""Route patterns and the router, against a matcher that tries every route."""

from __future__ import annotations

from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.paths import Pattern, PatternError, Router, compile_pattern, parse_on

ROUTES = [
    "GET /api/videos",
    "GET /api/videos/{id}",
    "GET /api/videos/public",
    "PATCH /api/videos/{id}/status",
    "DELETE /api/{kind}/{id}",
    "DELETE /api/videos/public",
    "GET /api/{kind}/{id}/{part}",
    "GET /api/videos/{key}",
    "GET /café/{a}",
    "GET /",
    "GET /api/slash/",
]


def router(routes: list[str]) -> Router[str]:
    return Router((*parse_on(on), on) for on in routes)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/api/videos", ("GET /api/videos", {})),
        ("GET", "/api/videos?limit=1", ("GET /api/videos", {})),
        ("GET", "/api/videos/", None),
        ("GET", "/api/slash/", ("GET /api/slash/", {})),
        ("GET", "/api/slash", None),
        ("GET", "/", ("GET /", {})),
        ("GET", "", None),
        ("GET", "*", None),
        ("HEAD", "/api/videos", None),
        ("POST", "/api/videos", None),
        ("GET", "/api/videos/7", ("GET /api/videos/{id}", {"id": "7"})),
        ("GET", "/api/videos/public", ("GET /api/videos/public", {})),
        ("GET", "/api/videos/public?x=/a/b", ("GET /api/videos/public", {})),
        ("GET", "/api/videos/%70ublic", ("GET /api/videos/public", {})),
        ("GET", "/api/v%69deos/7", ("GET /api/videos/{id}", {"id": "7"})),
        ("GET", "/api/videos/a%2Fb", ("GET /api/videos/{id}", {"id": "a/b"})),
        ("GET", "/api/videos/a%20b+c", ("GET /api/videos/{id}", {"id": "a b+c"})),
        ("GET", "/api/videos/%C3%A9", ("GET /api/videos/{id}", {"id": "é"})),
        ("GET", "/api/videos/%FF", None),
        ("GET", "/api/videos/%zz", ("GET /api/videos/{id}", {"id": "%zz"})),
        ("GET", "/caf%C3%A9/1", ("GET /café/{a}", {"a": "1"})),
        ("GET", "/api/videos/7/8", ("GET /api/{kind}/{id}/{part}", {"kind": "videos", "id": "7", "part": "8"})),
        (
            "GET",
            "/api/videos/public/8",
            ("GET /api/{kind}/{id}/{part}", {"kind": "videos", "id": "public", "part": "8"}),
        ),
        ("GET", "/api//7/8", None),
        ("PATCH", "/api/videos/public/status", ("PATCH /api/videos/{id}/status", {"id": "public"})),
        ("DELETE", "/api/videos/7", ("DELETE /api/{kind}/{id}", {"kind": "videos", "id": "7"})),
        ("DELETE", "/api/videos/public", ("DELETE /api/videos/public", {})),
        ("DELETE", "/api/notes/public", ("DELETE /api/{kind}/{id}", {"kind": "notes", "id": "public"})),
    ],
)
def test_matches(method: str, path: str, expected: tuple[str, dict[str, str]] | None) -> None:
    assert router(ROUTES).match(method, path) == expected


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/api/videos/", ("GET /api/videos", {})),
        ("GET", "/API/Videos", ("GET /api/videos", {})),
        ("GET", "/api/VIDEOS/aB/", ("GET /api/videos/{id}", {"id": "aB"})),
        ("GET", "/api/videos/Public/?x=1", ("GET /api/videos/public", {})),
        (
            "GET",
            "/api/videos/Public/8",
            ("GET /api/{kind}/{id}/{part}", {"kind": "videos", "id": "Public", "part": "8"}),
        ),
        ("GET", "/api/slash", ("GET /api/slash/", {})),
        ("GET", "/CAF%C3%89/B", ("GET /café/{a}", {"a": "B"})),
        ("GET", "/", ("GET /", {})),
        ("GET", "//", None),
        ("GET", "/api/videos//", None),
    ],
)
def test_matches_as_express_does(method: str, path: str, expected: tuple[str, dict[str, str]] | None) -> None:
    assert Router(((*parse_on(on), on) for on in ROUTES), strict=False).match(method, path) == expected


def test_a_router_without_routes_matches_nothing() -> None:
    assert router([]).match("GET", "/") is None


@pytest.mark.parametrize(
    "on",
    [
        "GET",
        "GET  /a",
        "get /a",
        "HEAD /a",
        "GET a",
        "GET /a//b",
        "GET //",
        "GET /{}",
        "GET /{a b}",
        "GET /{a}{b}",
        "GET /{a",
        "GET /x{a}",
        "GET /{a}/{a}",
        "GET /{now}",
        "GET /a?b",
        "GET /a#b",
        "GET /a b",
        "GET /%61",
        " GET /a",
        "GET /a\n",
    ],
)
def test_refuses_what_no_request_can_have(on: str) -> None:
    with pytest.raises(PatternError):
        parse_on(on)


def test_a_pattern_tells_its_parts() -> None:
    assert compile_pattern("/a/{b}/") == Pattern("/a/{b}/", ("a", None, ""), ("b",))


def naive(
    patterns: list[tuple[str, Pattern, int]], method: str, path: str, strict: bool
) -> tuple[int, dict[str, str]] | None:
    """Every route that fits, and of these the one with a literal furthest to the left, or else the first."""
    try:
        segments = [unquote(segment, errors="strict") for segment in path.split("?")[0][1:].split("/")]
    except UnicodeDecodeError:
        return None
    if not strict and len(segments) > 1 and segments[-1] == "" != segments[-2]:
        segments.pop()
    fitting = []
    for its, pattern, target in patterns:
        own = list(pattern.segments[:-1] if not strict and pattern.segments[-1] == "" else pattern.segments)
        if its == method and len(own) == len(segments) and all(map(fits, own, segments, [strict] * len(own))):
            values = [given for literal, given in zip(own, segments, strict=True) if literal is None]
            fitting.append(
                ([literal is None for literal in own], target, dict(zip(pattern.names, values, strict=True)))
            )
    if not fitting:
        return None
    _, target, values_by_name = min(fitting, key=lambda found: found[:2])
    return target, values_by_name


def fits(own: str | None, given: str, strict: bool) -> bool:
    if own is None:
        return given != ""
    return own == given if strict else own.lower() == given.lower()


words = st.sampled_from(["a", "A", "b", "é", "É", "a b", "%"])
literals = st.sampled_from(["a", "b", "é"])
shapes = st.lists(literals | st.none(), min_size=1, max_size=4)
methods = st.sampled_from(["GET", "POST"])


def pattern_of(shape: list[str | None], slash: bool) -> Pattern:
    text = "/".join(f"{{p{index}}}" if segment is None else segment for index, segment in enumerate(shape))
    return compile_pattern(f"/{text}{'/' if slash else ''}")


paths = st.lists(words.map(quote) | st.sampled_from(["", "%FF", "x%2Fy"]), min_size=1, max_size=5)


declared = st.lists(st.tuples(methods, shapes, st.booleans()), max_size=25)


@given(declared, methods, paths, st.sampled_from(["", "?a/b"]), st.booleans())
def test_the_router_finds_what_trying_every_route_finds(
    routes: list[tuple[str, list[str | None], bool]], method: str, path: list[str], query: str, strict: bool
) -> None:
    patterns = [(its, pattern_of(segments, slash), number) for number, (its, segments, slash) in enumerate(routes)]
    request = "/" + "/".join(path) + query
    assert Router(patterns, strict=strict).match(method, request) == naive(patterns, method, request, strict)
