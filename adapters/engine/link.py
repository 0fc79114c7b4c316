"""The connection to the engine process: one JSON text a line, many requests in flight, replies in any order."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import orjson

from adapters.engine.errors import EngineGone, EngineTimeout, Invalid, Unavailable, Unreadable, engine_error

LONGEST: Final = 64 * 2**20  # bytes of a request, as the engine takes them
_ID: Final = re.compile(rb' ?\{"id":(\d+),')  # what every reply begins with
_UNUSUAL: Final = 0x20  # a reply that starts with a space asks for a reader of integers beyond 64 bits, and of NaN


class Link(asyncio.Protocol):
    """Use it on the event loop that made it. `lost` is done when the connection has ended, for whatever reason."""

    def __init__(self, *, limit: int, constraints: Callable[[], Mapping[str, tuple[str, ...]]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit = limit
        self._constraints = constraints
        self._pending: dict[int, tuple[asyncio.Future[Any], asyncio.TimerHandle]] = {}
        self._last_id = 0
        self._outgoing: list[bytes] = []
        self._incoming: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._heard = self._loop.time()
        self.lost: asyncio.Future[None] = self._loop.create_future()

    @property
    def in_flight(self) -> int:
        return len(self._pending)

    @property
    def silence(self) -> float:
        """Seconds since the engine was last heard of."""
        return self._loop.time() - self._heard

    @property
    def ended(self) -> bool:
        """Nothing can be sent any more; `lost` follows."""
        return self._transport is None or self._transport.is_closing()

    def request(self, body: dict[str, Any], timeout: float) -> asyncio.Future[Any]:
        """Send a request; the future is its result or its EngineError. Raises Invalid or Unavailable at once.

        Whoever stops waiting for the future does not stop the request.
        """
        if self._transport is None or self._transport.is_closing():
            raise EngineGone("the engine's connection has ended", sent=False)
        if len(self._pending) >= self._limit:
            raise Unavailable(f"{self._limit} calls are in flight already", code="BUSY")
        if self._transport.get_write_buffer_size() > LONGEST:
            # Calls that nobody waits for any more are among them: the number in flight does not bound these.
            raise Unavailable("the engine does not take what it is sent", code="BUSY")
        self._last_id += 1
        id = body["id"] = self._last_id
        try:
            line = orjson.dumps(body)
        except TypeError as error:
            raise Invalid(f"not a value that can be sent: {error}") from None
        if len(line) > LONGEST:
            raise Invalid(f"a call of {len(line)} bytes is longer than {LONGEST}")
        future = self._loop.create_future()
        self._pending[id] = future, self._loop.call_later(timeout, self._expire, id, timeout)
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(line)
        return future

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        first, *rest = data.split(b"\n")
        self._incoming.append(first)
        if not rest:
            return
        complete = b"".join(self._incoming) if len(self._incoming) > 1 else first
        self._incoming = [rest.pop()]
        for line in (complete, *rest):
            self._receive(line)

    def connection_lost(self, exc: Exception | None) -> None:
        unsent = {orjson.loads(line)["id"] for line in self._outgoing}
        self._outgoing.clear()
        pending, self._pending = self._pending, {}
        for id, (future, timer) in pending.items():
            timer.cancel()
            if not future.done():
                future.set_exception(EngineGone("the engine process ended", sent=id not in unsent))
        self.lost.set_result(None)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _flush(self) -> None:
        if self._transport is not None and not self._transport.is_closing() and self._outgoing:
            self._outgoing.append(b"")
            self._transport.write(b"\n".join(self._outgoing))
            self._outgoing.clear()

    def _receive(self, line: bytes) -> None:
        try:
            reply = json.loads(line) if line[0] == _UNUSUAL else orjson.loads(line)
        except (ValueError, RecursionError):
            # PostgreSQL keeps JSON that is nested deeper than any reader here goes: only who asked for it is told.
            begun = _ID.match(line)
            if begun is None:
                raise
            reply = {"id": int(begun[1])}
        entry = self._pending.pop(reply["id"], None)
        if entry is None:
            return  # its caller had given up
        future, timer = entry
        timer.cancel()
        if future.done():
            return
        if len(reply) == 1:
            future.set_exception(Unreadable("holds JSON that is nested too deep to be read"))
        elif "error" in reply:
            future.set_exception(engine_error(reply["error"], self._constraints()))
        else:
            future.set_result(reply["result"])

    def _expire(self, id: int, timeout: float) -> None:
        future, _ = self._pending.pop(id)
        if not future.done():
            future.set_exception(EngineTimeout(f"no answer from the engine within {timeout:g} s", sent=True))
