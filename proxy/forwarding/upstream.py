"""Connections to one old server: made, kept alive, handed out, bounded.

aiohttp's client session cannot send a request target or a header block as it came (it rebuilds the URL, `?` at its end
and `*` are lost, and it folds header names), and it hides 1xx answers. So the pool here holds the protocol objects that
aiohttp itself puts on such connections, `ResponseHandler`, and leaves to them the parsing and the flow control.
"""

import asyncio
import ssl
from collections import deque
from dataclasses import dataclass
from typing import Final

from aiohttp.client_exceptions import ClientPayloadError
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from proxy.failure import Failure

_READ_BUFFER: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Deadlines in seconds. A stream as a whole has none: it may go on as long as it moves."""

    connect: float = 5.0  # a connection, including the wait for a free one
    first_byte: float = 60.0  # from the end of the request to the head of the answer
    idle: float = 60.0  # between two pieces of a body, either way
    expect: float = 1.0  # how long an upstream may leave `Expect: 100-continue` unanswered
    keep_alive: float = 4.0  # of an unused connection; below Node's 5 s, so that the upstream seldom closes first
    tunnel: float = 3600.0  # without a byte in either direction
    drain: float = 10.0  # on shutdown, for exchanges that must not be cut


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds. `connections` and `waiting` count per upstream; the rest are bytes, or fields, of an answer's head."""

    connections: int = 512
    waiting: int = 1024
    line: int = 32 * 1024
    field: int = 32 * 1024
    fields: int = 256


class _Handler(ResponseHandler):
    """Tells whoever reads a body that the connection ended, also after a malformed chunk, when aiohttp does not."""

    def connection_lost(self, exc: BaseException | None) -> None:
        payload = self._payload
        super().connection_lost(exc)
        if payload is not None and not payload.is_eof() and payload.exception() is None:
            payload.set_exception(ClientPayloadError("the connection ended inside the body"))


class Connection:
    """One TCP or TLS connection, lent to one exchange at a time."""

    __slots__ = ("expires", "handler", "reused", "transport")

    def __init__(self, transport: asyncio.Transport, handler: ResponseHandler) -> None:
        self.transport = transport
        self.handler = handler
        self.reused = False
        self.expires = 0.0

    def expect_answer(self, method: str, timeouts: Timeouts, limits: Limits) -> None:
        """Get ready to parse the answer to a request of this method."""
        self.handler.set_response_params(
            skip_payload=method == "HEAD",
            read_until_eof=True,
            auto_decompress=False,
            read_timeout=timeouts.first_byte,
            read_bufsize=_READ_BUFFER,
            max_line_size=limits.line,
            max_field_size=limits.field,
            max_headers=limits.fields,
        )

    def usable(self) -> bool:
        return self.handler.is_connected() and not self.handler.should_close


class Upstream:
    """The connections to one server, by name and origin.

    `acquire` gives a connection or raises Failure with a reason of `NEVER_SENT`; every connection that it gave must
    come back through `release`.
    """

    def __init__(self, name: str, url: URL, timeouts: Timeouts, limits: Limits) -> None:
        host, port = url.host, url.port
        if url.scheme not in ("http", "https") or host is None or port is None:
            raise ValueError(f"upstream {name}: expected http://host or https://host, got {url.scheme}:")
        if url.raw_query_string or url.raw_fragment or url.user or url.password:
            raise ValueError(f"upstream {name}: a query, fragment or credentials cannot be part of its URL")
        self.name = name
        self.authority = (url.host_port_subcomponent or host).encode("ascii")
        self.prefix = url.raw_path.rstrip("/").encode("ascii")
        self.timeouts = timeouts
        self.limits = limits
        self._host = host
        self._port = port
        self._ssl = ssl.create_default_context() if url.scheme == "https" else None
        self._idle: deque[Connection] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._lent = 0
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def lent(self) -> int:
        return self._lent

    async def acquire(self, *, fresh: bool = False) -> Connection:
        """A connection that is open as far as this end knows; `fresh` forbids one that was used before."""
        if self._lent < self.limits.connections:
            self._lent += 1
        else:
            await self._turn()
        while self._idle and not fresh:
            connection = self._idle.pop()
            if connection.usable():
                connection.reused = True
                return connection
            connection.transport.close()
        try:
            return await self._connect()
        except BaseException:
            self._give_up_place()
            raise

    def release(self, connection: Connection, *, reuse: bool) -> None:
        """Take a connection back; without `reuse`, or where its state does not allow it, it is closed."""
        if reuse and connection.usable():
            loop = asyncio.get_running_loop()
            connection.expires = loop.time() + self.timeouts.keep_alive
            self._idle.append(connection)
            if self._sweep is None:
                self._sweep = loop.call_later(self.timeouts.keep_alive, self._close_expired)
        elif not connection.transport.is_closing():
            connection.transport.abort()
        self._give_up_place()

    def close(self) -> None:
        """Close what is idle; nothing may be acquired any more."""
        if self._sweep is not None:
            self._sweep.cancel()
        while self._idle:
            self._idle.pop().transport.close()

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.timeouts.connect):
                transport, handler = await loop.create_connection(
                    lambda: _Handler(loop), self._host, self._port, ssl=self._ssl
                )
        except TimeoutError as error:
            late = "The upstream did not accept a connection in time"
            raise Failure(504, late, reason="upstream_connect_timeout", retry_after=1) from error
        except OSError as error:
            away = "The upstream cannot be reached"
            raise Failure(502, away, reason="upstream_unreachable", retry_after=1) from error
        return Connection(transport, handler)

    async def _turn(self) -> None:
        """Wait until another exchange hands its place over."""
        busy = Failure(503, "Too many requests are waiting for the upstream", reason="upstream_busy", retry_after=1)
        if len(self._waiting) >= self.limits.waiting:
            raise busy
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(self.timeouts.connect):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._give_up_place()
            else:
                self._waiting.remove(turn)
            if isinstance(error, TimeoutError):
                raise busy from error
            raise

    def _give_up_place(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._lent -= 1

    def _close_expired(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._idle and (self._idle[0].expires <= now or not self._idle[0].usable()):
            self._idle.popleft().transport.close()
        again = self._idle[0].expires - now if self._idle else None
        self._sweep = None if again is None else loop.call_later(again, self._close_expired)
