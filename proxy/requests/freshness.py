"""How fresh the secondary is: whether what it holds of an entity can be taken for what the primary holds.

Of writes to legacy the change stream is the record: whoever follows it, in this replica or another, knows what is under way.
Where there is no stream, and on prisma, the marks are: what is under way is in the outbox, whoever wrote it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from adapters.mongo.beacons import Answer
from adapters.side import SideError, SideName, Store
from proxy.flags.gate import Gate
from proxy.flags.view import Flags
from proxy.replication.follow import Follower
from proxy.replication.quarantine import Quarantines
from proxy.replication.replicator import Replicator

_DEADLINE: Final = 5.0
_GIVEN: Final = 1.0
"""Seconds that others are given to settle what is in an outbox: then it is refused, or its writer is gone."""
_LOOK: Final = 0.02
_MARKS: Final = 100


@dataclass(frozen=True, slots=True)
class Moment:
    """How many writes had begun here, how many changes had been heard of and by whom, and the marks that were left."""

    started: int
    changes: int
    follower: str
    heard: int
    marks: frozenset[str]


class Freshness:
    """Whether what the secondary holds of an entity can be trusted to be what the primary holds, at a moment."""

    def __init__(
        self,
        flags: Flags,
        gates: Mapping[str, Gate],
        stores: Mapping[SideName, Store],
        replicator: Replicator,
        follower: Follower,
        quarantines: Quarantines,
    ) -> None:
        self._flags = flags
        self._gates = gates
        self._stores = stores
        self._replicator = replicator
        self._follower = follower
        self._quarantines = quarantines
        self._wrote = dict.fromkeys(gates, 0)
        self._looked = dict.fromkeys(gates, 0)
        self._looking: dict[str, asyncio.Task[None]] = {}

    def forwarded(self, entity: str) -> None:
        """A write has ended that this replica's replicator has not been told of: what it changed is known once the change
        stream has passed this point."""
        self._wrote[entity] += 1

    def is_settled(self, entity: str) -> bool:
        """Nothing of the entity that this replica knows of is under way. Never waits; where it cannot say yes because the
        change stream has not been asked since the last forwarded write, it asks, for the next time."""
        if self._wrote[entity] != self._looked[entity]:
            if entity not in self._looking:
                task = self._looking[entity] = asyncio.create_task(self._look(entity), name=f"look-{entity}")
                task.add_done_callback(lambda _: self._looking.pop(entity, None))
            return False
        # What is in quarantine the other side does not have as it is; which reads would meet it nobody can tell.
        kept = self._quarantines.size(self._flags.meaning(entity).primary, entity)
        return not (kept or self._gates[entity].in_flight or self._replicator.backlog(entity))

    async def _look(self, entity: str) -> None:
        wrote = self._wrote[entity]
        try:
            async with asyncio.timeout(_DEADLINE):
                if await self._is_known(entity):
                    self._looked[entity] = wrote
        except (SideError, TimeoutError):
            return  # still not settled; the next read asks again

    async def _is_known(self, entity: str) -> bool:
        """Whether everything written before this call is known here, or has settled."""
        if self._marked([entity]):
            return not await self._marks([entity])
        answer = await self._follower.heard([entity])
        # Where this replica follows, what was heard is in its own backlog from now on.
        return answer.follower == self._follower.replica or not answer.backlog.get(entity)

    async def settle(self, entities: Sequence[str]) -> Moment:
        """Return once every change committed before this call has settled, or been refused: then the sides differ for good.
        Bound it with a deadline. The moment is one between then and now."""
        answer = await self._heard(entities)
        for entity in entities:
            await self._replicator.tried(entity)
        marks = await self._emptied(self._marked(entities))
        return self._moment(entities, answer, marks)

    async def is_unchanged(self, entities: Sequence[str], since: Moment) -> bool:
        """Whether no write of these entities was under way at any time since `since`, as far as anybody knows."""
        answer = await self._heard(entities)
        marks = await self._marks(self._marked(entities))
        in_flight = any(self._gates[entity].in_flight for entity in entities)
        return not in_flight and self._moment(entities, answer, marks) == since

    def _moment(self, entities: Sequence[str], answer: Answer | None, marks: frozenset[str]) -> Moment:
        return Moment(
            sum(self._gates[entity].started for entity in entities),
            sum(self._replicator.changes(entity) for entity in entities),
            answer.follower if answer else "",
            sum(answer.changes.values()) if answer and answer.follower != self._follower.replica else 0,
            marks,
        )

    async def _heard(self, entities: Sequence[str]) -> Answer | None:
        marked = self._marked(entities)
        streamed = [
            entity for entity in entities if self._flags.meaning(entity).primary == "legacy" and entity not in marked
        ]
        return await self._follower.heard(streamed) if streamed else None

    def _marked(self, entities: Sequence[str]) -> list[str]:
        return [entity for entity in entities if self._follower.needs_mark(self._flags.meaning(entity))]

    async def _emptied(self, entities: Sequence[str]) -> frozenset[str]:
        """Wait until the marks that are in the outboxes now are gone; those that stay all the same."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _GIVEN
        asked = left = await self._marks(entities)
        while asked & left and loop.time() < until:
            await asyncio.sleep(_LOOK)
            left = await self._marks(entities)
        return left

    async def _marks(self, entities: Sequence[str]) -> frozenset[str]:
        found: set[str] = set()
        for entity in entities:
            store = self._stores[self._flags.meaning(entity).primary]
            found.update(mark.id for mark in await store.marks(entity, _MARKS))
        return frozenset(found)
