"""The first look at a range of keys, from either side: cheap, and wrong only where something is under way.

The two databases need not sort alike: each is walked in its own order and looked up in the other one by key. The secondary
itself tells what it holds exactly so; only the rest is read from it, and compared under the entity's rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from adapters.side import Document, Held, Invalid, Key, Range, SideName, Store
from comparators.compare import alike
from comparators.rules import Rules
from proxy.migration.verification.sample import Sample


@dataclass(frozen=True, slots=True)
class Scanned:
    """How many documents were compared, and the keys that have to be looked at closely."""

    compared: int = 0
    suspects: tuple[Key, ...] = ()


class Scan:
    """Of one entity, whose primary this is."""

    def __init__(
        self, entity: str, primary: SideName, stores: Mapping[SideName, Store], rules: Rules, sample: Sample
    ) -> None:
        secondary: SideName = "prisma" if primary == "legacy" else "legacy"
        self._entity = entity
        self._is_forward = primary == "legacy"
        self._primary, self._secondary = stores[primary], stores[secondary]
        self._rules = rules
        self._sample = sample

    async def forward(self, found: Range) -> Scanned:
        """Keys of the primary: missing in the secondary, or different there. Raises Unavailable."""
        keys = self._sample.of(found.keys)
        if not keys:
            return Scanned()
        held = await self._primary.hold(self._entity, keys)
        same = await self._same(held)
        rest = [key for key in held.documents if key not in same]
        theirs = await self._secondary.hold(self._entity, rest) if rest else Held(0, {})
        both = [key for key in rest if key in theirs.documents]
        differ = {key for key in both if not self._alike(held.documents[key], theirs.documents[key])}
        suspects = (*held.refused, *(key for key in rest if key in differ or key not in theirs.documents))
        return Scanned(len(same) + len(both), suspects)

    async def _same(self, held: Held) -> frozenset[Key]:
        """What the secondary holds exactly so. Where one document cannot even be asked for, nothing is known of any."""
        try:
            return await self._secondary.same(self._entity, held.documents) if held.documents else frozenset()
        except Invalid:
            return frozenset()

    async def backward(self, found: Range) -> Scanned:
        """Keys of the secondary: those that the primary does not have. Raises Unavailable."""
        keys = self._sample.of(found.keys)
        present = await self._primary.present(self._entity, keys) if keys else frozenset()
        return Scanned(suspects=tuple(key for key in keys if key not in present))

    def _alike(self, ours: Document, theirs: Document) -> bool:
        """A rule may be a function of the legacy and the Prisma value, in this order."""
        one, other = (ours, theirs) if self._is_forward else (theirs, ours)
        return alike(one, other, self._rules)
