"""Repair: after changes may have been missed, every key that either side holds is settled again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Final

import structlog

from adapters.mongo.positions import Positions
from adapters.side import Key, SideError, SideName, Store
from proxy.flags.view import Flags
from proxy.metrics import Metrics
from proxy.replication.replicator import Replicator

log = structlog.get_logger()

_BATCH: Final = 200
_SAY_EVERY: Final = 5.0
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 10.0


class Repairs:
    """What one follower has to repair, a batch at a time: the next one begins when this one has settled. Which entities is
    saved with the position; a follower that finds them saved goes on with them, from their first key, for settling twice is
    harmless."""

    def __init__(
        self,
        positions: Positions,
        stores: Mapping[SideName, Store],
        entities: Iterable[str],
        flags: Flags,
        replicator: Replicator,
        metrics: Metrics,
        *,
        replica: str,
    ) -> None:
        """`entities`: those that others refer to come first."""
        self._positions = positions
        self._stores = stores
        self._entities = tuple(entities)
        self._flags = flags
        self._replicator = replicator
        self._metrics = metrics
        self._replica = replica
        self._damaged: set[str] = set()
        self._present: tuple[str, ...] = ()
        self._some = asyncio.Event()

    def needed(self, entities: Iterable[str]) -> None:
        """These have to be repaired: it is saved that they have to."""
        self._damaged.update(entities)
        if self._damaged:
            self._some.set()

    def pending(self, entity: str) -> bool:
        return entity in self._present or entity in self._damaged

    async def run(self) -> None:
        failures = 0
        while True:
            await self._some.wait()
            self._present = tuple(entity for entity in self._entities if entity in self._damaged)
            self._damaged.clear()
            self._some.clear()
            try:
                await self._repair()
                failures = 0
            except SideError as error:
                failures += 1
                self.needed(self._present)
                log.warning("repair_failed", entities=self._present, cause=str(error), failures=failures)
                pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(failures - 1, 10))
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            finally:
                self._present = ()

    async def _repair(self) -> None:
        """First all that the primaries have, parents before children, then what only the secondaries have, children before
        parents. Raises SideError; then nothing says that anything is whole."""
        counts = dict.fromkeys(self._present, 0)
        log.warning("repair_started", entities=self._present)
        for entity in self._present:
            counts[entity] += await self._settle(entity, self._held(entity))
        for entity in reversed(self._present):
            counts[entity] += await self._settle(entity, self._gone(entity))
        for entity, keys in counts.items():
            # What damaged it once more meanwhile has to be repaired once more.
            if entity not in self._damaged:
                await self._positions.repaired(self._replica, entity)
            log.warning("repair_finished", entity=entity, keys=keys)

    async def _settle(self, entity: str, batches: AsyncIterator[list[Key]]) -> int:
        loop = asyncio.get_running_loop()
        said, count = loop.time(), 0
        async for keys in batches:
            await self._replicator.settle(entity, keys)
            count += len(keys)
            self._metrics.repaired.labels(entity).inc(len(keys))
            if loop.time() - said > _SAY_EVERY:
                said = loop.time()
                log.info("repair_progress", entity=entity, keys=count)
        return count

    async def _held(self, entity: str) -> AsyncIterator[list[Key]]:
        """Every key of the primary. None where the stage settles nothing."""
        meaning = self._flags.meaning(entity)
        if meaning.settles:
            async for keys in self._stores[meaning.primary].keys(entity, batch=_BATCH):
                yield keys

    async def _gone(self, entity: str) -> AsyncIterator[list[Key]]:
        """The keys that only the secondary has."""
        meaning = self._flags.meaning(entity)
        if not meaning.settles:
            return
        async for keys in self._stores[meaning.secondary].keys(entity, batch=_BATCH):
            held = await self._stores[meaning.primary].hold(entity, keys)
            gone = [key for key in keys if key not in held.documents and key not in held.refused]
            if gone:
                yield gone
