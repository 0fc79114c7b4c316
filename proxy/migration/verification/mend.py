"""Repairing what a verification has found: the keys are marked, settled from the primary, and unmarked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from adapters.side import Key, SideName, Store
from proxy.replication.quarantine import Quarantines
from proxy.replication.settle import Settler

_BATCH: Final = 100


class Mend:
    """Of one entity, whose primary this is. A process that dies in the middle leaves marks, which a sweep settles."""

    def __init__(self, entity: str, primary: SideName, stores: Mapping[SideName, Store], settler: Settler) -> None:
        self._entity = entity
        self._primary: SideName = primary
        self._store = stores[primary]
        self._settler = settler
        self._quarantines = Quarantines(stores)

    async def __call__(self, keys: Sequence[Key]) -> None:
        """What the secondary refuses is in quarantine then, with the reason. Raises SideError: some may have been settled,
        the others are marked."""
        for start in range(0, len(keys), _BATCH):
            some = keys[start : start + _BATCH]
            marks = await self._store.mark(self._entity, some)
            await self._quarantines.retry(self._primary, self._entity, some, self._settler)
            await self._store.unmark(marks)
