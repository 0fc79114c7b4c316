"""What a proxy changes in heads: pure functions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.forwarding.headers import (
    connection_options,
    encode_fields,
    forwarded_element,
    interim_head,
    request_head,
    response_head,
)

_names = st.sampled_from([b"Accept", b"x-a", b"X-B", b"Cookie", b"Set-Cookie", b"content-type"])
_values = st.binary(max_size=20).map(lambda raw: bytes(octet for octet in raw if octet >= 0x20 and octet != 0x7F))


def up(headers: list[tuple[bytes, bytes]], **options: object) -> list[bytes]:
    chosen: dict[str, object] = {
        "host": b"old:1",
        "remote": "10.0.0.1",
        "scheme": "https",
        "via": b"1.1 me",
        "framing": b"",
    } | options
    return request_head("GET", b"/", headers, **chosen).split(b"\r\n")  # type: ignore[arg-type]


@given(st.lists(st.tuples(_names, _values)))
def test_end_to_end_fields_keep_name_value_and_order(fields: list[tuple[bytes, bytes]]) -> None:
    expected = [b"%b: %b" % field for field in fields]
    assert up(fields)[2 : 2 + len(fields)] == expected
    down = response_head(200, "OK", fields, via=b"1.1 me", framing=b"", connection=b"")
    assert down.split(b"\r\n")[1 : 1 + len(fields)] == expected


@pytest.mark.parametrize(
    ("remote", "host", "element"),
    [
        ("10.0.0.1", b"a.example:80", b'for=10.0.0.1;proto=http;host="a.example:80"'),
        ("2001:db8::1", b"", b'for="[2001:db8::1]";proto=http'),
        (None, b"", b"for=unknown;proto=http"),
        ("", b"", b"for=unknown;proto=http"),
        ("/run/socket,for=1.1.1.1", b"", b"for=unknown;proto=http"),
        ("1.1.1.1", b'a";for=2.2.2.2', b'for=1.1.1.1;proto=http;host="a\\";for=2.2.2.2"'),
        ("1.1.1.1", b"a\\", b'for=1.1.1.1;proto=http;host="a\\\\"'),
    ],
)
def test_a_forwarded_element_is_well_formed(remote: str | None, host: bytes, element: bytes) -> None:
    assert forwarded_element(remote, host, "http") == element


def test_connection_options_are_folded_over_all_fields() -> None:
    headers = [(b"Connection", b"close, X-A"), (b"Other", b"x"), (b"CONNECTION", b" x-b ,")]
    assert connection_options(headers) == {b"close", b"x-a", b"x-b", b""}
    assert connection_options([(b"Other", b"x")]) == frozenset()


def test_connection_cannot_take_away_what_the_proxy_says() -> None:
    lines = up(
        [
            (b"Connection", b"x-forwarded-for, via, x-request-id, host"),
            (b"X-Forwarded-For", b"1.1.1.1"),
            (b"Host", b"h"),
        ],
        replaced=[(b"X-Request-Id", b"r")],
    )
    assert b"X-Forwarded-For: 1.1.1.1, 10.0.0.1" in lines
    assert b"X-Request-Id: r" in lines
    assert b"X-Forwarded-Host: h" in lines
    assert b"Via: 1.1 me" in lines
    assert lines[1] == b"Host: old:1"


def test_an_upgrade_is_asked_for_by_both_fields() -> None:
    lines = up([(b"Connection", b"keep-alive, Upgrade"), (b"Upgrade", b"websocket")], upgrade=b"websocket")
    assert [line for line in lines if line.startswith((b"Connection", b"Upgrade"))] == [
        b"Connection: Upgrade",
        b"Upgrade: websocket",
    ]


def test_interim_heads_lose_the_hop_only() -> None:
    raw = [(b"Link", b"</a>"), (b"Connection", b"x-hop"), (b"X-Hop", b"1"), (b"Content-Length", b"0")]
    assert interim_head(103, "Early Hints", raw) == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


@pytest.mark.parametrize("value", ["a\r\nX-Injected: 1", "a\nb", "nul\x00", "del\x7f"])
def test_fields_that_would_inject_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        encode_fields([("X-A", value)])
