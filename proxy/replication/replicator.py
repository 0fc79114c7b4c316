"""The keys that wait to be settled, in this replica: coalesced, bounded, tried again, given up to quarantine, asked after."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final

import structlog

from adapters.side import Key, SideError, SideName, Stale, Store, Unavailable
from proxy.flags.view import Flags
from proxy.idle import Idle
from proxy.metrics import Metrics
from proxy.replication.lane import Dirty, Lane, OutboxMark
from proxy.replication.quarantine import Quarantines, reason_of
from proxy.replication.settle import Settled, Settler
from proxy.replication.steps import Reached, unnoticed
from proxy.tasks import Tasks

log = structlog.get_logger()

BATCH: Final = 200
TRIES: Final = 5
"""How often a key is refused, over about a second, before it is given up to quarantine."""
_NOBODYS_FAULT: Final = (Unavailable, Stale, TimeoutError)
"""Failures that no key is to blame for."""
_BACKOFF_FIRST: Final = 0.1
_BACKOFF_MOST: Final = 10.0
_PATIENCE: Final = 0.005
"""Seconds that a settle lets the clients' requests go first."""


class Replicator:
    """One lane and one task an entity. Nothing here is on a client's path; a secondary that fails is tried again."""

    def __init__(
        self,
        settler: Settler,
        stores: Mapping[SideName, Store],
        quarantines: Quarantines,
        flags: Flags,
        entities: Iterable[str],
        idle: Idle,
        metrics: Metrics,
        *,
        bound: int,
        reached: Reached = unnoticed,
    ) -> None:
        self._settler = settler
        self._stores = stores
        self._quarantines = quarantines
        self._flags = flags
        self._idle = idle
        self._metrics = metrics
        self._bound = bound
        self._reached = reached
        self._lanes = {entity: Lane() for entity in entities}
        self._tasks = Tasks()
        for entity, lane in self._lanes.items():
            metrics.backlog.labels(entity).set_function(partial(len, lane))

    def start(self) -> None:
        for entity in self._lanes:
            self._tasks.start(f"settle-{entity}", self._run(entity))

    async def stop(self) -> None:
        await self._tasks.stop()

    # Who says that a key has changed

    def changed(self, entity: str, keys: Iterable[Key], marks: Iterable[tuple[SideName, str]] = ()) -> None:
        """These keys' writes have finished: settle them, then delete the marks. Beyond the bound a key is shed: its mark
        stays for the sweep, or the change stream, which waits, brings it again."""
        lane = self._lanes[entity]
        now = asyncio.get_running_loop().time()
        every = list(keys)
        left = {OutboxMark(side, mark, set(every)) for side, mark in marks}
        for key in every:
            if len(lane) >= self._bound and key not in lane:
                lane.changes += 1
                self._metrics.shed.labels("settle").inc()
            else:
                lane.hear(key, Dirty(now, set(left)))

    async def followed(self, entity: str, key: Key, clock: Any) -> None:
        """The change stream saw this key change. Waits while the lane is full: such a key has no mark to fall back on."""
        lane = self._lanes[entity]
        if not lane.has_read(key, clock):
            await self._room(lane)
            lane.hear(key, Dirty(asyncio.get_running_loop().time(), clock=clock))

    async def settle(self, entity: str, keys: Iterable[Key]) -> None:
        """Return once each of these keys has settled, or is in quarantine. Should this process die before, the caller knows
        of them again. Waits for as long as that takes: bound it."""
        lane = self._lanes[entity]
        asked = list(keys)
        for key in asked:
            await self._room(lane)
            lane.hear(key, Dirty(asyncio.get_running_loop().time()))
        await lane.passed(asked)

    async def _room(self, lane: Lane) -> None:
        while len(lane) >= self._bound:
            await lane.progress.wait()

    # Who asks how far it is

    def changes(self, entity: str) -> int:
        """Grows with every change heard of."""
        return self._lanes[entity].changes

    def pending(self, entity: str, key: Key, mark: str | None = None) -> bool:
        """Whether the key waits to be settled here (and this mark with it)."""
        lane = self._lanes[entity]
        return any(mark is None or mark in {one.id for one in dirty.marks} for dirty in lane.of(key))

    def backlog(self, entity: str) -> int:
        return len(self._lanes[entity])

    def room(self, entity: str) -> int:
        """How many more keys it takes before it sheds."""
        return max(0, self._bound - len(self._lanes[entity]))

    async def settled(self, entity: str, keys: Iterable[Key] | None = None) -> None:
        """Return once what has been heard of these keys (or all) has settled, or is in quarantine. Waits for as long as that
        takes: bound it."""
        await self._lanes[entity].passed(keys)

    async def tried(self, entity: str) -> None:
        """Return once what has been heard has settled, or been refused: what waits for better times is waited for by nobody
        else."""
        await self._lanes[entity].passed(parked=False)

    async def drained(self) -> None:
        """Return once everything that has been heard has settled, or is in quarantine."""
        await asyncio.gather(*(lane.passed() for lane in self._lanes.values()))

    # The work

    async def _run(self, entity: str) -> None:
        lane = self._lanes[entity]
        failures, most = 0, BATCH
        while True:
            await lane.ready.wait()
            await self._idle.moment(_PATIENCE)
            batch = lane.take(most)
            try:
                settled = await self._settle(entity, batch)
            except Exception as error:
                failures += 1
                self._failed(entity, error, failures, len(batch))
                alone = False
                if not isinstance(error, _NOBODYS_FAULT):
                    # It may be one document that it fails on: the others are to go on without it.
                    most, alone = max(1, len(batch) // 2), len(batch) == 1
                self._again(lane, batch, alone=alone)
                lane.landed()
                await asyncio.sleep(_backoff(failures))
                continue
            failures, most = 0, min(BATCH, 2 * most)
            await self._refused(entity, lane, batch, settled)
            lane.landed()

    def _again(self, lane: Lane, batch: Mapping[Key, Dirty], *, alone: bool) -> None:
        for key, dirty in batch.items():
            if alone and key not in lane.waiting:
                dirty.tries += 1
                self._park(lane, key, dirty)
            else:
                lane.put(key, dirty)

    def _failed(self, entity: str, error: Exception, failures: int, keys: int) -> None:
        self._metrics.settle_failures.labels(entity, type(error).__name__).inc()
        if isinstance(error, SideError | TimeoutError):
            log.warning("settle_failed", entity=entity, keys=keys, cause=reason_of(error), failures=failures)
        else:
            log.exception("settle_failed", entity=entity, keys=keys, failures=failures)

    async def _settle(self, entity: str, batch: Mapping[Key, Dirty]) -> Settled:
        """Settle the batch, with what has to be done before and after. Raises SideError when nothing could be done."""
        meaning = self._flags.meaning(entity)
        if not meaning.settles:
            await self._unmark(batch)
            return Settled()
        known = await self._quarantines.known(meaning.primary, entity, list(batch))
        settled = await self._settler.settle(entity, list(batch))
        if settled.primary == meaning.primary:
            await self._quarantines.release(meaning.primary, entity, known, settled.done)
        # Exactly the marks whose writes had finished before the token was taken: later ones are in a later batch.
        await self._unmark({key: batch[key] for key in settled.done})
        self._quarantines.settled(entity, settled.done)
        if settled.clock is not None:
            self._lanes[entity].cover(settled.done, settled.clock)
        self._count(entity, settled, batch)
        return settled

    async def _refused(self, entity: str, lane: Lane, batch: Mapping[Key, Dirty], settled: Settled) -> None:
        """What the secondary refuses waits by itself, so that nothing else waits for it; then it is given up."""
        hopeless: dict[Key, SideError] = {}
        for key, cause in settled.refused.items():
            dirty = batch[key]
            self._metrics.settle_failures.labels(entity, type(cause).__name__).inc()
            if not dirty.tries:
                log.warning("settle_refused", entity=entity, key=key, cause=reason_of(cause))
            dirty.tries += 1
            if key in lane.waiting:  # its document has changed since: that settle speaks for it
                lane.put(key, dirty)
            elif dirty.tries < TRIES:
                self._park(lane, key, dirty)
            else:
                hopeless[key] = cause
        if hopeless and settled.primary:
            await self._give_up(entity, lane, settled.primary, hopeless, batch)

    async def _give_up(
        self, entity: str, lane: Lane, side: SideName, causes: Mapping[Key, SideError], batch: Mapping[Key, Dirty]
    ) -> None:
        """To quarantine first, then without marks. A key that cannot even be put there stays."""
        try:
            await self._quarantines.put(side, entity, causes)
        except SideError as error:
            self._metrics.settle_failures.labels(entity, type(error).__name__).inc()
            log.warning("quarantine_failed", entity=entity, side=side, keys=len(causes), cause=reason_of(error))
            for key in causes:
                self._park(lane, key, batch[key])
        else:
            await self._unmark({key: batch[key] for key in causes})

    def _park(self, lane: Lane, key: Key, dirty: Dirty) -> None:
        lane.park(key, dirty)
        asyncio.get_running_loop().call_later(_backoff(dirty.tries), lane.unpark, key, dirty)

    async def _unmark(self, settled: Mapping[Key, Dirty]) -> None:
        """Delete the marks that had only these keys left."""
        marks: dict[SideName, list[str]] = {}
        for key, dirty in settled.items():
            for mark in dirty.marks:
                mark.keys.discard(key)
                if not mark.keys:
                    marks.setdefault(mark.side, []).append(mark.id)
        for side, ids in marks.items():
            try:
                await self._stores[side].unmark(ids)
            except SideError as error:
                # The keys are settled; a mark that stays only makes the sweep settle them once more.
                log.warning("unmark_failed", side=side, marks=len(ids), cause=reason_of(error))
        await self._reached("unmarked")

    def _count(self, entity: str, settled: Settled, batch: Mapping[Key, Dirty]) -> None:
        now = asyncio.get_running_loop().time()
        self._metrics.settled.labels(entity, "written").inc(len(settled.written))
        self._metrics.settled.labels(entity, "superseded").inc(len(settled.superseded))
        lags = [now - batch[key].since for key in settled.done]
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
