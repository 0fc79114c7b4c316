"""What to write so that the documents of several collections, once merged, are what they should be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bson import ObjectId
from pymongo import DeleteOne, InsertOne, UpdateOne

from adapters.documents.merging import Merging, Source
from adapters.mongo.collection import Raw, operators
from adapters.mongo.groups import Group, Member
from adapters.mongo.plans import Plan, Write
from adapters.side import Conflict, Document, Invalid, Key, SideError


def planned(
    entity: str,
    merging: Merging,
    groups: Sequence[Group],
    documents: Mapping[Key, Document | None],
    refused: Mapping[Key, SideError],
) -> Plan:
    """`groups`: the records that hold one of these keys, or a natural key that one of them is to have."""
    planning = _Planning(merging, groups, documents, dict(refused))
    for key, document in documents.items():
        if document is not None:
            planning.put(key, document)
    for key, document in documents.items():
        if document is None:
            planning.delete(key)
    return planning.plan(entity)


@dataclass(slots=True)
class _Writes:
    """Of one collection. What is deleted goes first: its unique values are free then."""

    deletes: list[Write] = field(default_factory=list)
    updates: list[Write] = field(default_factory=list)
    inserts: list[Write] = field(default_factory=list)

    @property
    def every(self) -> list[Write]:
        return [*self.deletes, *self.updates, *self.inserts]


@dataclass(slots=True)
class _Claim:
    """Documents that become the record's, by collection; collections that it has to be inserted into, under which `_id`; and
    documents that have to go. `leads`: the place, in the order of the sources, of the one whose `_id` is the key."""

    taken: dict[str, Member]
    missing: dict[str, tuple[Source, Key]]
    leads: int
    dropped: list[Member] = field(default_factory=list)

    @property
    def raws(self) -> dict[str, Raw]:
        return {name: member.raw for name, member in self.taken.items()}


class _Planning:
    def __init__(
        self,
        merging: Merging,
        groups: Sequence[Group],
        documents: Mapping[Key, Document | None],
        refused: dict[Key, SideError],
    ) -> None:
        self._merging = merging
        self._groups = groups
        self._by_natural = {group.natural: group for group in groups if group.natural is not None}
        self._documents = documents
        self._refused = refused
        self._kept: set[tuple[str, Any]] = set()
        self._writes: defaultdict[str, _Writes] = defaultdict(_Writes)
        self._fences: set[Key] = set()

    def plan(self, entity: str) -> Plan:
        writes = {name: writes.every for name, writes in self._writes.items()}
        fences = frozenset((entity, key) for key in self._fences - self._documents.keys())
        return Plan(writes, self._refused, fences, in_order=True)

    def put(self, key: Key, document: Document) -> None:
        """Change the documents of the record where it differs; insert one where it has none, or no place for a value."""
        try:
            claim = self._claim(key, document)
            changed = self._merging.differing(claim.raws, document)
            self._house(claim, document, changed)
            updates = [(one, self._update(one, document, changed)) for one in claim.taken.values()]
            inserts = [(source, self._new(source, id, document)) for source, id in claim.missing.values()]
        except (Invalid, Conflict) as error:
            self._refused[key] = error
            return
        self._kept |= {member.place for member in claim.taken.values()}
        for member in claim.dropped:
            self._delete(member)
        for member, update in updates:
            if update:
                self._of(member.source).updates.append(UpdateOne({"_id": member.raw["_id"]}, update))
                self._fences.add(member.key)
        for source, raw in inserts:
            self._of(source).inserts.append(InsertOne(raw))
            self._fences.add(source.key(raw))

    def delete(self, key: Key) -> None:
        """Delete all the documents of the record, but those that another one has just taken. An `_id` that is only one of
        another record's is no record."""
        for group in self._groups:
            for member in group.members if group.key == key else ():
                self._delete(member)

    def _delete(self, member: Member) -> None:
        if member.place not in self._kept:
            self._kept.add(member.place)
            self._of(member.source).deletes.append(DeleteOne({"_id": member.raw["_id"]}))
            self._fences.add(member.key)

    def _claim(self, key: Key, document: Document) -> _Claim:
        """Which documents are the record's from now on. Raises Conflict where another record has its natural key."""
        sources = self._merging.sources
        own = self._own(key)
        leads = next((at for at, source in enumerate(sources) if source.name in own), 0)
        claim = _Claim(dict(own), {} if own else {sources[0].name: (sources[0], key)}, leads)
        for at, source in enumerate(sources):
            others = self._others(key, document, source, own)
            if others and source.name not in own and at > leads:
                claim.taken[source.name] = others.pop(0)
            for other in others:
                # A document before the leading one would give the record its own `_id` for a key.
                if other.key not in self._documents:
                    raise Conflict([self._merging.by])
                claim.dropped.append(other)
                if source.name not in claim.taken:
                    claim.missing[source.name] = (source, key)
        return claim

    def _own(self, key: Key) -> dict[str, Member]:
        """The documents that have the key itself, or belong to it now: by collection."""
        own: dict[str, Member] = {}
        for group in self._groups:
            for member in group.members:
                if member.key == key or (group.key == key and member.source.name not in own):
                    own[member.source.name] = member
        return own

    def _others(self, key: Key, document: Document, source: Source, own: Mapping[str, Member]) -> list[Member]:
        """The other documents there that have the natural key now, and belong to no record of this settle."""
        group = self._by_natural.get(document[self._merging.by])
        if group is None or (group.key != key and self._documents.get(group.key)):
            return []
        return [one for one in group.of(source) if one is not own.get(source.name) and not self._documents.get(one.key)]

    def _house(self, claim: _Claim, document: Document, changed: Iterable[str]) -> None:
        """See to it that each changed value has a place in one of the collections."""
        for name in changed:
            holding = [source for source in self._merging.sources if source.mapper.holds(name)]
            housed = claim.taken.keys() | claim.missing.keys()
            if document.get(name) not in (None, []) and not any(source.name in housed for source in holding):
                leads = self._merging.sources.index(holding[0]) < claim.leads
                claim.missing[holding[0].name] = (holding[0], document[self._merging.mapper.id] if leads else _new_id())

    def _update(self, member: Member, document: Document, changed: frozenset[str]) -> Raw:
        only = {*changed, self._merging.by}
        return operators(*member.source.mapper.legacy_changes(member.raw, document, only))

    def _new(self, source: Source, id: Key, document: Document) -> Raw:
        return source.mapper.to_legacy({**document, self._merging.mapper.id: id})

    def _of(self, source: Source) -> _Writes:
        return self._writes[source.name]


def _new_id() -> Key:
    return str(ObjectId())
