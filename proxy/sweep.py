"""The sweep: settle the marks that their writer left behind, from whichever store's outbox."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from adapters.side import SideError, SideName, Store
from proxy.replicator import Replicator
from proxy.tasks import Tasks

log = structlog.get_logger()

_EVERY: Final = 5.0
_MARGIN: Final = timedelta(seconds=5)
_BATCH: Final = 500


class Sweep:
    """Looks for marks older than a write may take. Settling one that its writer settles as well is harmless."""

    def __init__(
        self,
        stores: Mapping[SideName, Store],
        entities: Iterable[str],
        replicator: Replicator,
        *,
        write_deadline: timedelta,
    ) -> None:
        self._stores = stores
        self._entities = tuple(entities)
        self._replicator = replicator
        self._age = write_deadline + _MARGIN
        self._tasks = Tasks()

    def start(self) -> None:
        self._tasks.start("sweep", self._run())

    async def stop(self) -> None:
        await self._tasks.stop()

    async def _run(self) -> None:
        while True:
            for side, store in self._stores.items():
                for entity in self._entities:
                    try:
                        await self._look(side, store, entity)
                    except SideError as error:
                        log.debug("sweep_failed", entity=entity, side=side, cause=str(error))
            await asyncio.sleep(_EVERY)

    async def _look(self, side: SideName, store: Store, entity: str) -> None:
        oldest = datetime.now(UTC) - self._age
        for mark in await store.marks(entity, _BATCH):
            if mark.at > oldest:
                return
            if mark.key is not None and not self._replicator.pending(entity, mark.key):
                self._replicator.changed(entity, [mark.key], [(side, mark.id)])
