"""Settle: copy the primary's current state of keys to the secondary, fenced. One routine for everybody: dual writes, the
change stream, the sweep and the backfill only say which keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapters.side import Applied, Held, Key, Orphan, SideError, SideName, Store
from proxy.flags import Flags
from proxy.stages import Meaning

Parents = Mapping[str, Sequence[tuple[str, str]]]
"""For each entity, the fields by which it refers to others: pairs of field and entity."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of the keys: written, superseded by a settle with a higher token, or refused with the reason. `clock`
    is the primary's time of the read, where it keeps one. Nothing at all where the stage settles nothing."""

    written: frozenset[Key] = frozenset()
    superseded: frozenset[Key] = frozenset()
    refused: Mapping[Key, SideError] = field(default_factory=dict)
    clock: Any = None


class Settler:
    def __init__(self, stores: Mapping[SideName, Store], flags: Flags, parents: Parents) -> None:
        self._stores = stores
        self._flags = flags
        self._parents = parents

    async def settle(self, entity: str, keys: Sequence[Key]) -> Settled:
        """Raises SideError where a store could not be asked at all; then nothing is known of any key."""
        meaning = self._flags.meaning(entity)
        if not meaning.settles:
            return Settled()
        # Rules: token after write (whoever names a key has finished writing it), read after token, fence on apply.
        held = await self._stores[meaning.primary].hold(entity, keys)
        applied = await self._apply(entity, meaning, held, keys)
        return Settled(applied.written, applied.superseded, {**held.refused, **applied.refused}, held.clock)

    async def _apply(self, entity: str, meaning: Meaning, held: Held, keys: Iterable[Key]) -> Applied:
        """Apply what is held; where a parent is missing, settle the parents first and try those again."""
        secondary = self._stores[meaning.secondary]
        documents = {key: held.documents.get(key) for key in keys if key not in held.refused}
        applied = await secondary.apply(entity, held.token, documents)
        orphans = [key for key, cause in applied.refused.items() if isinstance(cause, Orphan) and documents[key]]
        if not orphans or not await self._settle_parents(entity, meaning, held, orphans):
            return applied
        again = await secondary.apply(entity, held.token, {key: documents[key] for key in orphans})
        others = {key: cause for key, cause in applied.refused.items() if key not in orphans}
        return Applied(
            applied.written | again.written, applied.superseded | again.superseded, {**others, **again.refused}
        )

    async def _settle_parents(self, entity: str, meaning: Meaning, held: Held, orphans: Iterable[Key]) -> bool:
        """Settle the documents that the orphans refer to. False: there are none that go this way."""
        some = False
        for name, parent in self._parents[entity]:
            theirs = self._flags.meaning(parent)
            keys = {held.documents[key][name] for key in orphans} - {None}
            if keys and theirs.settles and theirs.primary == meaning.primary:
                await self.settle(parent, sorted(keys))
                some = True
        return some
