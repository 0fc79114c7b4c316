"""One request carried to an upstream, and its answer carried back."""

import asyncio
from typing import Final

import structlog
from aiohttp import StreamReader, hdrs, web
from aiohttp.client_exceptions import ClientError, ClientOSError, ServerDisconnectedError
from aiohttp.http import HttpProcessingError, RawResponseMessage

from proxy.failure import Failure
from proxy.flags.confirm import Confirm
from proxy.forwarding.downstream import ClientGone, Downstream, Relayed, connection_field, framing
from proxy.forwarding.headers import REQUEST_ID, RawHeaders, interim_head, response_head
from proxy.forwarding.outbound import LAST_CHUNK, Outbound, chunk, may_leave_trailers, upload
from proxy.forwarding.tap import Tap
from proxy.forwarding.tunnel import tunnel
from proxy.forwarding.upstream import Connection, Upstream

log = structlog.get_logger()

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_MOST_INTERIM: Final = 64


class Exchange:
    """The state of one request on its way; `run` is called once.

    `marked` are fields that the answer carries in place of the upstream's. With `must_finish` the upstream is heard
    out even when the client has gone.
    """

    __slots__ = (
        "_client",
        "_confirm",
        "_connection",
        "_continued",
        "_fault",
        "_interim",
        "_leaving",
        "_marked",
        "_out",
        "_request",
        "_stop",
        "_tap",
        "_upload",
        "_upstream",
        "_via",
    )

    def __init__(
        self,
        request: web.BaseRequest,
        upstream: Upstream,
        out: Outbound,
        *,
        via: bytes,
        marked: RawHeaders,
        tap: Tap | None,
        must_finish: bool,
        stop: asyncio.Event,
        leaving: asyncio.Event,
        confirm: Confirm | None = None,
    ) -> None:
        self._request = request
        self._client = Downstream(request, stall=upstream.timeouts.idle, must_finish=must_finish)
        self._upstream = upstream
        self._out = out
        self._via = via
        self._marked = marked
        self._tap = tap
        self._stop = stop
        self._leaving = leaving
        self._confirm = confirm
        self._connection: Connection | None = None
        self._upload: asyncio.Task[None] | None = None
        self._fault: Failure | None = None
        self._continued = not out.expects
        self._interim = 0

    async def run(self) -> Relayed:
        """Carry the request up and the answer back. Raises Failure as long as nothing of an answer has gone out."""
        try:
            connection, message, payload = await self._ask()
            if self._confirm is not None:
                self._confirm()
            if message.code == 101:
                return await self._tunnel(connection, message)
            return await self._answer(connection, message, payload)
        finally:
            self._let_go(reuse=False)

    async def _ask(self) -> tuple[Connection, RawResponseMessage, StreamReader]:
        """Send the request; once more, on a new connection, when an old one turns out to be dead and that is safe."""
        fresh = False
        while True:
            connection = self._connection = await self._upstream.acquire(fresh=fresh)
            try:
                message, payload = await self._ask_on(connection)
            except (ClientError, HttpProcessingError, OSError) as error:
                self._let_go(reuse=False)
                stale = connection.reused and isinstance(error, (ServerDisconnectedError, ClientOSError))
                if stale and not fresh and not self._interim and self._out.repeatable:
                    fresh = True
                    continue
                raise (self._fault or _failure_of(error)) from error
            return connection, message, payload

    async def _ask_on(self, connection: Connection) -> tuple[RawResponseMessage, StreamReader]:
        out, handler, timeouts = self._out, connection.handler, self._upstream.timeouts
        connection.expect_answer(out.method, timeouts, self._upstream.limits)
        unanswered: asyncio.TimerHandle | None = None
        if out.body is not None:
            connection.transport.write(out.head + out.body)
            handler.start_timeout()
        else:
            loop = asyncio.get_running_loop()
            connection.transport.write(out.head)
            self._upload = loop.create_task(self._send_up(connection))
            if out.expects:
                unanswered = loop.call_later(timeouts.expect, self._let_client_continue)
        try:
            while True:
                message, payload = await handler.read()
                if message.code >= 200 or (message.code == 101 and out.upgrade is not None):
                    if message.headers.get(hdrs.TRANSFER_ENCODING, "chunked").lower() != "chunked":
                        raise HttpProcessingError(code=502, message="a transfer coding that nobody asked for")
                    return message, payload
                self._pass_on(message)
        finally:
            if unanswered is not None:
                unanswered.cancel()

    async def _send_up(self, connection: Connection) -> None:
        content, idle = self._request.content, self._upstream.timeouts.idle
        try:
            await upload(content, connection.handler, chunked=self._out.chunked, idle=idle)
        except Failure as failure:
            self._fault = failure
            connection.transport.abort()

    def _pass_on(self, message: RawResponseMessage) -> None:
        """RFC 9110 15.2: a 1xx goes on to the client."""
        self._interim += 1
        if message.code == 101 or self._interim > _MOST_INTERIM:
            raise HttpProcessingError(code=502, message="an interim answer that nobody asked for")
        if message.code == 100:
            self._let_client_continue()
        else:
            self._client.send_interim(interim_head(message.code, message.reason, message.raw_headers))

    def _let_client_continue(self) -> None:
        if not self._continued:
            self._client.send_interim(_CONTINUE)
        self._continued = True

    async def _answer(self, connection: Connection, message: RawResponseMessage, payload: StreamReader) -> Relayed:
        request, status, handler = self._request, message.code, connection.handler
        handler.read_timeout = self._upstream.timeouts.idle
        if self._tap is not None:
            self._tap.begin(status, message.headers)
        frame = framing(request, message)
        reusable = self._uploaded and not frame.until_close and not may_leave_trailers(request)
        keep_alive = bool(request.keep_alive) and reusable and not self._leaving.is_set()
        head = self._head(message, frame.field, connection_field(request, keep_alive=keep_alive))
        try:
            if payload.is_eof():
                body = self._take(payload.read_nowait(), chunked=frame.chunked)
                self._finished(connection, message)
                await self._client.send(head + body + (LAST_CHUNK if frame.chunked else b""))
            else:
                handler.start_timeout()
                await self._stream(head, payload, chunked=frame.chunked)
                self._finished(connection, message)
                if frame.chunked:
                    await self._client.send(LAST_CHUNK)
        except ClientGone:
            return Relayed(status, keep_alive=False, whole=False)
        except (ClientError, HttpProcessingError, OSError) as error:
            return self._break_off(status, error)
        return Relayed(status, keep_alive=keep_alive, whole=not self._client.gone)

    async def _stream(self, head: bytes, payload: StreamReader, *, chunked: bool) -> None:
        await self._client.send(head + self._take(payload.read_nowait(), chunked=chunked))
        while piece := await payload.readany():
            await self._client.send(self._take(piece, chunked=chunked))

    def _take(self, piece: bytes, *, chunked: bool) -> bytes:
        """The wire form of a piece of the body, after the tap has seen it."""
        if self._tap is not None:
            self._tap.feed(piece)
        return chunk(piece) if chunked else piece

    def _finished(self, connection: Connection, message: RawResponseMessage) -> None:
        """All of the answer has come. Raises what the connection died of, where only its end marks the body's end."""
        died_of = connection.handler.exception()
        if isinstance(died_of, ClientOSError) and not message.chunked and hdrs.CONTENT_LENGTH not in message.headers:
            raise died_of
        if self._tap is not None:
            self._tap.complete = True
        self._let_go(reuse=self._uploaded and not message.should_close)

    @property
    def _uploaded(self) -> bool:
        return self._upload is None or self._upload.done()

    def _head(self, message: RawResponseMessage, framing_field: bytes, connection: bytes) -> bytes:
        return response_head(
            message.code,
            message.reason,
            message.raw_headers,
            via=b"%d.%d %b" % (*message.version, self._via),
            framing=framing_field,
            connection=connection,
            replaced=self._marked,
        )

    def _break_off(self, status: int, error: BaseException) -> Relayed:
        log.warning(
            "forward_truncated",
            method=self._out.method,
            upstream=self._upstream.name,
            status=status,
            cause=type(error).__name__,
            request_id=self._request.get(REQUEST_ID),
        )
        self._client.abort()
        return Relayed(status, keep_alive=False, whole=False)

    async def _tunnel(self, connection: Connection, message: RawResponseMessage) -> Relayed:
        protocol = message.headers.get(hdrs.UPGRADE, "websocket").encode()
        try:
            await self._client.send(self._head(message, b"", b"Connection: Upgrade\r\nUpgrade: %b\r\n" % protocol))
        except ClientGone:
            return Relayed(101, keep_alive=False, whole=False)
        idle = self._upstream.timeouts.tunnel
        cause = await tunnel(self._request.protocol, connection.handler, idle=idle, stop=self._stop)
        request_id = self._request.get(REQUEST_ID)
        log.debug("tunnel_closed", upstream=self._upstream.name, cause=cause, request_id=request_id)
        return Relayed(101, keep_alive=False, whole=True)

    def _let_go(self, *, reuse: bool) -> None:
        if self._upload is not None:
            self._upload.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            self._upstream.release(connection, reuse=reuse)


def _failure_of(error: BaseException) -> Failure:
    if isinstance(error, TimeoutError):
        return Failure(504, "The upstream did not answer in time", reason="upstream_timeout")
    if isinstance(error, HttpProcessingError):
        return Failure(502, "The upstream's answer is not valid HTTP", reason="upstream_malformed")
    return Failure(502, "The upstream closed the connection without an answer", reason="upstream_closed")
