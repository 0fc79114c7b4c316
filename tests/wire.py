"""Both ends of a proxied connection as bytes: upstreams that answer as a test says, and clients that see every octet."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from yarl import URL

from proxy.failure import Failure
from proxy.forwarding.forward import SERVER_OPTIONS, Forwarder
from proxy.forwarding.headers import REQUEST_ID
from proxy.forwarding.tap import Tap
from proxy.forwarding.upstream import Limits, Timeouts

DEADLINE = 20.0
Script = Callable[["Peer"], Awaitable[None]]


@dataclass(frozen=True)
class Message:
    """One HTTP message: `head` up to the blank line, `body` without its framing."""

    head: bytes
    body: bytes

    @property
    def start(self) -> bytes:
        return self.head.split(b"\r\n", 1)[0]

    @property
    def fields(self) -> list[bytes]:
        return self.head.split(b"\r\n")[1:]

    def values(self, name: bytes) -> list[bytes]:
        pairs = (line.split(b": ", 1) for line in self.fields)
        return [value for found, value in pairs if found.lower() == name.lower()]


class Peer:
    """One end of a TCP connection; everything it waits for has a deadline."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            async with asyncio.timeout(DEADLINE):
                await self.writer.drain()

    async def head(self) -> bytes:
        async with asyncio.timeout(DEADLINE):
            return (await self.reader.readuntil(b"\r\n\r\n"))[:-4]

    async def exactly(self, count: int) -> bytes:
        async with asyncio.timeout(DEADLINE):
            return await self.reader.readexactly(count)

    async def rest(self) -> bytes:
        """All bytes until the other end closes; raises ConnectionError when it resets."""
        async with asyncio.timeout(DEADLINE):
            return await self.reader.read()

    async def message(self, *, bodiless: bool = False) -> Message:
        """The next message, its body by its framing; a response without framing lasts until the end."""
        head = await self.head()
        message = Message(head, b"")
        if (
            bodiless
            or message.start.split(b" ")[1][:1] == b"1"
            or b" 204 " in message.start
            or b" 304 " in message.start
        ):
            return message
        if message.values(b"Transfer-Encoding") == [b"chunked"]:
            return Message(head, await self.chunks())
        if lengths := message.values(b"Content-Length"):
            return Message(head, await self.exactly(int(lengths[0])))
        return Message(head, await self.rest() if message.start.startswith(b"HTTP/") else b"")

    async def chunk(self) -> bytes:
        async with asyncio.timeout(DEADLINE):
            size = int(await self.reader.readline(), 16)
            data = await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
        return data

    async def chunks(self) -> bytes:
        data = b""
        while piece := await self.chunk():
            data += piece
        return data

    def reset(self) -> None:
        """Close with RST."""
        raw: socket.socket = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            return


@dataclass
class Origin:
    """A server made of a script per connection. `failures` are exceptions that a script did not expect."""

    port: int = 0
    connections: int = 0
    failures: list[BaseException] = field(default_factory=list)

    @property
    def url(self) -> URL:
        return URL(f"http://127.0.0.1:{self.port}")


@asynccontextmanager
async def origin(script: Script) -> AsyncIterator[Origin]:
    """Run `script` for each connection; what a script raises fails the test that used it."""
    state = Origin()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state.connections += 1
        peer = Peer(reader, writer)
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await script(peer)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            state.failures.append(error)
        finally:
            tasks.discard(task)
            await peer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if state.failures:
        raise state.failures[0]


def answering(*answers: bytes, seen: list[Message] | None = None) -> Script:
    """A script that reads a request for each answer, on one connection, and then waits for its end."""

    async def script(peer: Peer) -> None:
        for answer in answers:
            message = await peer.message()
            if seen is not None:
                seen.append(message)
            await peer.send(answer)
        await until_gone(peer)

    return script


async def until_gone(peer: Peer) -> None:
    try:
        await peer.rest()
    except ConnectionError:
        return


@dataclass
class Proxy:
    """A running forwarder. `taps` are those of the requests so far, `failures` what it raised."""

    port: int
    forwarder: Forwarder
    taps: list[Tap] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Peer]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**20)
        peer = Peer(reader, writer)
        try:
            yield peer
        finally:
            await peer.close()

    async def ask(self, *request: bytes) -> Message:
        async with self.client() as client:
            await client.send(*request)
            return await client.message(bodiless=request[0].startswith(b"HEAD "))


@asynccontextmanager
async def proxy(
    target: URL,
    *,
    timeouts: Timeouts | None = None,
    limits: Limits | None = None,
    tapped: int | None = None,
    shield: bool = False,
    body: bytes | None = None,
    extra_headers: Iterable[tuple[str, str]] = (),
    request_id: str | None = None,
) -> AsyncIterator[Proxy]:
    """A forwarder in front of `target`, in a server set up as the product sets it up."""
    async with Forwarder({"old": target}, timeouts=timeouts, limits=limits) as forwarder:
        running = Proxy(0, forwarder)

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            if request_id is not None:
                request[REQUEST_ID] = request_id
            tap = None if tapped is None else Tap(tapped)
            if tap is not None:
                running.taps.append(tap)
            try:
                return await forwarder.forward(
                    request, target, body=body, extra_headers=extra_headers, tap=tap, shield=shield
                )
            except Failure as failure:
                running.failures.append(failure)
                return failure.response(request_id)
            except asyncio.CancelledError:
                running.cancelled.set()
                raise

        runner = web.ServerRunner(web.Server(handle, **SERVER_OPTIONS), shutdown_timeout=5.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        running.port = runner.addresses[0][1]
        try:
            yield running
        finally:
            await forwarder.close_tunnels()
            await runner.cleanup()
