"""The forwarder as the proxy runs it for requests that no entity claims: route match, request id, counter, failures."""

import argparse
import secrets
from collections.abc import AsyncIterator

import uvloop
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter
from yarl import URL

from proxy.failure import Failure
from proxy.forward import SERVER_OPTIONS, Forwarder, expect_later


def build(upstream: URL) -> web.Application:
    forwarder = Forwarder({"old": upstream})
    forwarded = Counter("forwarded", "Requests that no entity claims", registry=CollectorRegistry())

    async def forward(request: web.Request) -> web.StreamResponse:
        request["request_id"] = request_id = secrets.token_hex(8)
        forwarded.inc()
        try:
            return await forwarder.forward(request, upstream)
        except Failure as failure:
            return failure.response(request_id)

    async def closing(_: web.Application) -> AsyncIterator[None]:
        yield
        await forwarder.close()

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", forward, expect_handler=expect_later)
    app.on_shutdown.append(forwarder.close_tunnels)
    app.cleanup_ctx.append(closing)
    return app


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("upstream", type=URL)
    arguments = parser.parse_args()
    uvloop.install()
    web.run_app(build(arguments.upstream), host="127.0.0.1", port=arguments.port, print=None, **SERVER_OPTIONS)


if __name__ == "__main__":
    main()
