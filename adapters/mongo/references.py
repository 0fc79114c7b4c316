"""References to an entity with several sources: a field that holds the `_id` of one of its collections, translated to the
record's key on the way to Prisma, and back on the way to Mongo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorClientSession
from pymongo import InsertOne

from adapters.documents.mapping import Mapper
from adapters.documents.merging import Source
from adapters.mongo.calls import within
from adapters.mongo.collection import Refers
from adapters.mongo.groups import Group
from adapters.mongo.one_collection import OneCollection
from adapters.mongo.outbox import Outbox
from adapters.mongo.plans import Plan, Read, Write
from adapters.mongo.referrers import Referrers
from adapters.mongo.sources import Sources
from adapters.side import Document, Key, Orphan, SideError


@dataclass(frozen=True, slots=True)
class _Reference:
    field: str
    parent: Sources
    source: Source


class Referring:
    """As `Rows` says: the documents of `rows`, with their references translated."""

    def __init__(
        self,
        entity: str,
        rows: OneCollection,
        parents: Mapping[str, Sources],
        refers: Sequence[Refers],
        outbox: Outbox,
        deadline: float,
    ) -> None:
        self._rows = rows
        self._deadline = deadline
        self._references = [
            _Reference(one.field, parents[one.entity], parents[one.entity].merging.source(one.collection))
            for one in refers
        ]
        for one in self._references:
            one.parent.referring.append(
                Referrers(entity, rows.collection, rows.mapper, rows.mapper.path_of(one.field), one.source, outbox)
            )
        self.keys = rows.keys
        self.range = rows.range
        self.present = rows.present
        self.changed_since = rows.changed_since
        self.count = rows.count
        self.together = rows.together
        self.field_of = rows.field_of

    @property
    def places(self) -> Mapping[str, Mapper]:
        return self._rows.places

    async def read(self, keys: Sequence[Key], session: AsyncIOMotorClientSession) -> Read:
        found = await self._rows.read(keys, session)
        documents = dict(found.documents)
        for one in self._references:
            ids = {document[one.field] for document in documents.values()} - {None}
            known = await one.parent.keys_of(ids, one.source, session) if ids else {}
            # What refers to nothing stays as it is: the other side says that it is an orphan.
            documents |= {
                key: {**document, one.field: known[document[one.field]]}
                for key, document in documents.items()
                if document[one.field] in known
            }
        return replace(found, documents=documents)

    async def plan(self, documents: Mapping[Key, Document | None], session: AsyncIOMotorClientSession) -> Plan:
        """A document that is referred to in a collection which does not have it yet is inserted there."""
        made = _Made()
        translated = await self._translated(documents, session, made)
        plan = await self._rows.plan(translated, session)
        refused = {**made.refused, **plan.refused}
        return Plan({**made.writes, **plan.writes}, refused, plan.fences | made.fences, plan.in_order)

    async def same(self, documents: Mapping[Key, Document]) -> frozenset[Key]:
        made = _Made()
        async with within(self._deadline):
            translated = await self._translated(documents, None, made)
        there = {key: document for key, document in translated.items() if document and key not in made.dependent}
        return await self._rows.same(there)

    async def _translated(
        self, documents: Mapping[Key, Document | None], session: AsyncIOMotorClientSession | None, made: _Made
    ) -> dict[Key, Document | None]:
        """The documents that can be, with the `_id`s that the collections have."""
        translated = dict(documents)
        for one in self._references:
            wanted = {document[one.field] for document in documents.values() if document} - {None}
            groups = await one.parent.groups_of(wanted, session) if wanted else {}
            ids = {key: made.id(one, key, group) for key, group in groups.items()}
            for key, document in list(translated.items()):
                if document is None or document[one.field] is None:
                    continue
                parent = document[one.field]
                if parent in ids:
                    translated[key] = {**document, one.field: ids[parent]}
                    made.depends(key, ids[parent])
                else:
                    del translated[key]
                    made.refused[key] = Orphan(one.field)
        return translated


class _Made:
    """Documents that have to be inserted, because something refers to them in a collection that does not have them."""

    def __init__(self) -> None:
        self.writes: dict[str, list[Write]] = {}
        self.fences: set[tuple[str, Key]] = set()
        self.refused: dict[Key, SideError] = {}
        self.dependent: set[Key] = set()
        self._new: set[Key] = set()

    def id(self, reference: _Reference, key: Key, group: Group) -> Key:
        """The `_id` of the record in the collection that the field refers to. Raises Invalid."""
        if members := group.of(reference.source):
            return members[0].key
        merging = reference.parent.merging
        id = str(ObjectId())
        raw = reference.source.mapper.to_legacy({**merging.merge(group.raws, key), merging.mapper.id: id})
        self.writes.setdefault(reference.source.name, []).append(InsertOne(raw))
        self.fences.add((reference.parent.entity, id))
        self._new.add(id)
        return id

    def depends(self, key: Key, id: Key) -> None:
        if id in self._new:
            self.dependent.add(key)
