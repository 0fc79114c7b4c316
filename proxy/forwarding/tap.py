"""A look at an answer while it streams past to the client."""

import asyncio
import zlib
from typing import Final

from multidict import CIMultiDictProxy

_WINDOW_BITS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class Undecodable(ValueError):
    """The body cannot be turned into what the upstream meant: an unknown coding, corrupt data, or too much of it."""


class Tap:
    """What the upstream answered, for whoever compares or records it. It never changes what the client gets.

    `status` is 0 and `headers` None until a head has come. `body` is the bytes as they were on the wire, or None
    when they are over `bound` bytes (or not complete). `complete` says that the whole answer came from the upstream.
    """

    __slots__ = ("_finished", "_parts", "_size", "bound", "complete", "headers", "status")

    def __init__(self, bound: int = 1024 * 1024) -> None:
        self.bound = bound
        self.status = 0
        self.headers: CIMultiDictProxy[str] | None = None
        self.complete = False
        self._parts: list[bytes] = []
        self._size = 0
        self._finished = asyncio.Event()

    @property
    def body(self) -> bytes | None:
        if not self.complete or self._size > self.bound:
            return None
        return b"".join(self._parts)

    def decoded(self) -> bytes:
        """The body without its content coding, at most ten times `bound`. Raises Undecodable."""
        body = self.body
        if body is None or self.headers is None:
            raise Undecodable("the body is over the bound, or did not come")
        listed = ",".join(self.headers.getall("Content-Encoding", [])).lower().split(",")
        for coding in reversed([coding.strip() for coding in listed]):
            if coding not in ("", "identity"):
                body = _decode(body, coding, self.bound * 10)
        return body

    async def wait(self) -> None:
        """Wait until the exchange has ended, whole or not. Its own deadlines bound this."""
        await self._finished.wait()

    def begin(self, status: int, headers: CIMultiDictProxy[str]) -> None:
        self.status = status
        self.headers = headers

    def feed(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size <= self.bound:
            self._parts.append(piece)
        else:
            self._parts.clear()

    def end(self) -> None:
        self._finished.set()


def _decode(body: bytes, coding: str, most: int) -> bytes:
    if coding not in _WINDOW_BITS:
        raise Undecodable(f"content coding {coding!r} is not supported")
    bits = _WINDOW_BITS[coding]
    if coding == "deflate" and body and body[0] & 0x0F != 8:
        bits = -15  # many servers send deflate without the zlib wrapper that RFC 9110 8.4.1.2 asks for
    decoder = zlib.decompressobj(bits)
    try:
        plain = decoder.decompress(body, most)
    except zlib.error as error:
        raise Undecodable(f"the body is not valid {coding}") from error
    if decoder.unconsumed_tail or (body and not decoder.eof):
        raise Undecodable(f"the {coding} body is truncated, or over {most} bytes when decoded")
    return plain
