"""Run several replicas behind one port: gunicorn's master starts them, and replaces one that dies.

Signals of the master: SIGTERM stops gracefully, SIGINT without waiting for load balancers, SIGHUP replaces every worker
by a new one. What is built before the fork is data only: configuration and schema. Each worker makes its own proxy.
"""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import signal
import socket
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any, Final

from aiohttp import GunicornUVLoopWebWorker, web
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config as GunicornConfig
from gunicorn.glogging import Logger

from adapters.side import SideError
from config.model import Config
from config.schema import Schema
from config.settings import Settings
from proxy.serve import BACKLOG, NotListening, Replica, not_listening, url_of

_HEARTBEAT: Final = 90
"""Seconds without a sign of life after which the master kills a worker. It gives one each second while it serves, but none
while it stops, and that takes up to `_STOP`."""

_MEMORY: Final = "/dev/shm"
"""Where the signs of life are given: touching a file here never waits for a disk."""

_STOP: Final = 60
"""Seconds that a worker has to stop, after the time for load balancers: requests in flight, last settles, both stores."""


def serve(config: Config, settings: Settings, schema: Schema, workers: int) -> int:
    """Serve with so many replicas until told to stop; the exit status. Raises NotListening."""
    listeners, master = _listeners(settings.host, settings.port), os.getpid()
    gc.freeze()  # no collection in a worker writes to what it shares with the others
    try:
        Arbiter(_Workers(config, settings, schema, workers, listeners)).run()
    except SystemExit as ended:
        # A worker ends by way of here, too: its status is what the master goes by.
        if os.getpid() != master:
            raise
        return 1 if ended.code else 0
    return 0


class _Workers(BaseApplication):
    """What gunicorn runs. In the master it holds data; in a worker also the replica that the worker is."""

    def __init__(
        self, config: Config, settings: Settings, schema: Schema, workers: int, listeners: Sequence[socket.socket]
    ) -> None:
        self._config = config
        self._settings = settings
        self._schema = schema
        self._workers = workers
        self._listeners = listeners
        self.replica: Replica | None = None
        super().__init__()

    def load_config(self) -> None:
        options = {
            "bind": [f"fd://{listener.fileno()}" for listener in self._listeners],
            "workers": self._workers,
            "worker_class": _Worker,
            "timeout": _HEARTBEAT,
            "graceful_timeout": int(self._settings.drain) + _STOP,
            "worker_tmp_dir": _MEMORY if os.access(_MEMORY, os.W_OK) else None,
            "logger_class": _Log,
            "accesslog": None,
            "control_socket_disable": True,  # it would be a thread of the process that forks
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Called in each worker, on its own side of the fork."""
        return self._replica

    async def _replica(self) -> web.AppRunner:
        base = self._settings.admin_port
        # While workers are replaced there may be twice as many.
        ports = range(base, min(base + 2 * self._workers, 65_536)) if base else [0]
        named = self._settings.model_copy(update={"replica": f"{self._settings.replica}-{secrets.token_hex(2)}"})
        self.replica = Replica(self._config, named, self._schema, admin_ports=ports)
        return self.replica.runner


class _Worker(GunicornUVLoopWebWorker):
    """aiohttp's worker on uvloop, with its stop drawn out until load balancers have noticed."""

    app: _Workers
    _leaving: asyncio.Task[None] | None = None

    def init_process(self) -> None:
        try:
            super().init_process()
        except (SideError, NotListening) as error:
            sys.stderr.write(f"strangler: {error}\n")
            # The very first one ends the master with it; any other is tried again.
            sys.exit(Arbiter.WORKER_BOOT_ERROR if self.age == 1 else 1)

    def notify(self) -> None:
        """The sign of life, of which the first one says that the worker listens."""
        super().notify()
        replica = self.app.replica
        if replica is not None and self._leaving is None:
            for listener in self.sockets:
                listener.listen(BACKLOG)  # the worker has listened once more, with another backlog
            replica.started(url_of(self.sockets[0].getsockname()))
            self._leaving = self.loop.create_task(self._leave(replica))

    async def _leave(self, replica: Replica) -> None:
        try:
            await replica.left()
        finally:
            super().handle_quit(signal.SIGQUIT, None)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM."""
        self._tell(at_once=False)

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """SIGINT, SIGQUIT."""
        self._tell(at_once=True)

    def _tell(self, *, at_once: bool) -> None:
        if self.app.replica is None:
            super().handle_quit(signal.SIGQUIT, None)  # nothing has been begun
        else:
            self.app.replica.leave(at_once=at_once)


class _Log(Logger):
    """What gunicorn says becomes events, by way of `logging`."""

    def setup(self, cfg: GunicornConfig) -> None:
        self.cfg = cfg
        self._access_log_enabled = False
        self.error_log.propagate = True


def _listeners(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to every address of the host, as a server on an event loop would. With port 0, to the first."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    try:
        return [_bound(family, address) for family, *_, address in (found if port else found[:1])]
    except OSError as error:
        raise not_listening(host, port, error) from error


def _bound(family: socket.AddressFamily, address: tuple[object, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listener.bind(address)
    listener.listen(BACKLOG)
    return listener
