"""A tunnel: after a 101, bytes go both ways as they are, so that frames, extensions and close codes stay untouched."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import StreamWriter
from aiohttp.web_protocol import RequestHandler

_BUFFER: Final = 64 * 1024
_LAST_WORDS: Final = 10.0  # seconds that an end has to take what is left for it


class _Inbox:
    """Stands where aiohttp's protocols expect a WebSocket parser, and keeps the bytes as they come.

    The reader holds the sender back when nobody takes them.
    """

    def __init__(self, source: BaseProtocol, loop: asyncio.AbstractEventLoop) -> None:
        self.reader = StreamReader(source, _BUFFER, loop=loop)

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.reader.feed_data(data)
        return False, b""

    def feed_eof(self) -> None:
        if not self.reader.is_eof():
            self.reader.feed_eof()


async def tunnel(client: RequestHandler, upstream: ResponseHandler, *, idle: float, stop: asyncio.Event) -> str:
    """Carry bytes between two upgraded connections until one end closes, `idle` seconds pass, or `stop` is set.

    What has come by then is still delivered, and both connections are closed. Gives the cause of the end: `client`,
    `upstream`, `idle` or `stop`.
    """
    loop = asyncio.get_running_loop()
    up, down = _Inbox(client, loop), _Inbox(upstream, loop)
    upstream.read_timeout = None
    upstream.set_parser(down, down.reader)
    client.set_parser(cast(Any, up))
    for protocol, inbox in ((upstream, down), (client, up)):
        if protocol.transport is None:
            inbox.feed_eof()
    deadline = asyncio.timeout(idle)

    def moved() -> None:
        deadline.reschedule(loop.time() + idle)

    ends: dict[asyncio.Task[Any], str] = {}
    try:
        async with deadline:
            ends[loop.create_task(_carry(up.reader, upstream, moved))] = "client"
            ends[loop.create_task(_carry(down.reader, client, moved))] = "upstream"
            ends[loop.create_task(stop.wait())] = "stop"
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            return ends[done.pop()]
    except TimeoutError:
        return "idle"
    finally:
        for task in ends:
            task.cancel()
        _deliver_rest(up.reader, upstream)
        _deliver_rest(down.reader, client)
        await asyncio.gather(*ends, return_exceptions=True)


async def _carry(reader: StreamReader, sink: BaseProtocol, moved: Callable[[], None]) -> None:
    writer = StreamWriter(sink, asyncio.get_running_loop())
    while piece := await reader.readany():
        moved()
        await writer.write(piece, LIMIT=0)


def _deliver_rest(reader: StreamReader, sink: BaseProtocol) -> None:
    transport = sink.transport
    if transport is None:
        return
    rest = reader.read_nowait()
    if rest and not transport.is_closing():
        transport.write(rest)
    transport.close()
    asyncio.get_running_loop().call_later(_LAST_WORDS, transport.abort)
