"""The indexes of both sides, beside each other: which are on one side only, which are unique on one side only, and what an
index of MongoDB does that one of PostgreSQL does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from adapters.mongo.catalogue import LegacyIndex
from adapters.prisma.indexes import PrismaIndex
from proxy.migration.inspection.profile import Profile
from proxy.migration.inspection.sources import Source

Verdict = Literal["both", "covered", "legacy only", "prisma only", "unique in legacy only", "unique in prisma only"]

ENTRY: Final = 2_704
"""Bytes that an entry of a B-tree of PostgreSQL can hold, after compression."""

ColumnOf = Callable[[str], str | None]
"""The column that a path in the collection is in; None where no field is mapped to it."""


@dataclass(frozen=True, slots=True)
class IndexPair:
    """`fields` are paths of the legacy index, columns where there is none. `covered`: another index of the other side
    begins with the same fields. `notes`: what to think of before the other side can do without it."""

    fields: tuple[str, ...]
    verdict: Verdict
    legacy: str | None = None
    prisma: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def differs(self) -> bool:
        return self.verdict not in ("both", "covered") or bool(self.notes)


def index_pairs(
    legacy: Sequence[LegacyIndex], prisma: Sequence[PrismaIndex], column_of: ColumnOf
) -> tuple[IndexPair, ...]:
    """In the order of the legacy indexes, then what only PostgreSQL has. The order of fields counts, their direction does
    not: an index is read both ways."""
    left = list(prisma)
    pairs: list[IndexPair] = []
    for index in legacy:
        columns = tuple(column_of(path) for path in index.paths)
        same = _best([one for one in left if one.columns == columns and not one.partial], index.unique)
        if same is not None:
            left.remove(same)
        pairs.append(_pair(index, same, columns, prisma))
    return (*pairs, *(_prisma_only(index, legacy, column_of) for index in left))


def _best(candidates: Sequence[PrismaIndex], unique: bool) -> PrismaIndex | None:
    return next((one for one in candidates if one.unique == unique), candidates[0] if candidates else None)


def _pair(
    index: LegacyIndex, same: PrismaIndex | None, columns: tuple[str | None, ...], prisma: Sequence[PrismaIndex]
) -> IndexPair:
    notes = tuple(_notes(index, columns))
    if same is not None:
        verdict: Verdict = "both"
        if same.unique != index.unique:
            verdict = "unique in prisma only" if same.unique else "unique in legacy only"
        return IndexPair(index.paths, verdict, index.name, same.name, notes)
    longer = next((one for one in prisma if one.columns[: len(columns)] == columns and not one.partial), None)
    if longer is None:
        return IndexPair(index.paths, "legacy only", index.name, None, notes)
    return IndexPair(
        index.paths, "unique in legacy only" if index.unique else "covered", index.name, longer.name, notes
    )


def _prisma_only(index: PrismaIndex, legacy: Sequence[LegacyIndex], column_of: ColumnOf) -> IndexPair:
    length = len(index.columns)
    longer = next(
        (one for one in legacy if tuple(column_of(path) for path in one.paths)[:length] == index.columns), None
    )
    notes = ("partial: only for some rows",) if index.partial else ()
    fields = tuple(column or "(an expression)" for column in index.columns)
    if longer is not None and not index.unique:
        return IndexPair(fields, "covered", longer.name, index.name, notes)
    return IndexPair(fields, "unique in prisma only" if index.unique else "prisma only", None, index.name, notes)


def _notes(index: LegacyIndex, columns: Sequence[str | None]) -> list[str]:
    notes = [f"no field is mapped to {path}" for path, column in zip(index.paths, columns, strict=True) if not column]
    kinds = {kind for _, kind in index.keys if isinstance(kind, str)}
    if index.ttl is not None:
        notes.append(f"MongoDB deletes documents {index.ttl:,.0f} s after that time: nothing does on the other side")
    if "text" in kinds:
        notes.append("a text index: searches with $text need a full-text index of PostgreSQL")
    notes += [f"a {kind} index" for kind in sorted(kinds - {"text"})]
    if any("$**" in path for path in index.paths):
        notes.append("a wildcard index")
    if index.partial:
        notes.append("partial: documents that are not in it are not kept unique" if index.unique else "partial")
    if index.unique and index.sparse:
        notes.append("sparse: documents without the field may be many, as rows with null may")
    if index.collation is not None:
        notes.append(f"collation {index.collation}: its strings sort, and may be equal, as PostgreSQL's are not")
    if index.hidden:
        notes.append("hidden: no query uses it")
    return notes


def long_entries(indexes: Sequence[PrismaIndex], source: Source, profile: Profile) -> list[str]:
    """Texts that may be too long for the B-trees that they would be in."""
    notes: list[str] = []
    indexed = {column for index in indexes if index.method == "btree" for column in index.columns}
    for field in source.model.stored():
        path = source.path(field.name) if field.column in indexed else None
        node = profile.at(path) if path and field.type == "String" else None
        longest = node.lengths.high if node else None
        if longest is not None and longest > ENTRY:
            notes.append(f"{path}: up to {longest} characters, in an index whose entries hold {ENTRY} bytes")
    return notes
