"""A suspect becomes a finding only when it has survived settling and looks of its own: what merely lags is none.

A look is worth something once everything that was committed before it has settled. It is beyond doubt where nothing of the
entity was under way meanwhile. Under traffic both documents have to stay as they are for several looks, for longer than a
key takes that was refused for a moment and is tried again; a document that changes between two looks begins anew.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from adapters.side import Key, SideName
from proxy.migration.verification.findings import Finding
from proxy.migration.verification.look import Looks, Seen
from proxy.migration.verification.stillness import Heard, Stillness

PATIENCE: Final = 30.0
"""Seconds that a key is given to settle and to hold still."""
STEADY: Final = 2.5
_LOOKS: Final = 3
"""Seconds, and looks, that both documents have to stay as they are where something may be under way."""
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0


@dataclass(slots=True)
class _Suspect:
    """Since when (loop time), and in how many looks in a row, it was seen as it is."""

    seen: Seen
    since: float
    looks: int = 1


class Confirm:
    """Of one entity, whose primary this is. Times in seconds."""

    def __init__(
        self,
        entity: str,
        primary: SideName,
        looks: Looks,
        stillness: Stillness,
        *,
        patience: float = PATIENCE,
        steady: float = STEADY,
    ) -> None:
        self._entity = entity
        self._primary: SideName = primary
        self._looks = looks
        self._stillness = stillness
        self._patience = patience
        self._steady = steady

    async def __call__(self, keys: Sequence[Key]) -> dict[Key, Finding]:
        """What is wrong with these keys; those with which nothing is are left out. What could not be told within the
        patience is `unsettled`. Raises Unavailable."""
        suspects: dict[Key, _Suspect | None] = dict.fromkeys(keys)
        found: dict[Key, Finding] = {}
        cause = "everything that was written to it has not settled"
        try:
            async with asyncio.timeout(self._patience):
                pause = _FIRST_PAUSE
                while suspects:
                    await self._look(suspects, found)
                    if suspects:
                        cause = "it never held still"
                        await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                        pause = min(2 * pause, _LONGEST_PAUSE)
        except TimeoutError:
            found |= {key: Finding(key=key, kind="unsettled", reason=cause) for key in suspects}
        return await self._looks.explained(found)

    async def _look(self, suspects: dict[Key, _Suspect | None], found: dict[Key, Finding]) -> None:
        """One look at all that are left; those that are clear now, either way, are left no more."""
        before = await self._settled(suspects)
        looked = await self._looks.at(list(suspects))
        for key in [key for key, seen in looked.items() if seen.finding is None]:
            del suspects[key]
        if not suspects:
            return
        still = before.follower is not None and before.held_still(await self._settled(suspects))
        now = asyncio.get_running_loop().time()
        for key in list(suspects):
            suspect = suspects[key] = _once_more(suspects[key], looked[key], now)
            stood = suspect.looks >= _LOOKS and now - suspect.since >= self._steady
            if (still or stood) and suspect.seen.finding:
                found[key] = suspect.seen.finding
                del suspects[key]

    async def _settled(self, keys: dict[Key, _Suspect | None]) -> Heard:
        return await self._stillness.settled(self._entity, self._primary, keys.keys())


def _once_more(before: _Suspect | None, seen: Seen, now: float) -> _Suspect:
    if before is None or before.seen.prints != seen.prints:
        return _Suspect(seen, now)
    return _Suspect(seen, before.since, before.looks + 1)
