"""An upstream that costs as little as Python allows: it answers each request head with one small JSON."""

import argparse
import asyncio
from typing import Final, cast

import uvloop

_BODY: Final = b'{"success":true,"data":{"id":"64b7f0c2a1d3e4f5a6b7c8d9","title":"first video","status":"ready"}}'
_ANSWER: Final = (
    b"HTTP/1.1 200 OK\r\nX-Powered-By: Express\r\nContent-Type: application/json; charset=utf-8\r\n"
    b'Content-Length: %d\r\nETag: W/"63-abc"\r\nDate: Mon, 02 Nov 2026 10:00:00 GMT\r\nConnection: keep-alive\r\n'
    b"Keep-Alive: timeout=5\r\n\r\n%b" % (len(_BODY), _BODY)
)


class SmallUpstream(asyncio.Protocol):
    """Answers requests without bodies."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        *heads, self._rest = (self._rest + data).split(b"\r\n\r\n")
        if heads and self._transport is not None:
            self._transport.write(_ANSWER * len(heads))


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(SmallUpstream, "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    uvloop.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
