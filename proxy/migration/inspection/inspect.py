"""Inspecting: each collection is sampled or walked once, and asked what a walk does not tell. Nothing is written."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from adapters.mongo.catalogue import Listed, indexes, listed, size
from adapters.mongo.collection import key_or_text
from adapters.mongo.reading import Reading
from adapters.mongo.samples import Bytes, decoded, id_of, sample, scan
from adapters.prisma.indexes import PrismaIndex
from adapters.side import Document, Invalid, Key, SideError
from config.model import Config
from config.schema import Schema
from proxy.migration.inspection.index_pairs import index_pairs, long_entries
from proxy.migration.inspection.inspection import Inspected, Inspection, Other, Proposed
from proxy.migration.inspection.overlaps import Neighbour, overlaps
from proxy.migration.inspection.proposal import Proposal, propose
from proxy.migration.inspection.proposed_relations import guesses
from proxy.migration.inspection.proposed_sources import further_source
from proxy.migration.inspection.proposed_text import config_text, model_text
from proxy.migration.inspection.questions import Questions
from proxy.migration.inspection.references import references
from proxy.migration.inspection.refusals import Fault, Judge
from proxy.migration.inspection.sources import Source, every_source, sources
from proxy.migration.inspection.uniques import unique_texts, uniques

Told = Callable[[str, int, int], None]
"""Is told how far a collection has been read: its name, the documents read, and how many there are to read, about."""

TableIndexes = Callable[[str], Awaitable[list[PrismaIndex] | None]]
"""The indexes of a table; None: there is no such table. Raises SideError."""


class NothingSuch(Exception):
    """What was asked for is neither an entity nor a collection."""


@dataclass(frozen=True, slots=True)
class Inspector:
    """`wanted`: about how many documents of a collection are looked at; None: all of them."""

    config: Config
    schema: Schema
    reading: Reading
    table_indexes: TableIndexes
    wanted: int | None
    told: Told

    async def inspect(self, names: list[str]) -> Inspected:
        """These entities and collections; without any, all entities. Raises NothingSuch, and Unavailable where the database
        does not even say what is in it."""
        found = Inspected()
        named = {one.collection: one for one in every_source(self.config, self.schema)}
        neighbours = await self._neighbours(named, found.questions)
        self._check(names, named, neighbours)
        for name in dict.fromkeys(names or self.config.entities):
            if name in self.config.entities:
                for source in sources(name, self.config, self.schema):
                    found.collections.append(await self._source(source, neighbours))
            elif name in named:
                found.collections.append(await self._source(named[name], neighbours))
            else:
                found.collections.append(await self._collection(name, named, neighbours))
        if not names:
            found.others = [Other(its.listed, its.size) for name, its in neighbours.items() if name not in named]
        return found

    def _check(self, names: list[str], named: Mapping[str, Source], neighbours: Mapping[str, Neighbour]) -> None:
        known = dict.fromkeys([*self.config.entities, *named, *neighbours])
        for name in names:
            if name not in known:
                raise NothingSuch(f"unknown entity or collection {name}; expected one of {', '.join(known)}")

    async def _neighbours(self, named: Mapping[str, Source], questions: Questions) -> dict[str, Neighbour]:
        found: dict[str, Neighbour] = {}
        for one in await listed(self.reading):
            count = await questions.ask(f"the size of {one.name}", size(self.reading, one.name))
            its = await questions.ask(f"the indexes of {one.name}", indexes(self.reading, one))
            texts = unique_texts(named[one.name]) if one.name in named else frozenset[str]()
            found[one.name] = Neighbour(one, count, tuple(its or ()), texts)
        return found

    async def _source(self, source: Source, neighbours: Mapping[str, Neighbour]) -> Inspection:
        here = neighbours.get(source.collection)
        if here is None:
            missing = Inspection(Listed(source.collection), source.name, source.model.name)
            missing.questions.failed(f"collection {source.collection}", SideError("there is none of that name"))
            return missing
        found = Inspection(here.listed, source.name, source.model.name, here.size or 0)
        found.references = references(source, self.config, self.schema, found.questions)
        await self._read(found, Judge(source.entity, source.model, self.schema))
        found.uniques = await uniques(self.reading, source, here.indexes, found.questions)
        found.notes += source.wants(found.profile, here.indexes)
        await self._indexes(found, source, here)
        found.overlaps = await overlaps(self.reading, here, found.profile, neighbours, found.questions)
        return found

    async def _indexes(self, found: Inspection, source: Source, here: Neighbour) -> None:
        table = source.model.table
        what = f"the indexes of table {table}"
        try:
            theirs = await self.table_indexes(table)
        except SideError as error:
            found.questions.failed(what, error)
            return
        if theirs is None:
            found.questions.skip(what, "there is no such table yet")
            return
        found.indexes = index_pairs(here.indexes, theirs, source.column)
        found.notes += long_entries(theirs, source, found.profile)

    async def _collection(
        self, name: str, named: Mapping[str, Source], neighbours: Mapping[str, Neighbour]
    ) -> Inspection:
        """A collection without a model: what is proposed for it is tried on its documents."""
        here = neighbours[name]
        found = Inspection(here.listed, documents=here.size or 0)
        await self._read(found, None)
        proposal = propose(
            name,
            found.profile,
            here.indexes,
            models=self.schema.models,
            enums=self.schema.enums,
            entities=self.config.entities,
        )
        found.overlaps = await overlaps(self.reading, here, found.profile, neighbours, found.questions)
        if isinstance(proposal, str):
            found.proposed = Proposed(why_not=proposal)
            return found
        await self._try(found, proposal)
        models = {collection: one.model.name for collection, one in named.items()}
        remarks = await guesses(self.reading, proposal, neighbours, models, found.questions)
        instead = further_source(name, here.natural, found.overlaps, named, found.profile)
        found.proposed = Proposed(model_text(proposal, remarks), config_text(proposal) + instead)
        return found

    async def _try(self, found: Inspection, proposal: Proposal) -> None:
        schema = proposal.schema()
        judge = Judge(proposal.as_entity(), schema.models[proposal.model], schema)
        again = Inspection(found.listed, documents=found.documents, questions=found.questions)
        await self._read(again, judge)
        found.refusals = again.refusals

    async def _read(self, found: Inspection, judge: Judge | None) -> None:
        """Into the profile, past the judge and its references; as far as the store lets itself be read."""
        found.all = self.wanted is None or found.documents <= self.wanted
        parts = self._parts(found)
        try:
            async with aclosing(parts):
                async for part in parts:
                    found.read += len(part)
                    good = _looked_at(found, part, judge)
                    found.references = [
                        one
                        for one in found.references
                        if await found.questions.ask(f"references by {one.by}", one.check(self.reading, good))
                        is not None
                    ]
                    self.told(found.listed.name, found.read, found.documents if found.all else self.wanted or 0)
        except SideError as error:
            found.questions.failed(f"documents after the first {found.read}", error)

    def _parts(self, found: Inspection) -> AsyncGenerator[list[Bytes], None]:
        if found.all or self.wanted is None:
            return scan(self.reading, found.listed)
        return sample(self.reading, found.listed, self.wanted, found.documents)


def _looked_at(found: Inspection, part: list[Bytes], judge: Judge | None) -> dict[Key, Document]:
    """The documents that the model can hold, by key."""
    good: dict[Key, Document] = {}
    for stored in part:
        try:
            raw = decoded(stored)
        except Invalid as error:
            found.refusals.add(str(id_of(stored)), [Fault(error.field, error.reason)])
            continue
        found.profile.add(raw)
        if judge is None:
            continue
        document = judge.read(raw)
        if isinstance(document, list):
            found.refusals.add(key_or_text(judge.mapper, raw), document)
        else:
            good[document[judge.mapper.id]] = document
    return good
