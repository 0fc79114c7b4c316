"""Bringing a document to the side where something is about to refer to it, ahead of its turn to settle."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from adapters.side import Key, Operation, Orphan, SideName, Store, Unavailable
from proxy.flags.view import Flags
from proxy.replication.replicator import Replicator
from proxy.replication.settle import Parents

_DEADLINE: Final = 5.0


class Bringing:
    """Entities move one at a time: what a client was told a moment ago on one side, its next write may need on the other."""

    def __init__(
        self, flags: Flags, stores: Mapping[SideName, Store], parents: Parents, replicator: Replicator
    ) -> None:
        self._flags = flags
        self._stores = stores
        self._parents = parents
        self._replicator = replicator

    async def bring(self, entity: str, key: Key) -> None:
        """Settle this key now. Raises Unavailable where that cannot be done in time."""
        if not self._flags.meaning(entity).settles:
            raise Unavailable(f"{entity} is not on both sides")
        try:
            async with asyncio.timeout(_DEADLINE):
                await self._replicator.settle(entity, [key])
        except TimeoutError:
            raise Unavailable(f"{entity} could not be settled in time") from None

    async def parent_for(self, operation: Operation, orphan: Orphan) -> bool:
        """Bring the parent that this operation was refused for. False: nobody has it, or it does not come from elsewhere.
        Raises SideError."""
        key = (operation.data or {}).get(orphan.field)
        parent = dict(self._parents[operation.entity]).get(orphan.field)
        if key is None or parent is None or not self._comes_from_legacy(parent):
            return False
        # Asked first: what a client makes up is not to leave a fence.
        if not await self._stores["legacy"].present(parent, [key]):
            return False
        await self.bring(parent, key)
        return True

    def _comes_from_legacy(self, entity: str) -> bool:
        meaning = self._flags.meaning(entity)
        return meaning.settles and meaning.primary == "legacy"
