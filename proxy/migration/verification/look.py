"""A close look at some keys: what both sides hold of them now, compared under the entity's rules."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from adapters.side import Document, Held, Key, SideName, Store
from comparators.compare import compare
from comparators.difference import Difference, Kind
from comparators.rules import Rules
from proxy.migration.verification.findings import Finding
from proxy.replication.quarantine import reason_of

_AT_ONCE: Final = 32
"""Keys whose documents are read together: each may be as large as a document can be."""
_PATHS: Final = 5
_PATH: Final = 120
"""Paths that are kept of one difference, and characters of one: names of an object's entries may be the users' own."""
_KEPT_REASONS: Final = 10_000
_OTHER_WAY: Final[dict[Kind, Kind]] = {"missing": "extra", "extra": "missing"}


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look saw of one key: nothing that differs (None), or what does; and prints of both documents, the same for as
    long as the documents are."""

    finding: Finding | None
    prints: tuple[bytes, bytes]


class Looks:
    """At one entity, whose primary this is."""

    def __init__(self, entity: str, primary: SideName, stores: Mapping[SideName, Store], rules: Rules) -> None:
        self._entity = entity
        self._primary: SideName = primary
        self._secondary: SideName = "prisma" if primary == "legacy" else "legacy"
        self._stores = stores
        self._rules = rules

    async def at(self, keys: Sequence[Key]) -> dict[Key, Seen]:
        """The primary is read first: what the secondary is behind by then is not held against it for longer than need be.
        Raises Unavailable."""
        seen: dict[Key, Seen] = {}
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            ours = await self._stores[self._primary].hold(self._entity, some)
            theirs = await self._stores[self._secondary].hold(self._entity, some)
            seen |= {key: Seen(self._judged(key, ours, theirs), _prints(key, ours, theirs)) for key in some}
        return seen

    async def explained(self, found: Mapping[Key, Finding]) -> dict[Key, Finding]:
        """The same findings; those that are in quarantine with the reason that is kept there. Raises Unavailable."""
        quarantine = self._stores[self._primary].quarantine
        kept = await quarantine.stamps(self._entity, list(found)) if found else {}
        if not kept:
            return dict(found)
        refusals = await quarantine.refusals(self._entity, limit=_KEPT_REASONS)
        reasons = {refusal.key: refusal.reason for refusal in refusals}
        return {
            key: finding.model_copy(update={"kind": "refused", "reason": f"quarantine: {reasons.get(key, 'unknown')}"})
            if key in kept and finding.kind != "unsettled"
            else finding
            for key, finding in found.items()
        }

    def _judged(self, key: Key, ours: Held, theirs: Held) -> Finding | None:
        if key in ours.refused:
            return Finding(key=key, kind="refused", reason=f"{self._primary}: {reason_of(ours.refused[key])}")
        if key not in ours.documents:
            gone = key not in theirs.documents and key not in theirs.refused
            return None if gone else Finding(key=key, kind="extra")
        if key in theirs.refused:
            return Finding(key=key, kind="refused", reason=f"{self._secondary}: {reason_of(theirs.refused[key])}")
        if key not in theirs.documents:
            return Finding(key=key, kind="missing")
        difference = self._difference(ours.documents[key], theirs.documents[key])
        return None if difference is None else Finding(key=key, kind="different", paths=self._paths(difference))

    def _difference(self, ours: Document, theirs: Document) -> Difference | None:
        """A rule may be a function of the legacy and the Prisma value, in this order."""
        if self._primary == "legacy":
            return compare(ours, theirs, self._rules)
        return compare(theirs, ours, self._rules)

    def _paths(self, difference: Difference) -> tuple[str, ...]:
        def said(kind: Kind) -> Kind:
            return kind if self._primary == "legacy" else _OTHER_WAY.get(kind, kind)

        return tuple(f"{said(one.kind)} {_printable(one.path[:_PATH])}" for one in difference.changes[:_PATHS])


def _printable(path: str) -> str:
    """What every store takes: the names in an object may be anything."""
    return "".join(character if character.isprintable() else "?" for character in path)


def _prints(key: Key, *sides: Held) -> tuple[bytes, bytes]:
    one, other = (_print(side.documents.get(key), side.refused.get(key)) for side in sides)
    return one, other


def _print(document: Document | None, refused: Exception | None) -> bytes:
    text = repr(document if refused is None else str(refused))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
