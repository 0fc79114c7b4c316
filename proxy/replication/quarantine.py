"""Quarantine: keys that the secondary cannot take wait with the primary, with the reason, and nothing waits for them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Final

import structlog

from adapters.side import Key, SideError, SideName, Store
from proxy.replication.settle import Settler

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

    async def known(self, side: SideName, entity: str, keys: Sequence[Key]) -> Mapping[Key, str]:
        """Which of these keys are there, and for which refusal. Protocol rule: asked before the token of their next settle,
        so that this settle takes out what it has made good, and nothing that somebody has put there since."""
        if not self.size(side, entity):
            return {}
        return await self._stores[side].quarantine.stamps(entity, keys)

    async def release(self, side: SideName, entity: str, known: Mapping[Key, str], done: Set[Key]) -> None:
        """Take out those known ones that have settled, where they are still there for the same refusal."""
        if made_good := {key: known[key] for key in done & known.keys()}:
            gone = await self._stores[side].quarantine.release(entity, made_good)
            sizes = self._sizes[side]
            sizes[entity] = max(0, sizes.get(entity, 0) - gone)

    def settled(self, entity: str, keys: Iterable[Key]) -> None:
        """These keys have settled: said of those that had been refused."""
        for key in keys if self._said else ():
            if self._said.pop((entity, key), None):
                log.info("quarantine_left", entity=entity, key=key)

    async def retry(self, side: SideName, entity: str, keys: Sequence[Key], settler: Settler) -> Retried:
        """Settle keys that are in the quarantine of that side, if it is still the primary. Raises SideError."""
        known = await self._stores[side].quarantine.stamps(entity, keys)
        tried = await settler.settle(entity, keys)
        if tried.primary != side:
            return Retried()
        await self.release(side, entity, known, tried.done)
        self.settled(entity, tried.done)
        if tried.refused:
            await self.put(side, entity, tried.refused)
        return Retried(tried.done, {key: reason_of(cause) for key, cause in tried.refused.items()})
