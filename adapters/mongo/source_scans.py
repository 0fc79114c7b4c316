"""Walking the collections of one entity, one after the other, without giving a record twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import Final

import orjson
from motor.motor_asyncio import AsyncIOMotorDatabase

from adapters.documents.merging import Source
from adapters.mongo import scans
from adapters.mongo.calls import within
from adapters.mongo.collection import Raw
from adapters.mongo.groups import Documents, by_member
from adapters.side import Key, Range

_BATCH: Final = 1_000


class SourceScans:
    """`deadline`, in seconds, is that of one question."""

    def __init__(
        self, database: AsyncIOMotorDatabase[Raw], sources: Sequence[Source], documents: Documents, deadline: float
    ) -> None:
        self._rows = [database[source.name] for source in sources]
        self._sources = sources
        self._documents = documents
        self._deadline = deadline

    async def keys(self, *, batch: int) -> AsyncIterator[list[Key]]:
        """The keys of the records: those of the first collection, then what each further one has alone."""
        for at, (rows, source) in enumerate(zip(self._rows, self._sources, strict=True)):
            async for found in scans.keys(rows, source.mapper, batch=batch, deadline=self._deadline):
                if own := await self._own(at, found):
                    yield own

    async def range(self, after: str | None, *, most: int, size: int | None) -> Range | None:
        """A place is a pair: which collection, and the place there."""
        at, place = (0, None) if after is None else orjson.loads(after)
        while at < len(self._sources):
            rows, mapper = self._rows[at], self._sources[at].mapper
            found = await scans.range_after(rows, mapper, place, most=most, size=size, deadline=self._deadline)
            if found is None:
                at, place = at + 1, None
                continue
            place = found.upto
            if own := await self._own(at, found.keys):
                return Range(tuple(own), orjson.dumps([at, place]).decode())
        return None

    async def changed_since(self, at: datetime, *, batch: int) -> AsyncIterator[list[Key]]:
        """The `_id`s in every collection: a record may come more than once, each time under another one."""
        for rows, source in zip(self._rows, self._sources, strict=True):
            async for found in scans.changed_since(rows, source.mapper, at, batch=batch, deadline=self._deadline):
                yield found

    async def count(self) -> int:
        """Looks at every document of the further collections."""
        async with within(self._deadline):
            total = int(await self._rows[0].count_documents({}))
        for at, (rows, source) in enumerate(zip(self._rows, self._sources, strict=True)):
            if at:
                async for found in scans.keys(rows, source.mapper, batch=_BATCH, deadline=self._deadline):
                    total += len(await self._own(at, found))
        return total

    async def _own(self, at: int, ids: Iterable[Key]) -> list[Key]:
        """Those that are keys of records: of the first collection all, of another those that no earlier one has."""
        found = list(ids)
        if not at:
            return found
        async with within(self._deadline):
            groups = by_member(await self._documents.groups(found, of=self._sources[at], whole=False))
        # What is not there any more is for whoever reads it to find out.
        return [id for id in found if id not in groups or groups[id].members[0].source is self._sources[at]]
