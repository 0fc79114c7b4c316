"""What a proxy changes in the heads of messages, and nothing else.

Heads are built as bytes from the bytes that came in, so that names keep their case, duplicates their order, and
values whatever encoding they had. Everything else is as RFC 9110 section 7.6 asks of an intermediary.
"""

import re
from collections.abc import Iterable, Sequence
from email.utils import formatdate
from typing import Final

from aiohttp import web

RawHeaders = Sequence[tuple[bytes, bytes]]

REQUEST_ID: Final = web.RequestKey("request_id", str)
"""What a request is known by in headers, events and answers."""

# RFC 9110 7.6.1, and 11.7 for Proxy-*. Trailers are not forwarded, hence neither is what announces them.
HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# Dropped or rewritten on the way up; the rest of a request's fields pass as they are.
_REQUEST_SPECIAL: Final = HOP_BY_HOP | {
    b"content-length",
    b"expect",
    b"forwarded",
    b"host",
    b"via",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
}
_RESPONSE_SPECIAL: Final = HOP_BY_HOP | {b"content-length", b"date", b"via"}
_FORBIDDEN: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_NODENAME: Final = re.compile(r"[A-Za-z0-9._-]+")


def encode_fields(fields: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Fields as bytes. Raises ValueError for one that holds a control character (a header injection)."""
    encoded = [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in fields]
    for name, value in encoded:
        if _FORBIDDEN.search(name) or _FORBIDDEN.search(value):
            raise ValueError(f"control character in header {name.decode()!r}")
    return encoded


def connection_options(headers: RawHeaders) -> frozenset[bytes]:
    """The lower-case names that a message's Connection fields list."""
    listed = [value for name, value in headers if name.lower() == b"connection"]
    if not listed:
        return frozenset()
    return frozenset(option.strip().lower() for value in listed for option in value.split(b","))


def forwarded_element(remote: str | None, host: bytes, scheme: str) -> bytes:
    """One RFC 7239 element for the client that this proxy heard the request from."""
    node = remote or "unknown"
    if ":" in node:
        node = f'"[{node}]"'
    elif not _NODENAME.fullmatch(node):
        node = "unknown"
    element = f"for={node};proto={scheme}".encode()
    if host:
        element += b';host="' + host.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    return element


def request_head(
    method: str,
    target: bytes,
    headers: RawHeaders,
    *,
    host: bytes,
    remote: str | None,
    scheme: str,
    via: bytes,
    framing: bytes,
    original_host: bytes | None = None,
    replaced: RawHeaders = (),
    upgrade: bytes | None = None,
    expect: bool = True,
) -> bytes:
    """The head of the request that goes upstream, with the blank line.

    `host` is the upstream's authority, `framing` a complete field line (or nothing) that takes the place of
    Content-Length and Transfer-Encoding, `original_host` what an absolute target named instead of Host, `replaced`
    fields that take the place of all of their name, `upgrade` the protocol to ask for, `expect` whether Expect passes.
    """
    dropped = {name.lower() for name, _ in replaced}
    dropped.update(connection_options(headers))
    lines = [b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (method.encode(), target, host)]
    heard_host = original_host or b""
    appended: dict[bytes, bytes] = {}
    for name, value in headers:
        lower = name.lower()
        if lower in _REQUEST_SPECIAL:
            if lower == b"host":
                heard_host = heard_host or value
            elif lower == b"expect":
                if expect:
                    lines.append(b"%b: %b\r\n" % (name, value))
            elif lower not in HOP_BY_HOP and lower != b"content-length":
                appended[lower] = appended[lower] + b", " + value if lower in appended else value
        elif lower not in dropped:
            lines.append(b"%b: %b\r\n" % (name, value))
    client = (remote or "unknown").encode()
    lines.append(framing)
    lines.append(_appended(appended, b"X-Forwarded-For", client))
    lines.append(_appended(appended, b"X-Forwarded-Proto", scheme.encode()))
    if heard_host:
        lines.append(_appended(appended, b"X-Forwarded-Host", heard_host))
    lines.append(_appended(appended, b"Forwarded", forwarded_element(remote, heard_host, scheme)))
    lines.append(_appended(appended, b"Via", via))
    lines.extend(b"%b: %b\r\n" % field for field in replaced)
    if upgrade is not None:
        lines.append(b"Connection: Upgrade\r\nUpgrade: %b\r\n" % upgrade)
    lines.append(b"\r\n")
    return b"".join(lines)


def response_head(
    status: int,
    reason: str,
    headers: RawHeaders,
    *,
    via: bytes,
    framing: bytes,
    connection: bytes,
    replaced: RawHeaders = (),
) -> bytes:
    """The head of the answer that goes to the client, with the blank line; Date is added where there is none."""
    dropped = {name.lower() for name, _ in replaced}
    dropped.update(connection_options(headers))
    lines = [b"HTTP/1.1 %d %b\r\n" % (status, reason.encode("utf-8", "surrogateescape"))]
    passed_through = b""
    dated = False
    for name, value in headers:
        lower = name.lower()
        if lower in _RESPONSE_SPECIAL:
            if lower == b"date":
                dated = True
                lines.append(b"%b: %b\r\n" % (name, value))
            elif lower == b"via":
                passed_through += value + b", "
        elif lower not in dropped:
            lines.append(b"%b: %b\r\n" % (name, value))
    if not dated:
        lines.append(b"Date: %b\r\n" % formatdate(usegmt=True).encode())
    lines.extend(b"%b: %b\r\n" % field for field in replaced)
    lines.append(b"Via: %b%b\r\n%b%b\r\n" % (passed_through, via, framing, connection))
    return b"".join(lines)


def interim_head(status: int, reason: str, headers: RawHeaders) -> bytes:
    """The head of a 1xx that is passed on: no framing, nothing added."""
    dropped = HOP_BY_HOP | connection_options(headers) | {b"content-length"}
    lines = [b"HTTP/1.1 %d %b\r\n" % (status, reason.encode("utf-8", "surrogateescape"))]
    lines.extend(b"%b: %b\r\n" % field for field in headers if field[0].lower() not in dropped)
    lines.append(b"\r\n")
    return b"".join(lines)


def _appended(earlier: dict[bytes, bytes], name: bytes, value: bytes) -> bytes:
    before = earlier.get(name.lower())
    return b"%b: %b\r\n" % (name, value if not before else before + b", " + value)
