"""Run one proxy process: traffic on its port until it is told to stop, then what was begun is finished."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from contextlib import AsyncExitStack

import structlog
from aiohttp import web

from config.model import Config
from config.schema import Schema
from config.settings import Settings
from proxy.app import Proxy
from proxy.forward import SERVER_OPTIONS

log = structlog.get_logger()

_GRACE = 10.0
"""Seconds that requests in flight are given after a signal to stop."""


class NotListening(Exception):
    """The address cannot be listened on; the message names it and says why."""


async def serve(config: Config, settings: Settings, schema: Schema) -> None:
    """Serve until SIGTERM or SIGINT. Raises NotListening, and SideError where neither store says how things stand."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    proxy = Proxy(config, settings, schema)
    async with AsyncExitStack() as runners:
        traffic = web.AppRunner(proxy.application(), shutdown_timeout=_GRACE, **SERVER_OPTIONS)
        admin = web.AppRunner(proxy.admin(), access_log=None)
        url = await _started(runners, traffic, settings.host, settings.port)
        admin_url = await _started(runners, admin, settings.admin_host, settings.admin_port)
        # What has been built stays: no collection has to look at it again.
        gc.collect()
        gc.freeze()
        log.info("serving", url=url, admin=admin_url, replica=settings.replica, entities=len(config.entities))
        await stop.wait()
        log.info("stopping", replica=settings.replica)


async def _started(runners: AsyncExitStack, runner: web.AppRunner, host: str, port: int) -> str:
    runners.push_async_callback(runner.cleanup)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=1024).start()
    except OSError as error:
        raise NotListening(f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}") from error
    bound = runner.addresses[0]
    return f"http://{bound[0]}:{bound[1]}"
