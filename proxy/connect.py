"""Connect both stores at once, and go on with one that is away: neither keeps the other one's traffic waiting."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Final

import structlog

from adapters.side import SideError, SideName, Store
from proxy.tasks import Tasks

log = structlog.get_logger()

_PATIENCE: Final = 10.0
"""Seconds in which one of them has to answer: without either nothing can be served, and the start fails."""
_GRACE: Final = 1.0
"""Seconds that the start waits for the second store once the first one is there. The Prisma engine is a process of our own,
which starts without its database: that it is waited for has nothing to do with a store that is away."""
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 10.0


class Connections:
    """Both stores, from the start of a process to its end."""

    def __init__(self, stores: Mapping[SideName, Store]) -> None:
        self._stores = stores
        self._tried = {side: asyncio.Event() for side in stores}
        self._here = {side: asyncio.Event() for side in stores}
        self._tasks = Tasks()

    @property
    def away(self) -> tuple[SideName, ...]:
        """The stores that have not answered yet."""
        return tuple(side for side, here in self._here.items() if not here.is_set())

    async def start(self) -> None:
        """Return when both stores have answered; one second after the first did; or when neither did in time. What is
        missing then goes on being tried."""
        for side in self._stores:
            self._tasks.start(f"connect-{side}", self._connect(side))
        arrivals = [asyncio.create_task(here.wait()) for here in self._here.values()]
        try:
            await self._tried["prisma"].wait()
            first, others = await asyncio.wait(arrivals, timeout=_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
            if first and others:
                await asyncio.wait(others, timeout=_GRACE)
        finally:
            for arrival in arrivals:
                arrival.cancel()

    async def stop(self) -> None:
        """Let go of both stores. One that does not listen is not waited for longer than its own deadline."""
        await self._tasks.stop()
        await asyncio.gather(*(store.disconnect() for store in self._stores.values()))

    async def _connect(self, side: SideName) -> None:
        store, failures = self._stores[side], 0
        while True:
            try:
                try:
                    await store.connect()
                finally:
                    self._tried[side].set()
                if await store.is_healthy():
                    break
                cause = "does not answer"
            except SideError as error:
                cause = str(error)
            failures += 1
            say = log.warning if failures == 1 else log.debug
            say("store_unreachable", side=side, cause=cause, failures=failures)
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(failures - 1, 10))
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
        self._here[side].set()
        if failures:
            log.info("store_back", side=side, failures=failures)
