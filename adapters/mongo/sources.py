"""An entity whose documents lie in several collections and are one record where they have the same natural key: what that
means is said in `config.check_sources`. Each key is read and written together with all the documents of its record."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

import structlog
from motor.motor_asyncio import AsyncIOMotorClientSession, AsyncIOMotorDatabase

from adapters.documents.mapping import Mapper
from adapters.documents.merging import Merging, Source
from adapters.mongo.aliases import Alias, Aliases, Place
from adapters.mongo.calls import within
from adapters.mongo.collection import Raw
from adapters.mongo.groups import Documents, Group, by_member
from adapters.mongo.plans import Plan, Read
from adapters.mongo.referrers import Referrers
from adapters.mongo.source_plan import planned
from adapters.mongo.source_scans import SourceScans
from adapters.side import Document, Invalid, Key, Range, SideError

_ADVICE: Final = "documents are found by it with every settle: make a unique index"

log = structlog.get_logger()


class Sources:
    """As `Rows` says. `deadline`, in seconds, is that of one question outside of a session."""

    def __init__(self, database: AsyncIOMotorDatabase[Raw], entity: str, merging: Merging, deadline: float) -> None:
        self.entity = entity
        self.merging = merging
        self.documents = Documents(database, merging.sources)
        self._aliases = Aliases(database, entity)
        self._scans = SourceScans(database, merging.sources, self.documents, deadline)
        self._deadline = deadline
        self.referring: list[Referrers] = []
        """What refers to one of the collections, other than the first."""

    @property
    def places(self) -> Mapping[str, Mapper]:
        return {source.name: source.mapper for source in self.merging.sources}

    def field_of(self, path: str) -> str:
        fields = (source.mapper.field_of(path) for source in self.merging.sources)
        return next((field for field in fields if field != path), path)

    async def prepare(self) -> None:
        """Make what is kept beside the collections, and say what every settle would have to search a collection for."""
        await self._aliases.create_indexes()
        for source in await self.documents.unindexed():
            log.warning("no_index", entity=self.entity, collection=source.name, path=source.path, advice=_ADVICE)

    # Settling

    async def together(self, keys: Sequence[Key]) -> Mapping[Key, Key]:
        """Every `_id` of the records that these keys belong to, or did while they were last copied: with the key that it
        belongs to."""
        async with within(self._deadline):
            remembered = await self._remembered(keys)
            groups = await self.documents.groups(keys, _naturals(remembered), whole=False)
        owners = {natural: str(id) for (_, id), alias in remembered.items() for natural in alias.naturals}
        asked = set(keys)
        beside: dict[Key, Key] = {}
        for group in groups:
            of = next((one.key for one in group.members if one.key in asked), owners.get(group.natural or ""))
            beside |= {member.key: of for member in group.members if of and member.key not in asked}
        return beside

    async def read(self, keys: Sequence[Key], session: AsyncIOMotorClientSession) -> Read:
        """Reads until what it read is remembered: of a document that is deleted after that, its `_id` tells the rest."""
        asked, refused = self._valid(keys)
        while True:
            remembered = await self._remembered(asked)
            groups = await self.documents.groups(asked, _naturals(remembered), session=session, majority=True)
            if not await self._remember(asked, groups, remembered):
                break
        documents: dict[Key, Document] = {}
        for group in groups:
            try:
                if group.trouble:
                    raise group.trouble
                if group.key in asked:
                    documents[group.key] = self.merging.merge(group.raws, group.key)
            except Invalid as error:
                refused |= {member.key: error for member in group.members if member.key in asked}
        return Read(documents, refused)

    async def plan(self, documents: Mapping[Key, Document | None], session: AsyncIOMotorClientSession) -> Plan:
        asked, refused = self._valid(documents)
        naturals = [natural for one in documents.values() if one and (natural := one[self.merging.by])]
        groups = await self.documents.groups(asked, naturals, session=session)
        return planned(self.entity, self.merging, groups, {key: documents[key] for key in asked}, refused)

    # Scans

    def keys(self, *, batch: int) -> AsyncIterator[list[Key]]:
        return self._scans.keys(batch=batch)

    async def range(self, after: str | None, *, most: int, size: int | None) -> Range | None:
        return await self._scans.range(after, most=most, size=size)

    def changed_since(self, at: datetime, *, batch: int) -> AsyncIterator[list[Key]]:
        return self._scans.changed_since(at, batch=batch)

    async def count(self) -> int:
        return await self._scans.count()

    async def same(self, documents: Mapping[Key, Document]) -> frozenset[Key]:
        async with within(self._deadline):
            groups = await self.documents.groups(documents)
        return frozenset(
            group.key
            for group in groups
            if not group.trouble
            and group.key in documents
            and not self.merging.differing(group.raws, documents[group.key])
        )

    async def present(self, keys: Sequence[Key]) -> frozenset[Key]:
        async with within(self._deadline):
            groups = await self.documents.groups(keys, whole=False)
        return frozenset(group.key for group in groups) & frozenset(keys)

    def _valid(self, keys: Iterable[Key]) -> tuple[set[Key], dict[Key, SideError]]:
        """The keys that some of the collections can have, and the others with the reason."""
        valid: set[Key] = set()
        refused: dict[Key, SideError] = {}
        for key in keys:
            try:
                self.merging.mapper.legacy_key(key)
                valid.add(key)
            except Invalid as error:
                refused[key] = error
        return valid, refused

    async def _remembered(self, keys: Iterable[Key]) -> dict[Place, Alias]:
        return await self._aliases.of(self._places(keys))

    def _places(self, keys: Iterable[Key]) -> Iterable[Place]:
        valid, _ = self._valid(keys)
        return [(one.name, one.mapper.legacy_key(key)) for one in self.merging.sources for key in valid]

    async def _remember(
        self, asked: Collection[Key], groups: Sequence[Group], remembered: Mapping[Place, Alias]
    ) -> bool:
        """Remember the documents that share a record, or did. True: some of it is news, and they may have been deleted
        meanwhile."""
        there = {one.place: (one, group) for group in groups for one in group.members}
        if gone := [place for place, alias in remembered.items() if place not in there and not alias.gone]:
            await self._aliases.forget(gone)
        others = [place for place, (one, group) in there.items() if group.is_shared and one.key not in asked]
        known = {**remembered, **await self._aliases.of(others)}
        fresh = {
            place: group.natural
            for place, (_, group) in there.items()
            if group.natural is not None
            and (known[place].is_news(group.natural) if place in known else group.is_shared)
        }
        if fresh.keys() & known.keys():
            # A document has left a record for another one: what refers to either may belong to the other now.
            for refer in self.referring:
                await refer.mark([one.raw["_id"] for one, _ in there.values() if one.source is refer.source])
        await self._aliases.remember(fresh)
        return bool(fresh)

    # References

    async def keys_of(
        self, ids: Iterable[Key], source: Source, session: AsyncIOMotorClientSession
    ) -> Mapping[Key, Key]:
        """The records' keys, by these `_id`s of one of the collections; those that are not there are left out."""
        asked = set(ids)
        groups = await self.documents.groups(asked, session=session, majority=True, of=source, whole=False)
        return {one.key: group.key for group in groups for one in group.of(source) if one.key in asked}

    async def groups_of(self, keys: Iterable[Key], session: AsyncIOMotorClientSession | None) -> Mapping[Key, Group]:
        """The records with these keys; those that are not there are left out."""
        asked = set(keys)
        groups = by_member(await self.documents.groups(asked, session=session))
        return {key: groups[key] for key in asked if key in groups and groups[key].key == key}


def _naturals(remembered: Mapping[Place, Alias]) -> set[str]:
    return {natural for alias in remembered.values() for natural in alias.naturals}
