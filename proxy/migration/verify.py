"""Verify: every key of both sides, compared, in both directions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from adapters.side import Key, SideName, Store
from comparators.compare import compare
from comparators.rules import Rules

BATCH: Final = 500


@dataclass(slots=True)
class Verified:
    """What was compared and what differs: keys that prisma lacks, that legacy lacks, and whose documents differ."""

    legacy: int = 0
    prisma: int = 0
    compared: int = 0
    missing: list[Key] = field(default_factory=list)
    extra: list[Key] = field(default_factory=list)
    different: dict[Key, tuple[str, ...]] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """A run that compared nothing is not clean, but for two empty sides."""
        return not (self.missing or self.extra or self.different) and self.compared == self.legacy == self.prisma


async def verify(entity: str, stores: Mapping[SideName, Store], rules: Rules) -> Verified:
    """Compare all documents of the entity as both sides hold them now: meant for a moment without writes."""
    found = Verified()
    legacy, prisma = stores["legacy"], stores["prisma"]
    async for keys in legacy.keys(entity, batch=BATCH):
        found.legacy += len(keys)
        theirs, ours = await asyncio.gather(legacy.hold(entity, keys), prisma.hold(entity, keys))
        for key in keys:
            if key not in ours.documents:
                found.missing.append(key)
                continue
            found.compared += 1
            difference = compare(theirs.documents.get(key), ours.documents[key], rules)
            if difference is not None:
                found.different[key] = tuple(f"{change.kind} {change.path}" for change in difference.changes)
    async for keys in prisma.keys(entity, batch=BATCH):
        found.prisma += len(keys)
        theirs = await legacy.hold(entity, keys)
        found.extra.extend(key for key in keys if key not in theirs.documents and key not in theirs.refused)
    return found
