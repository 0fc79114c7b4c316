"""Run one replica: traffic on its port until it is told to stop; then what was begun is finished, and settled."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Iterable
from functools import partial
from typing import Final

import structlog
from aiohttp import web

from config.model import Config
from config.schema import Schema
from config.settings import Settings
from proxy.app import Proxy
from proxy.forwarding.forward import SERVER_OPTIONS

log = structlog.get_logger()

BACKLOG: Final = 1024
"""Connections that may wait to be accepted: those of all clients at once, after the replica that they were on has gone."""

GRACE: Final = 10.0
"""Seconds that requests in flight are given once no more are accepted."""

_LINGER: Final = 1.0
"""Seconds between the last accepted connection and the end of those without a request: its request is on its way."""
_LOOK: Final = 0.02


class NotListening(Exception):
    """The address cannot be listened on; the message names it and says why."""


class Replica:
    """One proxy with its admin port. Make it on a running event loop. Setting up `runner` starts it, cleaning up `runner`
    ends it: admin first up and last down, so that until its last settle it can be asked how it is."""

    def __init__(self, config: Config, settings: Settings, schema: Schema, *, admin_ports: Iterable[int]) -> None:
        self._settings = settings
        self._admin_ports = admin_ports
        self._admin_url = ""
        self._at_once = asyncio.Event()
        self.proxy = Proxy(config, settings, schema)
        app = self.proxy.application()
        app.cleanup_ctx.insert(0, self._with_admin)
        self.runner = web.AppRunner(app, shutdown_timeout=GRACE, **SERVER_OPTIONS)

    def started(self, url: str) -> None:
        """It listens for traffic at `url`."""
        # What has been built stays: no collection has to look at it again.
        gc.collect()
        gc.freeze()
        self.proxy.readiness.started()
        log.info("serving", url=url, admin=self._admin_url, replica=self._settings.replica, pid=os.getpid())

    def leave(self, *, at_once: bool = False) -> None:
        """Say that it is about to stop: /readyz turns 503, and each connection is closed with its next answer. Unless
        `at_once`, everything is answered for as long as load balancers need to notice."""
        if not self.proxy.readiness.leaving.is_set():
            self.proxy.readiness.leaving.set()
            log.info("stopping", replica=self._settings.replica, drain=self._settings.drain)
        if at_once:
            self._at_once.set()

    async def left(self) -> None:
        """Return when it has been told to leave and nobody is to be expected any more; it accepts nothing from then."""
        await self.proxy.readiness.leaving.wait()
        await _within(self._settings.drain, self._at_once.wait())
        for site in self.runner.sites:
            await site.stop()
        await _within(min(_LINGER, self._settings.drain), self._deserted())

    async def _deserted(self) -> None:
        while self.runner.server is not None and self.runner.server.connections:
            await asyncio.sleep(_LOOK)

    async def _with_admin(self, _: web.Application) -> AsyncIterator[None]:
        runner = web.AppRunner(self.proxy.admin(), access_log=None)
        await runner.setup()
        try:
            await _first_free(runner, self._settings.admin_host, self._admin_ports)
            self._admin_url = url_of(runner.addresses[0])
            yield
        finally:
            await runner.cleanup()


async def serve(config: Config, settings: Settings, schema: Schema) -> None:
    """Serve until SIGTERM, then for as long as load balancers need to notice; or until SIGINT. Raises NotListening, and
    SideError where neither store says how things stand."""
    replica = Replica(config, settings, schema, admin_ports=[settings.admin_port])
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, replica.leave)
    loop.add_signal_handler(signal.SIGINT, partial(replica.leave, at_once=True))
    try:
        await replica.runner.setup()
        await _listen(replica.runner, settings.host, settings.port)
        replica.started(url_of(replica.runner.addresses[0]))
        await replica.left()
    finally:
        await replica.runner.cleanup()


def url_of(address: tuple[str, int] | tuple[str, int, int, int]) -> str:
    """The URL of a listening socket's address."""
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"http://{host}:{address[1]}"


def not_listening(host: str, port: int, error: OSError) -> NotListening:
    return NotListening(f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}")


async def _first_free(runner: web.AppRunner, host: str, ports: Iterable[int]) -> None:
    taken: NotListening | None = None
    for port in ports:
        try:
            await _listen(runner, host, port)
        except NotListening as error:
            if not isinstance(error.__cause__, OSError) or error.__cause__.errno != errno.EADDRINUSE:
                raise
            taken = error
        else:
            return
    raise taken or NotListening(f"no port of {host} to listen on")


async def _listen(runner: web.AppRunner, host: str, port: int) -> None:
    site = web.TCPSite(runner, host, port, backlog=BACKLOG)
    try:
        await site.start()
    except OSError as error:
        await site.stop()
        raise not_listening(host, port, error) from error


async def _within(seconds: float, waiting: Awaitable[object]) -> None:
    """Wait for it, but not longer."""
    try:
        await asyncio.wait_for(waiting, seconds)
    except TimeoutError:
        return
