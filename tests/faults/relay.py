"""A TCP relay before one server, whose connections can be cut, delayed, swallowed, or lose an answer whose request went out."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal, cast

Kind = Literal["pass", "cut", "delay", "hole"]
_LINGER_NOT: Final = struct.pack("ii", 1, 0)
"""With this a close is a reset: the other side does not take it for an orderly end."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to the bytes: `delay` (seconds) holds each of them for so long, `hole` swallows them, `cut` resets."""

    kind: Kind = "pass"
    delay: float = 0.0


_PASS: Final = Fault()
_CUT: Final = Fault("cut")
_HOLE: Final = Fault("hole")


class Relay:
    """Listens on a port of its own and passes every connection on. A fault is for all connections, those to come included,
    until `heal`; each of `connections` can be given one of its own."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.target = port
        self.port = 0
        self.lost = 0
        self.swallowed = 0
        self.fault = _PASS
        self._armed = 0
        self._holding = b""
        self._all: set[Connection] = set()
        self._disarmed = asyncio.Event()

    @property
    def connections(self) -> tuple[Connection, ...]:
        return tuple(self._all)

    def cut(self) -> None:
        """Reset what there is, and whoever connects."""
        self._give(_CUT)

    def delay(self, seconds: float) -> None:
        self._give(Fault("delay", seconds))

    def hole(self) -> None:
        """Accept and swallow, in both directions; nobody is told."""
        self._give(_HOLE)

    def lose_answers(self, times: int, holding: bytes = b"") -> None:
        """The next requests that hold these bytes reach the server; their answers are dropped, and their connections cut."""
        self._armed, self._holding = times, holding
        self._disarmed.clear()

    async def answers_lost(self) -> None:
        """Return once every answer that was to be lost has been."""
        await self._disarmed.wait()

    def heal(self) -> None:
        """Pass everything on again. A connection that bytes were swallowed of cannot go on, and is reset."""
        self._armed = 0
        self._give(_PASS)

    def admit(self, connection: Connection) -> None:
        self._all.add(connection)

    def ended(self, connection: Connection) -> None:
        self._all.discard(connection)

    def loses(self, request: bytes) -> bool:
        """Whether the answer to this request is to be lost."""
        if not self._armed or self._holding not in request:
            return False
        self._armed -= 1
        return True

    def has_lost(self) -> None:
        self.lost += 1
        if not self._armed:
            self._disarmed.set()

    def _give(self, fault: Fault) -> None:
        self.fault = fault
        for connection in self.connections:
            connection.give(fault)


class Connection:
    """One client's connection and the one to the server that belongs to it."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._fault = relay.fault
        self._client = _End(self)
        self._server = _End(self)
        self._swallowed = False
        self._loses = False
        self._task: asyncio.Task[None] | None = None

    def accept(self) -> asyncio.Protocol:
        return self._client

    def give(self, fault: Fault) -> None:
        self._fault = fault
        broken = self._swallowed or self._client.gone
        if fault.kind == "cut" or (fault.kind == "pass" and broken):
            self.reset()

    def reset(self) -> None:
        """Both sides see a connection reset."""
        for end in (self._client, self._server):
            end.reset()
        self._relay.ended(self)

    def opened(self, end: _End) -> None:
        if end is not self._client:
            return
        self._relay.admit(self)
        if self._fault.kind == "cut":
            self.reset()
        elif self._fault.kind == "hole":
            self._swallowed = True
        else:
            end.pause()
            self._task = asyncio.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self._server, "127.0.0.1", self._relay.target)
        except OSError:
            self.reset()  # the server is away: its client sees the connection end
        else:
            self._client.resume()
            if self._client.gone:
                self._server.finish()

    def received(self, end: _End, data: bytes) -> None:
        if self._fault.kind == "hole":
            self._swallowed = True
            self._relay.swallowed += len(data)
        elif end is self._client:
            self._loses |= self._relay.loses(data)
            self._server.send(data, self._fault.delay)
        elif self._loses:
            # The answer is here: the request has had its effect, and nobody will know.
            self._relay.has_lost()
            self.reset()
        else:
            self._client.send(data, self._fault.delay)

    def ended(self, end: _End) -> None:
        if self._fault.kind != "hole":
            self._other(end).send(None, self._fault.delay)

    def closed(self, end: _End) -> None:
        # An end that is gone takes the other with it, except through a hole: there nobody hears of it.
        if self._fault.kind != "hole":
            self._other(end).finish()
        if self._client.gone and self._server.gone:
            self._relay.ended(self)

    def flow(self, end: _End, *, may: bool) -> None:
        other = self._other(end)
        (other.resume if may else other.pause)()

    def _other(self, end: _End) -> _End:
        return self._server if end is self._client else self._client


class _End(asyncio.Protocol):
    """One of the two sockets. What is sent late is sent in order."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._transport: asyncio.Transport | None = None
        self._late: deque[tuple[float, bytes | None]] = deque()

    @property
    def gone(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connection.opened(self)

    def data_received(self, data: bytes) -> None:
        self._connection.received(self, data)

    def eof_received(self) -> bool:
        self._connection.ended(self)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.closed(self)

    def pause_writing(self) -> None:
        self._connection.flow(self, may=False)

    def resume_writing(self) -> None:
        self._connection.flow(self, may=True)

    def pause(self) -> None:
        if self._transport is not None and not self.gone:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self.gone:
            self._transport.resume_reading()

    def send(self, data: bytes | None, delay: float) -> None:
        """Send after so many seconds, and after all that was to be sent before; None: the end."""
        if not delay and not self._late:
            self._write(data)
            return
        loop = asyncio.get_running_loop()
        self._late.append((loop.time() + delay, data))
        if len(self._late) == 1:
            loop.call_later(delay, self._due)

    def _due(self) -> None:
        loop = asyncio.get_running_loop()
        while self._late and self._late[0][0] <= loop.time() + 0.001:
            self._write(self._late.popleft()[1])
        if self._late:
            loop.call_later(self._late[0][0] - loop.time(), self._due)

    def _write(self, data: bytes | None) -> None:
        if self._transport is None or self.gone:
            return
        if data is not None:
            self._transport.write(data)
        elif self._transport.can_write_eof():
            with contextlib.suppress(OSError):  # a reset of the other side came first
                self._transport.write_eof()

    def finish(self) -> None:
        """Close once everything has been sent, the late included."""
        if self._transport is None or self.gone:
            return
        if self._late:
            asyncio.get_running_loop().call_at(self._late[-1][0] + 0.002, self.finish)
        else:
            self._transport.close()

    def reset(self) -> None:
        self._late.clear()
        if self._transport is None or self.gone:
            return
        raw: socket.socket = self._transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self._transport.abort()


@asynccontextmanager
async def relayed(name: str, port: int) -> AsyncIterator[Relay]:
    """A relay before the server on this port of 127.0.0.1, until the block ends."""
    relay = Relay(name, port)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(relay).accept(), "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        for connection in relay.connections:
            connection.reset()
