"""Work beside the traffic: it waits for a moment in which no client is being served, and is shed rather than queued
without end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from proxy.metrics import Metrics
from proxy.tasks import Tasks

log = structlog.get_logger()

_LINGER: Final = 0.005
"""Seconds that a job waits in any case: the answer that it comes from has been written, and has yet to reach its client."""


class Idle:
    """Knows whether a client is being served now. Everything off the clients' path asks it before it takes the CPU."""

    def __init__(self) -> None:
        self._busy = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    def enter(self) -> None:
        self._busy += 1
        self._quiet.clear()

    def leave(self) -> None:
        self._busy -= 1
        if not self._busy:
            self._quiet.set()

    async def moment(self, patience: float) -> None:
        """Return when no client is being served, or after `patience` seconds: beside the traffic, but not starved by it."""
        if self._quiet.is_set():
            return
        try:
            async with asyncio.timeout(patience):
                await self._quiet.wait()
        except TimeoutError:
            return


class Aside:
    """A bounded queue of jobs and a few workers that run them in idle moments. A job's failure is an event, never the
    client's."""

    def __init__(self, name: str, idle: Idle, metrics: Metrics, *, bound: int, workers: int = 4) -> None:
        self._name = name
        self._idle = idle
        self._metrics = metrics
        self._workers = workers
        self._jobs: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue(bound)
        self._tasks = Tasks()

    def offer(self, job: Callable[[], Awaitable[None]]) -> bool:
        """Take the job, or shed it and say so."""
        try:
            self._jobs.put_nowait(job)
        except asyncio.QueueFull:
            self._metrics.shed.labels(self._name).inc()
            return False
        return True

    def start(self) -> None:
        for number in range(self._workers):
            self._tasks.start(f"{self._name}-{number}", self._work())

    async def stop(self) -> None:
        """Forget what has not begun."""
        await self._tasks.stop()

    async def finished(self) -> None:
        """Return once every job taken so far has run."""
        await self._jobs.join()

    async def _work(self) -> None:
        while True:
            job = await self._jobs.get()
            try:
                await asyncio.sleep(_LINGER)
                await self._idle.moment(0.05)
                await job()
            except Exception:
                log.exception("aside_failed", queue=self._name)
            finally:
                self._jobs.task_done()
