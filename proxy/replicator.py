"""The keys that wait to be settled, in this replica: coalesced, bounded, tried again, and asked after."""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import structlog

from adapters.side import Key, SideError, SideName, Store, Unavailable
from proxy.flags import Flags
from proxy.idle import Idle
from proxy.metrics import Metrics
from proxy.settle import Settled, Settler
from proxy.tasks import Tasks

log = structlog.get_logger()

BATCH: Final = 200
_BACKOFF_FIRST: Final = 0.1
_BACKOFF_MOST: Final = 10.0
_REMEMBERED: Final = 10_000
_PATIENCE: Final = 0.005
"""Seconds that a settle lets the clients' requests go first."""


@dataclass(slots=True)
class Dirty:
    """A key to settle: since when (loop time), and the marks, with their store, whose writes have finished. `clock`: all
    that is known of it is a change at that time of the primary; a settle that has read it since speaks for this one."""

    since: float
    marks: list[tuple[SideName, str]] = field(default_factory=list)
    tries: int = 0
    clock: Any = None


class _Lane:
    """The keys of one entity that wait or are being settled. Keys coalesce: ten writes of one need one settle."""

    def __init__(self) -> None:
        self.waiting: dict[Key, Dirty] = {}
        self.flying: dict[Key, Dirty] = {}
        self.parked: dict[Key, Dirty] = {}
        self.covered: OrderedDict[Key, Any] = OrderedDict()
        self.changes = 0
        self.ready = asyncio.Event()
        self.progress = asyncio.Event()

    def __contains__(self, key: Key) -> bool:
        return key in self.waiting or key in self.flying or key in self.parked

    def __len__(self) -> int:
        return len(self.waiting) + len(self.flying) + len(self.parked)

    def add(self, key: Key, dirty: Dirty) -> None:
        parked = self.parked.pop(key, None)
        if parked:
            dirty.marks.extend(parked.marks)
            dirty.since = min(dirty.since, parked.since)
        known = self.waiting.get(key)
        if known:
            known.marks.extend(dirty.marks)
            known.clock = known.clock and dirty.clock and max(known.clock, dirty.clock)
        else:
            self.waiting[key] = dirty
        self.ready.set()

    def take(self) -> dict[Key, Dirty]:
        keys = list(self.waiting)[:BATCH]
        self.flying = {key: self.waiting.pop(key) for key in keys}
        if not self.waiting:
            self.ready.clear()
        return self.flying

    def landed(self) -> None:
        self.flying = {}
        done, self.progress = self.progress, asyncio.Event()
        done.set()

    def cover(self, keys: Iterable[Key], clock: Any) -> None:
        for key in keys:
            self.covered[key] = clock
            self.covered.move_to_end(key)
            waiting = self.waiting.get(key)
            if waiting and waiting.clock and waiting.clock <= clock:
                del self.waiting[key]
        if not self.waiting:
            self.ready.clear()
        while len(self.covered) > _REMEMBERED:
            self.covered.popitem(last=False)


