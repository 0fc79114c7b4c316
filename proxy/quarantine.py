"""Quarantine: keys that the secondary cannot take wait with the primary, with the reason, and nothing waits for them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from adapters.side import Key, SideError, SideName, Store
from proxy.settle import Settler

log = structlog.get_logger()

_REMEMBERED: Final = 10_000


def reason_of(cause: BaseException) -> str:
    """What is wrong, without any value of the document: what is kept and said may hold no personal data. The errors of the
    sides name fields and kinds; of any other one only the type is known to be harmless."""
    return str(cause) if isinstance(cause, SideError) else type(cause).__name__


@dataclass(frozen=True, slots=True)
class Retried:
    """What became of keys of the quarantine: those that have settled and left it, and those that stay, with why."""

    settled: frozenset[Key] = frozenset()
    refused: Mapping[Key, str] = field(default_factory=dict)


class Quarantines:
    """Both stores' quarantines, as one process uses them. It remembers how many keys there are, so that nothing is asked
    where there are none."""

    def __init__(self, stores: Mapping[SideName, Store]) -> None:
        self._stores = stores
        self._sizes: dict[SideName, dict[str, int]] = {side: {} for side in stores}
        self._said: OrderedDict[tuple[str, Key], str] = OrderedDict()

    async def look(self, side: SideName) -> Mapping[str, int]:
        """How many there are by entity: what others put there is known from here on."""
        self._sizes[side] = await self._stores[side].quarantine.sizes()
        return self._sizes[side]

    def size(self, side: SideName, entity: str) -> int:
        """How many keys of the entity were there when this process looked last, and what it did since."""
        return self._sizes[side].get(entity, 0)

    async def put(self, side: SideName, entity: str, causes: Mapping[Key, SideError]) -> None:
        reasons = {key: reason_of(cause) for key, cause in causes.items()}
        await self._stores[side].quarantine.put(entity, reasons)
        sizes = self._sizes[side]
        sizes[entity] = sizes.get(entity, 0) + len(reasons)
        for key, reason in reasons.items():
            if self._said.get((entity, key)) != reason:
                log.error("quarantined", entity=entity, key=key, side=side, reason=reason)
            self._said[entity, key] = reason
            self._said.move_to_end((entity, key))
        while len(self._said) > _REMEMBERED:
            self._said.popitem(last=False)

    async def take(self, side: SideName, entity: str, keys: Sequence[Key]) -> None:
        """Take out what there is of these keys, before the token of their next settle: whoever refuses one after it puts it
        back. They have to be marked, or to come from the change stream, so that a crash in between loses none."""
        if keys and self._sizes[side].get(entity):
            await self._take(side, entity, keys)

    async def _take(self, side: SideName, entity: str, keys: Sequence[Key]) -> None:
        gone = await self._stores[side].quarantine.take(entity, keys)
        sizes = self._sizes[side]
        sizes[entity] = max(0, sizes.get(entity, 0) - gone)

    def settled(self, entity: str, keys: Iterable[Key]) -> None:
        """These keys have settled: said of those that had been refused."""
        for key in keys if self._said else ():
            if self._said.pop((entity, key), None):
                log.info("quarantine_left", entity=entity, key=key)

    async def retry(self, side: SideName, entity: str, keys: Sequence[Key], settler: Settler) -> Retried:
        """Settle keys that are in the quarantine of that side, if it is still the primary. Raises SideError."""
        tried = await settler.settle(entity, keys)
        if tried.primary != side:
            return Retried()
        refused = dict(tried.refused)
        if tried.done:
            refused |= await self._release(side, entity, sorted(tried.done), settler)
        if tried.refused:
            await self.put(side, entity, tried.refused)
        return Retried(frozenset(keys) - refused.keys(), {key: reason_of(cause) for key, cause in refused.items()})

    async def _release(
        self, side: SideName, entity: str, keys: Sequence[Key], settler: Settler
    ) -> Mapping[Key, SideError]:
        """Let go of keys that have settled; return those that were refused after all. A later document of theirs may have
        been put here since: so they are taken out first, under marks, and settled once more."""
        store = self._stores[side]
        marks = await store.mark(entity, keys)
        await self._take(side, entity, keys)
        again = await settler.settle(entity, keys)
        if again.refused and again.primary:
            await self.put(again.primary, entity, again.refused)
        await store.unmark(marks)
        self.settled(entity, again.done)
        return again.refused
