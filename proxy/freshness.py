"""How fresh the secondary is: whether what it holds of an entity can be taken for what the primary holds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapters.side import SideError
from proxy.flags import Flags
from proxy.follow import Follower
from proxy.gate import Gate
from proxy.replicator import Replicator

_DEADLINE = 5.0


@dataclass(frozen=True, slots=True)
class Moment:
    """How many writes had begun, and how many changes had been heard of."""

    started: int
    changes: int


class Freshness:
    """Whether what the secondary holds of an entity can be trusted to be what the primary holds, at a moment."""

    def __init__(self, flags: Flags, gates: Mapping[str, Gate], replicator: Replicator, follower: Follower) -> None:
        self._flags = flags
        self._gates = gates
        self._replicator = replicator
        self._follower = follower
        self._wrote = dict.fromkeys(gates, 0)
        self._looked = dict.fromkeys(gates, 0)
        self._looking: dict[str, asyncio.Task[None]] = {}

    def forwarded(self, entity: str) -> None:
        """An old server has answered a write: what it changed is known once the change stream has passed this point."""
        self._wrote[entity] += 1

    def is_settled(self, entity: str) -> bool:
        """Nothing of the entity that this replica knows of is under way. Never waits; where it cannot say yes because the
        change stream has not been asked since the last forwarded write, it asks, for the next time."""
        if self._wrote[entity] != self._looked[entity]:
            if entity not in self._looking:
                task = self._looking[entity] = asyncio.create_task(self._look(entity), name=f"look-{entity}")
                task.add_done_callback(lambda _: self._looking.pop(entity, None))
            return False
        return not self._gates[entity].in_flight and not self._replicator.backlog(entity)

    async def _look(self, entity: str) -> None:
        wrote = self._wrote[entity]
        try:
            async with asyncio.timeout(_DEADLINE):
                await self._follower.caught_up()
        except (SideError, TimeoutError):
            return  # still not settled; the next read asks again
        self._looked[entity] = wrote

    async def settle(self, entities: Sequence[str]) -> None:
        """Return once every change committed before this call has settled, or been refused: then the sides differ for good.
        Bound it with a deadline."""
        await self._hear(entities)
        for entity in entities:
            await self._replicator.tried(entity)

    def mark(self, entities: Sequence[str]) -> Moment:
        return Moment(
            sum(self._gates[entity].started for entity in entities),
            sum(self._replicator.changes(entity) for entity in entities),
        )

    async def is_unchanged(self, entities: Sequence[str], since: Moment) -> bool:
        """Whether no write of these entities was under way at any time since `since`."""
        await self._hear(entities)
        return not any(self._gates[entity].in_flight for entity in entities) and self.mark(entities) == since

    async def _hear(self, entities: Sequence[str]) -> None:
        if any(self._flags.meaning(entity).primary == "legacy" for entity in entities):
            await self._follower.caught_up()
