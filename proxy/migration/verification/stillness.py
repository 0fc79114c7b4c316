"""When what was written to an entity's primary has reached the other side, as far as anybody can know from outside."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from adapters.mongo.store import MongoStore
from adapters.side import Key, SideName, Store

_FIRST_LOOK: Final = 0.02
_LONGEST_LOOK: Final = 0.5
"""Seconds between two looks at the marks."""
_MARKS: Final = 1000
"""Marks that one look takes; where there are more nobody can say that a key has none."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What was known once everything committed before some moment had settled, or been refused. `changes` grows with each
    change of the entity that `follower` hears of, `backlog` is what that one still had to do; no follower: nobody counts."""

    follower: str | None = None
    changes: int = 0
    backlog: int = 0

    def held_still(self, until: Heard) -> bool:
        """Whether nothing of the entity was under way from then until this later moment, for sure."""
        return self.follower is not None and not self.backlog and self == until


class Stillness:
    """Asked by whoever has read both sides. Of writes to legacy the change stream is the record, and who follows it knows;
    where there is none, and on prisma, the marks are."""

    def __init__(self, stores: Mapping[SideName, Store], legacy: MongoStore) -> None:
        self._stores = stores
        self._legacy = legacy
        self._asker = f"verify-{secrets.token_hex(6)}"

    async def settled(self, entity: str, primary: SideName, keys: Collection[Key]) -> Heard:
        """Return once every change of these keys that was committed before this call has settled, or been refused. Waits for
        as long as that takes: bound it. Raises Unavailable."""
        begun = asyncio.get_running_loop().time()
        heard = Heard()
        if primary == "legacy" and await self._is_followed():
            answer = await self._legacy.beacons.ask(self._asker, [entity])
            heard = Heard(answer.follower, answer.changes.get(entity, 0), answer.backlog.get(entity, 0))
        await self._unmarked(entity, primary, frozenset(keys), begun)
        await self._whole(entity)
        return heard

    async def _is_followed(self) -> bool:
        """Whether the change stream is the record, or is going to be as soon as somebody follows."""
        if not self._legacy.is_replica_set:
            return False
        saved = await self._legacy.positions.load()
        return saved.lost is None

    async def _unmarked(self, entity: str, primary: SideName, keys: frozenset[Key], begun: float) -> None:
        pause = _FIRST_LOOK
        while True:
            elapsed = asyncio.get_running_loop().time() - begun
            marks = await self._stores[primary].marks(entity, _MARKS, older=elapsed)
            # A mark without a key may stand for any.
            if len(marks) < _MARKS and not any(mark.key is None or mark.key in keys for mark in marks):
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_LOOK)

    async def _whole(self, entity: str) -> None:
        """Wait for the end of a repair: of what may have been missed the other side may lack something."""
        pause = _FIRST_LOOK
        while entity in (await self._legacy.positions.load()).repair:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_LOOK)
