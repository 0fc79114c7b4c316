"""An entity whose documents lie in one collection, each of them a record under its own `_id`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from bson.errors import InvalidBSON
from motor.motor_asyncio import AsyncIOMotorClientSession, AsyncIOMotorCollection, AsyncIOMotorDatabase
from pymongo import DeleteOne, InsertOne, UpdateOne
from pymongo.read_concern import ReadConcern

from adapters.documents.mapping import Mapper
from adapters.mongo import scans
from adapters.mongo.calls import as_side_error, within
from adapters.mongo.collection import Collection, Raw, operators, read_each
from adapters.mongo.plans import Plan, Read, Write
from adapters.mongo.present import present
from adapters.mongo.same import same
from adapters.side import Document, Invalid, Key, Range, SideError

_MAJORITY: Final = ReadConcern("majority")


class OneCollection:
    """As `Rows` says. `deadline`, in seconds, is that of one question outside of a session."""

    def __init__(self, database: AsyncIOMotorDatabase[Raw], collection: Collection, deadline: float) -> None:
        self._name = collection.name
        self.mapper = collection.mapper
        self.collection: AsyncIOMotorCollection[Raw] = database[collection.name]
        self._settled = self.collection.with_options(read_concern=_MAJORITY)
        self._deadline = deadline

    @property
    def places(self) -> Mapping[str, Mapper]:
        return {self._name: self.mapper}

    def field_of(self, path: str) -> str:
        return self.mapper.field_of(path)

    async def read(self, keys: Sequence[Key], session: AsyncIOMotorClientSession) -> Read:
        wanted, refused = legacy_keys(self.mapper, keys)
        raws, corrupt = await self._found(wanted, session)
        documents, unmappable = read_each(self.mapper, raws)
        return Read(documents, {**refused, **corrupt, **unmappable})

    async def plan(self, documents: Mapping[Key, Document | None], session: AsyncIOMotorClientSession) -> Plan:
        wanted, refused = legacy_keys(self.mapper, documents)
        found = self.collection.find({"_id": {"$in": list(wanted.values())}}, session=session)
        there = {self.mapper.key_of(raw): raw async for raw in found}
        writes: list[Write] = []
        for key in wanted:
            try:
                writes.extend(_writes(self.mapper, there.get(key), documents[key]))
            except Invalid as error:
                refused[key] = error
        return Plan({self._name: writes}, refused)

    async def together(self, keys: Sequence[Key]) -> Mapping[Key, Key]:
        return {}

    def keys(self, *, batch: int) -> AsyncIterator[list[Key]]:
        return scans.keys(self.collection, self.mapper, batch=batch, deadline=self._deadline)

    async def range(self, after: str | None, *, most: int, size: int | None) -> Range | None:
        return await scans.range_after(
            self.collection, self.mapper, after, most=most, size=size, deadline=self._deadline
        )

    async def same(self, documents: Mapping[Key, Document]) -> frozenset[Key]:
        return await same(self.collection, self.mapper, documents, deadline=self._deadline)

    async def present(self, keys: Sequence[Key]) -> frozenset[Key]:
        return await present(self.collection, self.mapper, keys, deadline=self._deadline)

    def changed_since(self, at: datetime, *, batch: int) -> AsyncIterator[list[Key]]:
        return scans.changed_since(self.collection, self.mapper, at, batch=batch, deadline=self._deadline)

    async def count(self) -> int:
        async with within(self._deadline):
            return int(await self.collection.count_documents({}))

    async def _found(
        self, wanted: Mapping[Key, object], session: AsyncIOMotorClientSession
    ) -> tuple[list[Raw], dict[Key, SideError]]:
        """The documents, and those that are no valid BSON (old drivers wrote such strings): one spoils its whole batch."""
        ids = list(wanted.values())
        try:
            found = self._settled.find({"_id": {"$in": ids}}, session=session, batch_size=len(ids) + 1)
            return await found.to_list(None), {}
        except InvalidBSON as error:
            if len(wanted) == 1:
                return [], dict.fromkeys(wanted, as_side_error(error))
        raws: list[Raw] = []
        corrupt: dict[Key, SideError] = {}
        for key, id in wanted.items():
            one, bad = await self._found({key: id}, session)
            raws += one
            corrupt |= bad
        return raws, corrupt


def legacy_keys(mapper: Mapper, keys: Iterable[Key]) -> tuple[dict[Key, object], dict[Key, SideError]]:
    """The BSON value of each key, and those that have none with the reason."""
    legacy: dict[Key, object] = {}
    refused: dict[Key, SideError] = {}
    for key in keys:
        try:
            legacy[key] = mapper.legacy_key(key)
        except Invalid as error:
            refused[key] = error
    return legacy, refused


def _writes(mapper: Mapper, raw: Raw | None, document: Document | None) -> list[Write]:
    """What makes the present document what it should be: nothing where it is. Raises Invalid."""
    if document is None:
        return [DeleteOne({"_id": raw["_id"]})] if raw else []
    if raw is None:
        return [InsertOne(mapper.to_legacy(document))]
    update = operators(*mapper.legacy_changes(raw, document))
    return [UpdateOne({"_id": raw["_id"]}, update)] if update else []
