"""The client's end of an exchange: how an answer is framed for it, written to it, or broken off."""

import asyncio
import socket
import struct
from dataclasses import dataclass
from typing import Final, cast

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11, RawResponseMessage, StreamWriter

from proxy.forwarding.outbound import CHUNKED

_NO_BODY: Final = frozenset({204, 304})


class Relayed(web.StreamResponse):
    """An answer that has already gone to the client: changing it has no effect. `whole`: the client got all of it."""

    def __init__(self, status: int, *, keep_alive: bool, whole: bool) -> None:
        super().__init__(status=status)
        self._keep_alive = keep_alive
        self.whole = whole

    @property
    def prepared(self) -> bool:
        return True

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing is left to send."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to send."""


class ClientGone(Exception):
    """The client's connection closed, or took nothing for too long."""


@dataclass(frozen=True, slots=True)
class Framing:
    """The framing field of an answer, whether its body is chunked, whether the connection's end ends it."""

    field: bytes
    chunked: bool
    until_close: bool


def framing(request: web.BaseRequest, message: RawResponseMessage) -> Framing:
    """How the client gets the body of `message`: as it came, as far as its HTTP version allows (RFC 9112 6.3)."""
    length = message.headers.get(hdrs.CONTENT_LENGTH)
    declared = b"" if length is None else b"Content-Length: %b\r\n" % length.encode()
    if request.method == hdrs.METH_HEAD or message.code in _NO_BODY:
        return Framing(b"" if message.code == 204 else declared, chunked=False, until_close=False)
    if length is not None and not message.chunked:
        return Framing(declared, chunked=False, until_close=False)
    if request.version >= HttpVersion11:
        return Framing(CHUNKED, chunked=True, until_close=False)
    return Framing(b"", chunked=False, until_close=True)


def connection_field(request: web.BaseRequest, *, keep_alive: bool) -> bytes:
    if not keep_alive:
        return b"Connection: close\r\n"
    return b"" if request.version >= HttpVersion11 else b"Connection: keep-alive\r\n"


class Downstream:
    """Writes to the client that sent `request`. `stall` is for how many seconds it may take nothing.

    With `must_finish`, writing to a client that has gone is no error: there is nobody to tell.
    """

    __slots__ = ("_must_finish", "_request", "_stall", "_writer", "gone")

    def __init__(self, request: web.BaseRequest, *, stall: float, must_finish: bool) -> None:
        self._request = request
        self._writer = cast(StreamWriter, request.writer)
        self._stall = stall
        self._must_finish = must_finish
        self.gone = False

    async def send(self, data: bytes) -> None:
        """Write, and wait while the client is slow. Raises ClientGone."""
        if self.gone:
            return
        try:
            await self._writer.write(data, drain=False)
            if self._request.protocol.writing_paused:
                async with asyncio.timeout(self._stall):
                    await self._writer.drain()
        except (ConnectionError, TimeoutError) as error:
            self.abort()
            if not self._must_finish:
                raise ClientGone from error

    def send_interim(self, head: bytes) -> None:
        """Write a 1xx head, if the client speaks a version that has such."""
        transport = self._request.transport
        if self._request.version >= HttpVersion11 and transport is not None:
            transport.write(head)

    def abort(self) -> None:
        """End the connection in a way that cannot be taken for the end of a body: by a reset."""
        self.gone = True
        transport = self._request.transport
        if transport is not None:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
