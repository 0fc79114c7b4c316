"""The documents of several collections, sorted into records: those with one natural key are one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from motor.motor_asyncio import AsyncIOMotorClientSession, AsyncIOMotorCollection, AsyncIOMotorDatabase
from pymongo.read_concern import ReadConcern

from adapters.documents.merging import Source
from adapters.mongo.collection import Raw, key_or_text
from adapters.side import Invalid, Key

_MAJORITY: Final = ReadConcern("majority")


@dataclass(frozen=True, slots=True)
class Member:
    """A document, the collection that it is in, and its own `_id` as a key."""

    source: Source
    raw: Raw
    key: Key

    @property
    def place(self) -> tuple[str, Any]:
        return self.source.name, self.raw["_id"]


@dataclass(slots=True)
class Group:
    """The documents of one record, in the order of the sources. `trouble`: why they cannot be one."""

    natural: str | None
    members: list[Member] = field(default_factory=list)
    trouble: Invalid | None = None

    @property
    def key(self) -> Key:
        """The record's key: that of the first source which has it."""
        return self.members[0].key

    @property
    def raws(self) -> dict[str, Raw]:
        """By collection; of several documents in one the first."""
        return {member.source.name: member.raw for member in reversed(self.members)}

    @property
    def is_shared(self) -> bool:
        return len(self.raws) > 1

    def of(self, source: Source) -> list[Member]:
        return [member for member in self.members if member.source is source]


class Documents:
    """What is asked of the collections of one entity. The caller brings the deadline."""

    def __init__(self, database: AsyncIOMotorDatabase[Raw], sources: Sequence[Source]) -> None:
        self._sources = sources
        self._rows: dict[str, AsyncIOMotorCollection[Raw]] = {one.name: database[one.name] for one in sources}

    async def groups(
        self,
        keys: Iterable[Key],
        naturals: Iterable[str] = (),
        *,
        session: AsyncIOMotorClientSession | None = None,
        majority: bool = False,
        of: Source | None = None,
        whole: bool = True,
    ) -> list[Group]:
        """The whole record of every document that has one of these `_id`s (in the source `of`, or in any) or natural keys.

        With `majority` it is what a majority has. Without `whole` only ids and natural keys are read.
        """
        wanted = list(keys)
        by_id = [
            (one, {"_id": {"$in": ids}}) for one in self._sources if of in (None, one) and (ids := _ids(one, wanted))
        ]
        found = await self._found(by_id, session, majority, whole)
        known = set(naturals).union(*map(_natural, found))
        by_natural = [(one, {one.path: {"$in": values}}) for one in self._sources if (values := _values(one, known))]
        found += await self._found(by_natural, session, majority, whole)
        return _grouped(self._sources, {member.place: member for member in found}.values())

    async def _found(
        self,
        asked: Sequence[tuple[Source, Raw]],
        session: AsyncIOMotorClientSession | None,
        majority: bool,
        whole: bool,
    ) -> list[Member]:
        """What answers each of these questions: asked all at once, unless a session has to have them in turn."""
        if session is None:
            found = await asyncio.gather(*(self._find(one, where, None, majority, whole) for one, where in asked))
        else:
            found = [await self._find(one, where, session, majority, whole) for one, where in asked]
        return [member for members in found for member in members]

    async def unindexed(self) -> list[Source]:
        """The sources in which no index begins with the natural key."""
        found = []
        for source in self._sources:
            indexes = await self._rows[source.name].index_information()
            # A collection without any is not there.
            if indexes and not any(index["key"][0][0] == source.path for index in indexes.values()):
                found.append(source)
        return found

    async def _find(
        self,
        source: Source,
        where: Raw,
        session: AsyncIOMotorClientSession | None,
        majority: bool,
        whole: bool,
    ) -> list[Member]:
        rows = self._rows[source.name]
        if majority:
            rows = rows.with_options(read_concern=_MAJORITY)
        found = rows.find(where, None if whole else {source.path: 1}, session=session)
        return [Member(source, raw, key_or_text(source.mapper, raw)) async for raw in found]


def _ids(source: Source, keys: Iterable[Key]) -> list[Any]:
    ids = []
    for key in keys:
        try:
            ids.append(source.mapper.legacy_key(key))
        except Invalid:
            continue  # a key that this collection cannot have
    return ids


def _values(source: Source, naturals: Iterable[str]) -> list[Any]:
    values = []
    for natural in naturals:
        try:
            values.append(source.stored(natural))
        except Invalid:
            continue  # a natural key that this collection cannot have
    return values


def _natural(member: Member) -> set[str]:
    try:
        natural = member.source.natural(member.raw)
    except Invalid:
        return set()
    return set() if natural is None else {natural}


def _grouped(sources: Sequence[Source], members: Iterable[Member]) -> list[Group]:
    order = {source.name: at for at, source in enumerate(sources)}
    shared: dict[str, Group] = {}
    groups: list[Group] = []
    for member in sorted(members, key=lambda member: (order[member.source.name], member.key)):
        try:
            natural, trouble = member.source.natural(member.raw), None
        except Invalid as error:
            natural, trouble = None, error
        if natural is None:
            groups.append(Group(None, [member], trouble))
        else:
            shared.setdefault(natural, Group(natural)).members.append(member)
    groups += shared.values()
    _find_trouble(groups)
    return groups


def _find_trouble(groups: Sequence[Group]) -> None:
    owners: dict[Key, Group] = {}
    for group in groups:
        for source in {member.source.name: member.source for member in group.members}.values():
            if len(group.of(source)) > 1:
                reason = f"{len(group.of(source))} documents have the same; expected one"
                group.trouble = Invalid(f"{source.name}.{source.path}", reason)
        for member in group.members:
            try:
                member.source.key(member.raw)
            except Invalid as error:
                group.trouble = Invalid(f"{member.source.name}.{error.field}", error.reason)
            other = owners.setdefault(member.key, group)
            if other is not group:
                reason = f"this _id is in several collections, of documents that differ in {member.source.by}"
                other.trouble = group.trouble = Invalid(member.source.mapper.id, reason)


def by_member(groups: Iterable[Group]) -> Mapping[Key, Group]:
    """Each group by every `_id` in it."""
    return {member.key: group for group in groups for member in group.members}
