"""The little that is asked of several collections directly: to find a record by its key or its natural key, and to create
one. Everything else of such an entity goes through its old endpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorDatabase

from adapters.documents.merging import Merging
from adapters.documents.values import alike
from adapters.mongo.calls import translated, within
from adapters.mongo.collection import Raw
from adapters.mongo.groups import Group
from adapters.mongo.outbox import Attempt, Outbox
from adapters.mongo.sources import Sources
from adapters.side import Conflict, Document, Invalid, Operation, Outcome, SideError, Unreadable


class SourceOperations:
    """`read` and `write` are the deadlines of one operation in seconds."""

    def __init__(
        self,
        database: AsyncIOMotorDatabase[Raw],
        entities: Mapping[str, Sources],
        outbox: Outbox,
        *,
        read: float,
        write: float,
    ) -> None:
        self._database = database
        self._entities = entities
        self._outbox = outbox
        self._read = read
        self._write = write

    async def perform(self, operation: Operation, *, mark: bool) -> Outcome:
        """As `Side.perform` says. Raises SideError for what several collections cannot be asked."""
        sources = self._entities[operation.entity]
        match operation.do:
            case "read":
                async with within(self._read):
                    return Outcome(tuple(await self._found(sources, operation.where))[:1])
            case "create":
                async with (
                    self._outbox.attempt(operation.entity, mark=mark) as attempt,
                    within(self._write, write=True),
                ):
                    return await self._create(sources, operation, attempt)
        raise SideError(f"{operation.entity} lies in several collections: only its old endpoints {operation.do} it")

    async def _found(self, sources: Sources, where: Mapping[str, object]) -> Sequence[Document]:
        merging = sources.merging
        key, natural = where.get(merging.mapper.id), where.get(merging.by)
        if not isinstance(key, str) and not isinstance(natural, str):
            raise SideError(f"{sources.entity} lies in several collections: it is found by {merging.by} only")
        groups = await sources.documents.groups(
            [key] if isinstance(key, str) else [], [natural] if isinstance(natural, str) else []
        )
        try:
            found = [_merged(merging, group) for group in groups]
        except Invalid as error:
            raise Unreadable(f"a stored document cannot be mapped: {error}") from error
        return [one for one in found if all(alike(one.get(name), value) for name, value in where.items())]

    async def _create(self, sources: Sources, operation: Operation, attempt: Attempt) -> Outcome:
        merging, first = sources.merging, sources.merging.sources[0]
        if await self._found(sources, {merging.by: operation.data.get(merging.by)}):
            raise Conflict([merging.by])
        key = operation.data.get(merging.mapper.id) or str(ObjectId())
        document = merging.mapper.defaults({**operation.data, merging.mapper.id: key})
        if homeless := [name for name in merging.differing({first.name: {}}, document) if not first.mapper.holds(name)]:
            raise Invalid(homeless[0], f"{first.name} has no place for it")
        raw = first.mapper.to_legacy(document)
        await attempt.begin(key)
        with translated(first.mapper.field_of):
            await self._database[first.name].insert_one(raw)
        return attempt.outcome(merging.merge({first.name: raw}, key), key)


def _merged(merging: Merging, group: Group) -> Document:
    if group.trouble:
        raise group.trouble
    return merging.merge(group.raws, group.key)
