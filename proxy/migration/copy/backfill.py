"""Backfill: settle every key that the primary holds. Safe beside traffic, since it copies by settling."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final

from adapters.side import Range, SideName, Store
from proxy.flags.view import Flags
from proxy.migration.copy.copied import Copied
from proxy.migration.copy.copying import Copying
from proxy.migration.run.admission import check_settles
from proxy.migration.run.following import Batches, Everything, Some, total_of
from proxy.migration.run.keeping import Checkpoint, Keeping, Purpose, new_holder
from proxy.migration.run.pace import Pace
from proxy.migration.run.patience import Patience
from proxy.migration.run.progress import Progress, Silent
from proxy.migration.run.walk import walk
from proxy.replication.quarantine import Quarantines
from proxy.replication.settle import Settler
from proxy.replication.steps import Reached, unnoticed
from proxy.tasks import first_ended

NAME: Final = "backfill"
WORKERS: Final = 4

Watch = Callable[[str, Pace], Awaitable[None]]
"""Changes the pace by what it sees of the stores, while an entity is copied, until cancelled."""

Following = Callable[[], Awaitable[Range | None]]


class Backfill:
    """Copies one entity after the other. Nothing is done twice that matters: what a killed one had copied since its last
    checkpoint is found to be the same, or settled once more.

    `shapes` is what the entities look like: see `proxy.migration.run.shape`. `patience` bounds how long a store may be away.
    Each method raises Taken, Reshaped, Lost, NotSettling, Moved or GivenUp, and then what was copied stays copied.
    """

    def __init__(
        self,
        stores: Mapping[SideName, Store],
        flags: Flags,
        settler: Settler,
        *,
        shapes: Mapping[str, Mapping[str, str]] | None = None,
        pace: Pace | None = None,
        patience: Patience | None = None,
        progress: Progress | None = None,
        watch: Watch | None = None,
        holder: str | None = None,
        workers: int = WORKERS,
        reached: Reached = unnoticed,
    ) -> None:
        self._stores = stores
        self._flags = flags
        self._settler = settler
        self._shapes = shapes or {}
        self._pace = pace or Pace()
        self._patience = patience or Patience()
        self._progress = progress or Silent()
        self._watch = watch
        self._holder = holder or new_holder()
        self._workers = workers
        self._reached = reached
        self._quarantines = Quarantines(stores)

    async def everything(self, entity: str, *, restart: bool = False) -> Copied:
        """All that the primary holds, from the checkpoint of a run that did not come to its end, if there is one. With
        `restart` it is forgotten."""
        purpose, side = self._purpose(entity)
        store = self._stores[side]
        keeping = Keeping(purpose, store)
        await self._patience.through(keeping.take)
        try:
            checkpoint = await self._patience.through(
                lambda: Checkpoint.begin(purpose, store, self._shapes.get(entity, {}), restart=restart)
            )
            copying = self._copying(entity, side, checkpoint)
            following = Everything(store, entity, checkpoint.run.upto, self._pace, self._patience)
            await self._look_on(copying, keeping, self._walk(copying, following, await total_of(store, entity)))
            return copying.copied
        finally:
            await keeping.end()

    async def some(self, entity: str, batches: Batches) -> Copied:
        """Only these keys; of those that the primary does not hold the secondary's documents are deleted. Leaves no
        checkpoint, and that of a whole run alone: where a store goes away while they are read, it begins anew."""
        purpose, side = self._purpose(entity)
        keeping = Keeping(purpose, self._stores[side])
        await self._patience.through(keeping.take)
        try:
            copying = self._copying(entity, side, None)
            await self._look_on(copying, keeping, self._walk(copying, Some(batches, self._patience), None))
            return copying.copied
        finally:
            await keeping.end()

    def _purpose(self, entity: str) -> tuple[Purpose, SideName]:
        check_settles(entity, self._flags)
        return Purpose(NAME, entity, self._holder), self._flags.meaning(entity).primary

    def _copying(self, entity: str, side: SideName, checkpoint: Checkpoint | None) -> Copying:
        return Copying(
            entity,
            side,
            self._stores,
            self._flags,
            self._settler,
            self._quarantines,
            self._patience,
            self._pace,
            self._progress,
            checkpoint,
            self._reached,
        )

    async def _walk(self, copying: Copying, following: Following, total: int | None) -> None:
        self._progress.begin(copying.entity, total, copying.copied.keys)
        await copying.begin()
        await walk(following, copying.work, copying.landed, workers=self._workers)
        await copying.finish()

    async def _look_on(self, copying: Copying, keeping: Keeping, work: Coroutine[Any, Any, None]) -> None:
        """Work, for as long as the lease is ours and the entity stays where it is."""

        async def watching() -> None:
            if self._watch is None:
                await asyncio.Event().wait()
            else:
                await self._watch(copying.entity, self._pace)

        try:
            await first_ended(work, keeping.renew(), copying.stay(), watching())
        except BaseException:
            self._progress.end({**copying.copied.summary, "stopped": True})
            raise
        self._progress.end(copying.copied.summary)
