"""What a walk goes along: the keys of a store in its own order, or only some that were named."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from adapters.side import Key, Range, Store, Unavailable
from proxy.migration.run.pace import SIZE, Pace
from proxy.migration.run.patience import Patience

Batches = Callable[[], AsyncIterator[list[Key]]]
"""Keys in batches, from their beginning each time."""


class Everything:
    """All keys of an entity, from a place on (None: the beginning), in batches as large as the pace likes them."""

    def __init__(self, store: Store, entity: str, place: str | None, pace: Pace, patience: Patience) -> None:
        self._store = store
        self._entity = entity
        self._place = place
        self._pace = pace
        self._patience = patience

    async def __call__(self) -> Range | None:
        """The next ones; None where there are no more. Raises GivenUp."""
        found = await self._patience.through(self._next)
        self._place = found.upto if found else self._place
        return found

    async def _next(self) -> Range | None:
        return await self._store.range(self._entity, self._place, most=self._pace.most, size=SIZE)


class Some:
    """Keys that come from elsewhere. Where the store goes away while they are read, they are read anew."""

    def __init__(self, batches: Batches, patience: Patience) -> None:
        self._batches = batches
        self._patience = patience
        self._found = batches()

    async def __call__(self) -> Range | None:
        keys = await self._patience.through(self._next)
        return None if keys is None else Range(tuple(keys), "")

    async def _next(self) -> list[Key] | None:
        try:
            return await anext(self._found, None)
        except Unavailable:
            self._found = self._batches()
            raise


async def total_of(store: Store, entity: str) -> int | None:
    """How many keys there are, about; None where counting them takes too long: then nobody is told how long it takes still."""
    try:
        return await store.count(entity)
    except Unavailable:
        return None
