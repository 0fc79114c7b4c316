"""Backfill: settle every key that the primary holds. Safe beside traffic, since it copies by settling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from adapters.side import Key, SideError, SideName, Store
from proxy.flags.view import Flags
from proxy.replication.quarantine import Quarantines
from proxy.replication.settle import Settler

BATCH: Final = 500


class NotSettling(SideError):
    """The entity's stage settles nothing: what a backfill copied would be stale at once."""


@dataclass(slots=True)
class Backfilled:
    """How many keys were settled, and those that were refused, with the reason: they are in quarantine."""

    settled: int = 0
    refused: dict[Key, SideError] = field(default_factory=dict)


async def backfill(entity: str, stores: Mapping[SideName, Store], flags: Flags, settler: Settler) -> Backfilled:
    """Settle all keys of the entity. Raises NotSettling before `dualwrite`, Unavailable where a store is away, and Stale
    where the entity's primary was changed meanwhile."""
    meaning = flags.meaning(entity)
    if not meaning.settles:
        raise NotSettling(f"{entity} is at {flags[entity].stage}; backfill from dualwrite on")
    done, quarantines = Backfilled(), Quarantines(stores)
    async for keys in stores[meaning.primary].keys(entity, batch=BATCH):
        settled = await settler.settle(entity, keys)
        done.settled += len(settled.done)
        if settled.refused:
            done.refused.update(settled.refused)
            await quarantines.put(settled.primary or meaning.primary, entity, settled.refused)
    return done
