"""The gate that every write of an entity passes: it counts those in flight and holds new ones while a flip is fenced."""

from __future__ import annotations

import asyncio

from prometheus_client import Histogram


class Held(Exception):
    """A write waited for the end of a flip for longer than it may."""


class Gate:
    """One an entity. `started` and `in_flight` let a comparison see whether a write raced with it."""

    def __init__(self, patience: float, held: Histogram) -> None:
        self._patience = patience
        self._held = held
        self._open = asyncio.Event()
        self._open.set()
        self._empty = asyncio.Event()
        self._empty.set()
        self.in_flight = 0
        self.started = 0

    async def enter(self) -> None:
        """Be in flight until `leave`; first wait while the gate is held. Raises Held past the deadline (seconds)."""
        if not self._open.is_set():
            with self._held.time():
                await self._wait()
        self.in_flight += 1
        self.started += 1
        self._empty.clear()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._patience):
                # It may be held again between the moment it opens and the moment that this task runs.
                while not self._open.is_set():
                    await self._open.wait()
        except TimeoutError:
            raise Held from None

    def leave(self) -> None:
        self.in_flight -= 1
        if not self.in_flight:
            self._empty.set()

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    async def drained(self) -> None:
        """Return once nothing is in flight. While the gate is held, nothing new starts."""
        await self._empty.wait()
