"""What settling, scans and the change stream ask of an entity's documents, however many collections they lie in:
`OneCollection`, or `Sources`; `Referring` wraps the former."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from motor.motor_asyncio import AsyncIOMotorClientSession, AsyncIOMotorDatabase

from adapters.documents.mapping import Mapper
from adapters.mongo.collection import Collection, Raw
from adapters.mongo.one_collection import OneCollection
from adapters.mongo.outbox import Outbox
from adapters.mongo.plans import Plan, Read
from adapters.mongo.references import Referring
from adapters.mongo.sources import Sources
from adapters.side import Document, Key, Range


class Rows(Protocol):
    """The documents of one entity."""

    @property
    def places(self) -> Mapping[str, Mapper]:
        """By the name of each collection, how its `_id`s are written."""
        ...

    def field_of(self, path: str) -> str:
        """The field that a path holds; the path itself where none does."""
        ...

    async def read(self, keys: Sequence[Key], session: AsyncIOMotorClientSession) -> Read:
        """What a majority has, no older than what the session has seen."""
        ...

    async def plan(self, documents: Mapping[Key, Document | None], session: AsyncIOMotorClientSession) -> Plan:
        """What to write in the session's transaction, according to what it sees."""
        ...

    async def together(self, keys: Sequence[Key]) -> Mapping[Key, Key]:
        """As `Store.together` says."""
        ...

    # What follows is as `Store` says.

    def keys(self, *, batch: int) -> AsyncIterator[list[Key]]: ...

    async def range(self, after: str | None, *, most: int, size: int | None) -> Range | None: ...

    async def same(self, documents: Mapping[Key, Document]) -> frozenset[Key]: ...

    async def present(self, keys: Sequence[Key]) -> frozenset[Key]: ...

    def changed_since(self, at: datetime, *, batch: int) -> AsyncIterator[list[Key]]: ...

    async def count(self) -> int: ...


def rows_of(
    database: AsyncIOMotorDatabase[Raw], collections: Mapping[str, Collection], outbox: Outbox, deadline: float
) -> dict[str, Rows]:
    """By entity. `deadline`, in seconds, is that of one question outside of a session."""
    sources = {
        name: Sources(database, name, collection.merging, deadline)
        for name, collection in collections.items()
        if collection.merging
    }
    alone = {
        name: OneCollection(database, collection, deadline)
        for name, collection in collections.items()
        if name not in sources
    }
    referring = {
        name: Referring(name, alone[name], sources, refers, outbox, deadline)
        for name in alone
        if (refers := collections[name].refers)
    }
    return {**sources, **alone, **referring}
