"""The forwarder: requests go to the old servers byte for byte, their answers come back the same way."""

import asyncio
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Self

import structlog
from aiohttp import web
from yarl import URL

from proxy.failure import Failure
from proxy.flags.confirm import Confirm
from proxy.forwarding.exchange import Exchange
from proxy.forwarding.headers import REQUEST_ID, encode_fields
from proxy.forwarding.outbound import outbound
from proxy.forwarding.tap import Tap
from proxy.forwarding.upstream import Limits, Timeouts, Upstream

log = structlog.get_logger()

# What a `web.AppRunner` (or `web.Server`) must be given for requests to arrive as they were sent, and for a client
# that disconnects to end its request upstream.
SERVER_OPTIONS: Final[Mapping[str, Any]] = {
    "access_log": None,
    "auto_decompress": False,
    "handler_cancellation": True,
    "max_line_size": 32 * 1024,
    "max_field_size": 32 * 1024,
    "max_headers": 256,
}


async def expect_later(request: web.Request) -> None:
    """The `expect_handler` of routes that forward: leaves 100-continue for the upstream to answer."""


class Forwarder:
    """Forwards to a fixed table of upstreams. Use it as `async with Forwarder(...)`, or call `close`.

    `via` is the name that Via fields give this proxy. Once `leaving` is set, each answer closes its client's connection.
    """

    def __init__(
        self,
        upstreams: Mapping[str, URL],
        *,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        via: str = "strangler",
        leaving: asyncio.Event | None = None,
    ) -> None:
        self._timeouts = timeouts or Timeouts()
        limits = limits or Limits()
        self._upstreams = {url: Upstream(name, url, self._timeouts, limits) for name, url in upstreams.items()}
        self._via = via.encode("ascii")
        self._leaving = leaving or asyncio.Event()
        self._unfinished: set[asyncio.Task[web.StreamResponse]] = set()
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def forward(
        self,
        request: web.BaseRequest,
        upstream: URL,
        *,
        body: bytes | None = None,
        extra_headers: Iterable[tuple[str, str]] = (),
        tap: Tap | None = None,
        shield: bool = False,
        confirm: Confirm | None = None,
    ) -> web.StreamResponse:
        """Forward `request` to `upstream`, one of the table's URLs, and answer the client.

        The answer has been written when this returns: it cannot be changed any more, and its `keep_alive` is final.
        `body` replaces the request's own (a caller that has read it must pass it on). `extra_headers` replace the
        client's of the same name. `request[REQUEST_ID]`, where set, is X-Request-Id both upstream and downstream.
        With `shield` the exchange goes on to its end when the client disconnects, and `tap` gets the result. `confirm` is
        called when the upstream has answered; where it raises Failure, that is the client's answer instead.

        Raises Failure when there is no answer: 502, 503 or 504 for the upstream's fault, 4xx or 501 for the client's.
        An answer that breaks off half-way ends the client's connection instead.
        """
        exchange = self._exchange(request, self._upstreams[upstream], body, extra_headers, tap, shield, confirm)
        if not shield:
            return await exchange
        task = asyncio.get_running_loop().create_task(exchange)
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)
        return await asyncio.shield(task)

    def lent(self) -> dict[str, int]:
        """How many connections are in use now, by upstream."""
        return {upstream.name: upstream.lent for upstream in self._upstreams.values()}

    async def close_tunnels(self, _app: web.Application | None = None) -> None:
        """End all tunnels: belongs into `app.on_shutdown`, since servers wait for their handlers after that."""
        self._stop.set()

    async def close(self) -> None:
        """End tunnels, let shielded exchanges finish for at most `timeouts.drain` seconds, close connections."""
        self._stop.set()
        if self._unfinished:
            _, late = await asyncio.wait(self._unfinished, timeout=self._timeouts.drain)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for upstream in self._upstreams.values():
            upstream.close()

    async def _exchange(
        self,
        request: web.BaseRequest,
        upstream: Upstream,
        body: bytes | None,
        extra_headers: Iterable[tuple[str, str]],
        tap: Tap | None,
        shield: bool,
        confirm: Confirm | None,
    ) -> web.StreamResponse:
        request_id: str | None = request.get(REQUEST_ID)
        marked = [] if request_id is None else encode_fields([("X-Request-Id", request_id)])
        replaced = [*marked, *encode_fields(extra_headers)] if extra_headers else marked
        try:
            via = b"%d.%d %b" % (*request.version, self._via)
            out = outbound(request, upstream, body=body, replaced=replaced, via=via)
            exchange = Exchange(
                request,
                upstream,
                out,
                via=self._via,
                marked=marked,
                tap=tap,
                must_finish=shield,
                stop=self._stop,
                leaving=self._leaving,
                confirm=confirm,
            )
            return await exchange.run()
        except Failure as failure:
            cause = failure.__cause__
            log.warning(
                "forward_failed",
                method=request.method,
                upstream=upstream.name,
                status=failure.status,
                reason=failure.reason,
                cause=None if cause is None else type(cause).__name__,
                request_id=request_id,
            )
            raise
        finally:
            if tap is not None:
                tap.end()
