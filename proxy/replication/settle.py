"""Settle: copy the primary's current state of keys to the secondary, fenced. One routine for everybody: dual writes, the
change stream, the sweep and the backfill only say which keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from adapters.side import Applied, Document, Held, Invalid, Key, Orphan, SideError, SideName, Stale, Store
from proxy.flags.stages import Meaning
from proxy.flags.view import Flags
from proxy.replication.steps import Reached, unnoticed

Parents = Mapping[str, Sequence[tuple[str, str]]]
"""For each entity, the fields by which it refers to others: pairs of field and entity."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of the keys: written, superseded by a settle with a higher token, found to be the `same` already (where
    that was asked), or refused with the reason. `clock` is the time of the read by the primary, `primary`, where it keeps
    one. Nothing at all where the stage settles nothing."""

    written: frozenset[Key] = frozenset()
    superseded: frozenset[Key] = frozenset()
    refused: Mapping[Key, SideError] = field(default_factory=dict)
    clock: Any = None
    primary: SideName | None = None
    same: frozenset[Key] = frozenset()

    @property
    def done(self) -> frozenset[Key]:
        return self.written | self.superseded | self.same


@dataclass(frozen=True, slots=True)
class _Direction:
    """Which way an entity settles, and the term of the decision that said so: read together, they belong together."""

    entity: str
    meaning: Meaning
    term: int


class Settler:
    def __init__(
        self, stores: Mapping[SideName, Store], flags: Flags, parents: Parents, *, reached: Reached = unnoticed
    ) -> None:
        self._stores = stores
        self._flags = flags
        self._parents = parents
        self._reached = reached

    async def settle(self, entity: str, keys: Sequence[Key], *, unless_same: bool = False) -> Settled:
        """Raises SideError where a store could not be asked at all; then nothing is known of any key. It is Stale where the
        secondary knows of a later decision than this replica's flags.

        With `unless_same`, what the secondary holds exactly so is left as it is, without a fence. Protocol rule: only for
        keys that nobody named because of a write; a change settles by its own mark or event, whatever is found here.
        """
        way = _Direction(entity, self._flags.meaning(entity), self._flags[entity].term)
        if not way.meaning.settles:
            return Settled()
        beside = await self._stores["legacy"].together(entity, keys)
        # Rules: token after write (whoever names a key has finished writing it), read after token, fence on apply.
        held = await self._stores[way.meaning.primary].hold(entity, [*keys, *beside] if beside else keys)
        await self._reached("held")
        same = await self._same(way, held) if unless_same else frozenset()
        left = [key for key in (*keys, *beside) if key not in same and beside.get(key) not in same]
        applied = await self._apply(way, held, left)
        await self._reached("applied")
        refused = {**held.refused, **applied.refused}
        settled = Settled(applied.written, applied.superseded, refused, held.clock, way.meaning.primary, same)
        return _of_asked(settled, beside, applied) if beside else settled

    async def _same(self, way: _Direction, held: Held) -> frozenset[Key]:
        """What the secondary holds exactly so. Where one document cannot even be asked for, nothing is known of any."""
        try:
            return await self._stores[way.meaning.secondary].same(way.entity, held.documents)
        except Invalid:
            return frozenset()

    async def _apply(self, way: _Direction, held: Held, keys: Iterable[Key]) -> Applied:
        """Apply what is held; where a parent is missing, settle the parents first and try those again."""
        documents = {key: held.documents.get(key) for key in keys if key not in held.refused}
        if not documents:
            return Applied()
        applied = await self._apply_in_term(way, held.token, documents)
        orphans = [key for key, cause in applied.refused.items() if isinstance(cause, Orphan) and documents[key]]
        if not orphans or not await self._settle_parents(way, held, orphans):
            return applied
        again = await self._apply_in_term(way, held.token, {key: documents[key] for key in orphans})
        others = {key: cause for key, cause in applied.refused.items() if key not in orphans}
        return Applied(
            applied.written | again.written, applied.superseded | again.superseded, {**others, **again.refused}
        )

    async def _apply_in_term(self, way: _Direction, token: int, documents: Mapping[Key, Document | None]) -> Applied:
        """A secondary that has not heard of the term yet is told: the decision was made. Where it knows a later one, it is
        this replica that has not heard: nothing is written."""
        secondary = self._stores[way.meaning.secondary]
        try:
            return await secondary.apply(way.entity, way.term, token, documents)
        except Stale as stale:
            if stale.term >= way.term:
                raise
        await secondary.turn(way.entity, way.term)
        return await secondary.apply(way.entity, way.term, token, documents)

    async def _settle_parents(self, way: _Direction, held: Held, orphans: Iterable[Key]) -> bool:
        """Settle the documents that the orphans refer to. False: there are none that go this way."""
        some = False
        for name, parent in self._parents[way.entity]:
            theirs = self._flags.meaning(parent)
            keys = {held.documents[key][name] for key in orphans} - {None}
            if keys and theirs.settles and theirs.primary == way.meaning.primary:
                await self.settle(parent, sorted(keys))
                some = True
        return some


def _of_asked(settled: Settled, beside: Mapping[Key, Key], applied: Applied) -> Settled:
    """What became of the keys that were asked for: one of them has not settled where one beside it could not be applied.
    What is wrong with a document of another record is for whoever names that one."""
    refused = {
        beside.get(key, key): cause
        for key, cause in settled.refused.items()
        if key not in beside or key in applied.refused
    }
    others = refused.keys() | beside.keys()
    return replace(
        settled,
        written=settled.written - others,
        superseded=settled.superseded - others,
        same=settled.same - others,
        refused=refused,
    )
