"""Whether an entity has anything left to settle, whoever wrote it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from typing import Final

from adapters.mongo.store import MongoStore
from adapters.side import SideName, Store

_LOOK: Final = 0.02


class Drain:
    """Asked while the entity is fenced and every replica has acknowledged: nothing new comes. Protocol rule: drain after
    the acknowledgements, not before."""

    def __init__(self, stores: Mapping[SideName, Store], legacy: MongoStore) -> None:
        self._stores = stores
        self._legacy = legacy
        self._asker = f"flip-{secrets.token_hex(6)}"

    async def drained(self, entity: str, primary: SideName) -> None:
        """Return once everything of the entity has settled. Bound it with a deadline. Raises SideError."""
        while (
            await self._marked(entity)
            or (primary == "legacy" and await self._unheard(entity))
            or await self._damaged(entity)
        ):
            await asyncio.sleep(_LOOK)

    async def _marked(self, entity: str) -> bool:
        """In either outbox: a mark in the secondary's is that of a late write to a primary of the past, which has to be
        taken back before that side is the primary again."""
        found = await asyncio.gather(*(store.marks(entity, 1) for store in self._stores.values()))
        return any(found)

    async def _unheard(self, entity: str) -> bool:
        """Whether the follower of the change stream has something of before this moment left to settle."""
        if not self._legacy.is_replica_set:
            return False  # there is no stream: the marks were all
        answer = await self._legacy.beacons.ask(self._asker, [entity])
        return answer.backlog.get(entity, 0) > 0

    async def _damaged(self, entity: str) -> bool:
        """Whether a repair of it has not ended: of what may have been missed, the other side may lack something."""
        return entity in (await self._legacy.positions.load()).repair
