"""A client's request as it goes upstream: target, head, framing, body."""

import asyncio
from dataclasses import dataclass
from typing import Final

from aiohttp import StreamReader, hdrs, web
from aiohttp.client_exceptions import ClientConnectionResetError
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpVersion11, StreamWriter

from proxy.failure import Failure
from proxy.forwarding.headers import RawHeaders, connection_options, request_head
from proxy.forwarding.upstream import Upstream

CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"
# The only protocol for which aiohttp's server stops parsing the client's bytes as HTTP.
_TUNNELLED: Final = frozenset({"websocket"})
# RFC 9110 9.2.2: what may be sent again when nothing says that it was not done.
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})


@dataclass(frozen=True, slots=True)
class Outbound:
    """`body` is the body as it goes on the wire, or None when it is still coming from the client."""

    method: str
    head: bytes
    body: bytes | None
    chunked: bool
    upgrade: bytes | None
    expects: bool

    @property
    def repeatable(self) -> bool:
        return self.body is not None and self.method in _IDEMPOTENT


def may_leave_trailers(request: web.BaseRequest) -> bool:
    """Whether the client's connection must not be used after this request.

    aiohttp's parser gives the trailers of a chunked request to the next request on the connection, as its fields: on a
    connection that carries several clients' requests, one could put words into another's mouth.
    """
    return hdrs.TRANSFER_ENCODING in request.headers


def chunk(piece: bytes) -> bytes:
    """`piece` as one chunk (RFC 9112 7.1); nothing for no bytes, which would end the body."""
    return b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""


def outbound(
    request: web.BaseRequest, upstream: Upstream, *, body: bytes | None, replaced: RawHeaders, via: bytes
) -> Outbound:
    """What to send upstream for `request`; `body` replaces its own.

    Raises Failure for what cannot be forwarded: CONNECT, transfer codings other than chunked, a broken body.
    """
    if request.method == hdrs.METH_CONNECT:
        raise Failure(501, "CONNECT is not supported", reason="method_not_supported", close=True)
    chunked = _is_chunked(request)
    authority, target = _target(request)
    length = request.headers.get(hdrs.CONTENT_LENGTH)
    whole: bytes | None
    if body is not None:
        chunked, whole = False, body
        framing = b"" if not body and length is None else b"Content-Length: %d\r\n" % len(body)
    else:
        whole = _received(request.content)
        framing = CHUNKED if chunked else b"" if length is None else b"Content-Length: %b\r\n" % length.encode()
        if chunked and whole is not None:
            whole = chunk(whole) + LAST_CHUNK
    upgrade = _upgrade(request)
    head = request_head(
        request.method,
        target if target == b"*" else upstream.prefix + target,
        request.raw_headers,
        host=upstream.authority,
        original_host=authority,
        remote=request.remote,
        scheme="https" if request.protocol.ssl_context else "http",
        via=via,
        framing=framing,
        replaced=replaced,
        upgrade=upgrade,
        expect=body is None,
    )
    expects = body is None and hdrs.EXPECT in request.headers and request.headers[hdrs.EXPECT].lower() == "100-continue"
    return Outbound(request.method, head, whole, chunked, upgrade, expects)


async def upload(content: StreamReader, handler: ResponseHandler, *, chunked: bool, idle: float) -> None:
    """Send what is still to come of a body, as fast as the upstream takes it.

    Gives up quietly when the upstream stops taking it: its answer, or the lack of one, tells why. Raises Failure when
    the client's part breaks off or stalls for `idle` seconds, or when the upstream stalls as long.
    """
    writer = StreamWriter(handler, asyncio.get_running_loop())
    while True:
        try:
            async with asyncio.timeout(idle):
                piece = await content.readany()
        except TimeoutError as error:
            raise Failure(408, "The request body stopped coming", reason="client_timeout", close=True) from error
        except Exception as error:
            raise _broken_body() from error
        try:
            async with asyncio.timeout(idle):
                if piece:
                    await writer.write(chunk(piece) if chunked else piece, LIMIT=0)
                    continue
                if chunked:
                    await writer.write(LAST_CHUNK)
        except TimeoutError as error:
            raise Failure(504, "The upstream stopped reading the request", reason="upstream_timeout") from error
        except ClientConnectionResetError:
            return
        handler.start_timeout()
        return


def _is_chunked(request: web.BaseRequest) -> bool:
    codings = request.headers.getall(hdrs.TRANSFER_ENCODING, None)
    if codings is None:
        return False
    if request.version < HttpVersion11:
        raise _misframed(400, "Transfer-Encoding is not part of HTTP/1.0")
    if len(codings) != 1 or codings[0].strip().lower() != "chunked":
        raise _misframed(501, "Only the transfer coding chunked is supported")
    if hdrs.CONTENT_LENGTH in request.headers:
        raise _misframed(400, "Both Content-Length and Transfer-Encoding")
    return True


def _broken_body() -> Failure:
    return Failure(400, "The request body is malformed or broke off", reason="client_body", close=True)


def _misframed(status: int, message: str) -> Failure:
    return Failure(status, message, field="Transfer-Encoding", reason="framing", close=True)


def _target(request: web.BaseRequest) -> tuple[bytes | None, bytes]:
    """The authority that the target names, if any, and the target in origin-form or `*` (RFC 9112 3.2)."""
    raw = request.raw_path.encode("utf-8", "surrogateescape")
    if raw.startswith(b"/") or raw == b"*":
        return None, raw
    after_scheme = raw.partition(b"://")[2]
    ends = [at for at in (after_scheme.find(mark) for mark in b"/?#") if at >= 0]
    end = min(ends, default=len(after_scheme))
    authority, target = after_scheme[:end].rpartition(b"@")[2], after_scheme[end:]
    if not target:
        return authority, b"*" if request.method == hdrs.METH_OPTIONS else b"/"
    return authority, target if target.startswith(b"/") else b"/" + target


def _received(content: StreamReader) -> bytes | None:
    """The body, if all of it has come."""
    if content.exception() is not None:
        raise _broken_body()
    if not content.is_eof():
        return None
    data = content.read_nowait()
    if len(data) != content.total_bytes:
        raise RuntimeError("the body has been read already: pass it on as body=")
    return data


def _upgrade(request: web.BaseRequest) -> bytes | None:
    protocol = request.headers.get(hdrs.UPGRADE)
    if protocol is None or protocol.lower() not in _TUNNELLED or request.version < HttpVersion11:
        return None
    return protocol.encode() if b"upgrade" in connection_options(request.raw_headers) else None
