"""Rehearsal: what a backfill would do, found out without writing anything."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from adapters.documents.mapping import Mapper
from adapters.side import Document, Held, Invalid, Key, Orphan, Range, SideError, SideName, Store
from proxy.flags.stages import Meaning
from proxy.flags.view import Flags
from proxy.migration.copy.copied import NAMED
from proxy.migration.run.admission import check_settles
from proxy.migration.run.following import Batches, Everything, Some, total_of
from proxy.migration.run.pace import Pace
from proxy.migration.run.patience import Patience
from proxy.migration.run.progress import Progress
from proxy.migration.run.walk import walk
from proxy.replication.quarantine import reason_of
from proxy.replication.settle import Parents

_WORKERS: Final = 4


@dataclass(slots=True)
class Rehearsed:
    """Keys by what would become of them. `reasons`: why the first of those would be refused."""

    keys: int = 0
    would_write: int = 0
    same: int = 0
    would_refuse: int = 0
    reasons: dict[Key, str] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        return {"would_write": self.would_write, "same": self.same, "would_refuse": self.would_refuse}

    @property
    def summary(self) -> dict[str, Any]:
        return {"documents": self.keys, **self.counts, "reasons": dict(self.reasons)}


@dataclass(frozen=True, slots=True)
class _Found:
    same: frozenset[Key]
    refused: Mapping[Key, SideError]


class Rehearsal:
    """Reads every document, maps it to the other side and looks for its parents there and here. What only the other store
    can tell as it writes (a unique value that another document has) it does not tell.

    Nothing is written, but that the counter moves on from which reading takes its tokens.
    """

    def __init__(
        self,
        stores: Mapping[SideName, Store],
        flags: Flags,
        mappers: Mapping[str, Mapper],
        parents: Parents,
        *,
        pace: Pace,
        patience: Patience,
        progress: Progress,
    ) -> None:
        self._stores = stores
        self._flags = flags
        self._mappers = mappers
        self._parents = parents
        self._pace = pace
        self._patience = patience
        self._progress = progress

    async def everything(self, entity: str) -> Rehearsed:
        """All that the primary holds. Raises NotSettling or GivenUp."""
        check_settles(entity, self._flags)
        store = self._stores[self._flags.meaning(entity).primary]
        following = Everything(store, entity, None, self._pace, self._patience)
        return await self._over(entity, following, await total_of(store, entity))

    async def some(self, entity: str, batches: Batches) -> Rehearsed:
        """Only these keys."""
        check_settles(entity, self._flags)
        return await self._over(entity, Some(batches, self._patience), None)

    async def _over(
        self, entity: str, following: Callable[[], Awaitable[Range | None]], total: int | None
    ) -> Rehearsed:
        done = Rehearsed()

        async def work(found: Range) -> _Found:
            await self._pace.allow(len(found.keys))
            begun = time.monotonic()
            seen = await self._patience.through(lambda: self._look(entity, found.keys))
            await self._pace.took(len(found.keys), time.monotonic() - begun)
            return seen

        async def landed(found: Range, seen: _Found) -> None:
            done.keys += len(found.keys)
            done.same += len(seen.same)
            done.would_refuse += len(seen.refused)
            done.would_write += len(found.keys) - len(seen.same) - len(seen.refused)
            named = list(seen.refused.items())[: NAMED - len(done.reasons)]
            done.reasons |= {key: reason_of(cause) for key, cause in named}
            self._progress.show(done.keys, done.counts)

        self._progress.begin(entity, total, 0)
        await walk(following, work, landed, workers=_WORKERS)
        self._progress.end(done.summary)
        return done

    async def _look(self, entity: str, keys: tuple[Key, ...]) -> _Found:
        meaning = self._flags.meaning(entity)
        held = await self._stores[meaning.primary].hold(entity, keys)
        refused = {**held.refused, **self._unfit(entity, meaning, held)}
        fit = {key: document for key, document in held.documents.items() if key not in refused}
        same = await self._same(entity, meaning, fit)
        others = {key: document for key, document in fit.items() if key not in same}
        return _Found(same, {**refused, **await self._orphans(entity, meaning, others)})

    def _unfit(self, entity: str, meaning: Meaning, held: Held) -> dict[Key, SideError]:
        """Those that the other side's types do not take."""
        mapper = self._mappers[entity]
        fits = mapper.sql_row if meaning.secondary == "prisma" else mapper.to_legacy
        unfit: dict[Key, SideError] = {}
        for key, document in held.documents.items():
            try:
                fits(document)
            except Invalid as error:
                unfit[key] = error
        return unfit

    async def _same(self, entity: str, meaning: Meaning, documents: Mapping[Key, Document]) -> frozenset[Key]:
        """Where they cannot be asked for together, those that the store does not take are not the same."""
        try:
            return await self._stores[meaning.secondary].same(entity, documents)
        except Invalid:
            if len(documents) == 1:
                return frozenset()
        entries = list(documents.items())
        half = len(entries) // 2
        first = await self._same(entity, meaning, dict(entries[:half]))
        return first | await self._same(entity, meaning, dict(entries[half:]))

    async def _orphans(self, entity: str, meaning: Meaning, documents: Mapping[Key, Document]) -> dict[Key, SideError]:
        """Those that refer to what neither side has."""
        orphans: dict[Key, SideError] = {}
        for name, parent in self._parents[entity]:
            wanted = {document[name] for document in documents.values() if document[name] is not None}
            missing = wanted - await self._present(parent, wanted)
            orphans |= {key: Orphan(name) for key, document in documents.items() if document[name] in missing}
        return orphans

    async def _present(self, entity: str, keys: Iterable[Key]) -> set[Key]:
        asked = sorted(keys)
        return {key for store in self._stores.values() for key in await store.present(entity, asked)}