class Replicator:
    """One lane and one task an entity. Nothing here is on a client's path; a secondary that fails is tried again."""

    def __init__(
        self,
        settler: Settler,
        stores: Mapping[SideName, Store],
        flags: Flags,
        entities: Iterable[str],
        idle: Idle,
        metrics: Metrics,
        *,
        bound: int,
    ) -> None:
        self._settler = settler
        self._stores = stores
        self._flags = flags
        self._idle = idle
        self._metrics = metrics
        self._bound = bound
        self._lanes = {entity: _Lane() for entity in entities}
        self._tasks = Tasks()
        for entity, lane in self._lanes.items():
            metrics.backlog.labels(entity).set_function(partial(len, lane))

    def start(self) -> None:
        for entity in self._lanes:
            self._tasks.start(f"settle-{entity}", self._run(entity))

    async def stop(self) -> None:
        await self._tasks.stop()

    def changed(self, entity: str, keys: Iterable[Key], marks: Iterable[tuple[SideName, str]] = ()) -> None:
        """These keys' writes have finished: settle them. Beyond the bound a key is shed: its mark stays for the sweep, or
        the change stream, which waits, brings it again."""
        lane = self._lanes[entity]
        now = asyncio.get_running_loop().time()
        marks = list(marks)
        for key in keys:
            lane.changes += 1
            if len(lane) >= self._bound and key not in lane:
                self._metrics.shed.labels("settle").inc()
                continue
            lane.add(key, Dirty(now, list(marks)))

    async def followed(self, entity: str, key: Key, clock: Any) -> None:
        """The change stream saw this key change. Waits while the lane is full: such a key has no mark to fall back on."""
        lane = self._lanes[entity]
        seen = lane.covered.get(key)
        if seen is not None and clock is not None and clock <= seen:
            return  # a settle has read the primary since
        while len(lane) >= self._bound:
            await lane.progress.wait()
        lane.changes += 1
        lane.add(key, Dirty(asyncio.get_running_loop().time(), clock=clock))

    def changes(self, entity: str) -> int:
        """Grows with every change heard of."""
        return self._lanes[entity].changes

    def pending(self, entity: str, key: Key) -> bool:
        return key in self._lanes[entity]

    def backlog(self, entity: str) -> int:
        return len(self._lanes[entity])

    async def settled(self, entity: str, keys: Iterable[Key] | None = None) -> None:
        """Return once these keys (or all) have nothing left to settle. Waits for as long as that takes: bound it."""
        lane = self._lanes[entity]
        asked = None if keys is None else list(keys)
        while len(lane) if asked is None else any(key in lane for key in asked):
            await lane.progress.wait()

    async def tried(self, entity: str) -> None:
        """Return once all keys have settled, or been refused: what waits for better times is waited for by nobody else."""
        lane = self._lanes[entity]
        while lane.waiting or lane.flying:
            await lane.progress.wait()

    async def drained(self) -> None:
        """Return once nothing that is known now is left to settle."""
        for entity, lane in self._lanes.items():
            await self.settled(entity, [*lane.waiting, *lane.flying, *lane.parked])

    async def _run(self, entity: str) -> None:
        lane = self._lanes[entity]
        failures = 0
        while True:
            await lane.ready.wait()
            await self._idle.moment(_PATIENCE)
            batch = lane.take()
            try:
                refused = await self._settle(entity, batch)
                failures = 0
            except Exception as error:
                failures += 1
                self._failed(entity, error, failures, len(batch))
                for key, dirty in batch.items():
                    lane.add(key, dirty)
                lane.landed()
                await asyncio.sleep(_backoff(failures))
                continue
            self._park(entity, lane, refused)
            lane.landed()

    def _failed(self, entity: str, error: Exception, failures: int, keys: int) -> None:
        self._metrics.settle_failures.labels(entity, type(error).__name__).inc()
        if isinstance(error, SideError | TimeoutError):
            log.warning("settle_failed", entity=entity, keys=keys, cause=str(error), failures=failures)
        else:
            log.exception("settle_failed", entity=entity, keys=keys, failures=failures)

    def _park(self, entity: str, lane: _Lane, refused: Mapping[Key, Dirty]) -> None:
        """What the secondary refuses waits by itself, so that nothing else waits for it."""
        loop = asyncio.get_running_loop()
        for key, dirty in refused.items():
            dirty.tries += 1
            if key in lane.waiting:  # its document has changed since: that settle speaks for it
                lane.add(key, dirty)
                continue
            lane.parked[key] = dirty
            loop.call_later(_backoff(dirty.tries), self._unpark, lane, key)

    @staticmethod
    def _unpark(lane: _Lane, key: Key) -> None:
        dirty = lane.parked.pop(key, None)
        if dirty:
            lane.add(key, dirty)

    async def _settle(self, entity: str, batch: Mapping[Key, Dirty]) -> dict[Key, Dirty]:
        """Settle the batch; return what was refused. Raises SideError when nothing could be done."""
        if not self._flags.meaning(entity).settles:
            await self._unmark(batch.values())
            return {}
        settled = await self._settler.settle(entity, list(batch))
        done = {key: batch[key] for key in settled.written | settled.superseded}
        # Exactly the marks whose writes had finished before the token was taken: later ones are in a later batch.
        await self._unmark(done.values())
        if settled.clock is not None:
            self._lanes[entity].cover(done, settled.clock)
        self._count(entity, settled, done.values())
        for key, cause in settled.refused.items():
            self._metrics.settle_failures.labels(entity, type(cause).__name__).inc()
            if not batch[key].tries:
                log.warning("settle_refused", entity=entity, key=key, cause=str(cause))
        return {key: batch[key] for key in settled.refused}

    async def _unmark(self, settled: Iterable[Dirty]) -> None:
        marks: dict[SideName, list[str]] = {}
        for dirty in settled:
            for side, mark in dirty.marks:
                marks.setdefault(side, []).append(mark)
        for side, ids in marks.items():
            try:
                await self._stores[side].unmark(ids)
            except Unavailable as error:
                # The keys are settled; a mark that stays only makes the sweep settle them once more.
                log.warning("unmark_failed", side=side, marks=len(ids), cause=str(error))

    def _count(self, entity: str, settled: Settled, done: Iterable[Dirty]) -> None:
        now = asyncio.get_running_loop().time()
        self._metrics.settled.labels(entity, "written").inc(len(settled.written))
        self._metrics.settled.labels(entity, "superseded").inc(len(settled.superseded))
        lags = [now - dirty.since for dirty in done]
        observe = self._metrics.settle_lag.labels(entity).observe
        for lag in lags:
            observe(lag)
        if lags:
            log.info(
                "settled",
                entity=entity,
                written=len(settled.written),
                superseded=len(settled.superseded),
                lag_ms=round(max(lags) * 1000, 1),
            )


def _backoff(failures: int) -> float:
    """Seconds: doubling, capped, with jitter."""
    return random.uniform(0.5, 1.0) * min(_BACKOFF_MOST, _BACKOFF_FIRST * 2.0 ** min(failures - 1, 10))
