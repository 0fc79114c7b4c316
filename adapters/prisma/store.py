"""The Prisma side: the models of `schema.prisma` in PostgreSQL, through Prisma Client on our engine."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from adapters import engine
from adapters.documents.mapping import Mapper
from adapters.engine import Call, Engine
from adapters.prisma.apply import Apply
from adapters.prisma.errors import translated
from adapters.prisma.outbox import PrismaOutbox
from adapters.prisma.quarantine import PrismaQuarantine
from adapters.prisma.ranges import Ranges
from adapters.prisma.runs import PrismaRuns
from adapters.prisma.settle import TURN
from adapters.prisma.state import PrismaState
from adapters.side import (
    Applied,
    Backlog,
    Document,
    Held,
    Invalid,
    Key,
    Mark,
    Operation,
    Outcome,
    Range,
    SideError,
    Unreadable,
)
from config.schema import Model

_LATER: Final = (
    "SELECT setval('strangler_token', now) AS token"
    " FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1e6)::bigint AS now) AS clock"
    " WHERE now > (SELECT last_value FROM strangler_token)"
)
"""A database that was restored has forgotten tokens that fences on the other side remember: the counter goes on from the
time (microseconds), which is later than any. Where it is ahead of that it stays; nobody draws a token a microsecond."""


@dataclass(frozen=True, slots=True)
class Table:
    """How one entity stands in PostgreSQL."""

    model: Model
    mapper: Mapper


class PrismaStore:
    """The Prisma side as a `Store`."""

    def __init__(self, engine: Engine, tables: Mapping[str, Table]) -> None:
        self._engine = engine
        self._tables = tables
        self._apply = {name: Apply(engine, name, table.model, table.mapper) for name, table in tables.items()}
        self._ranges = {name: Ranges(engine, table.model) for name, table in tables.items()}
        self._outbox = PrismaOutbox(engine)
        self._counts = False
        self.state = PrismaState(engine)
        self.quarantine = PrismaQuarantine(engine)
        self.runs = PrismaRuns(engine)

    async def connect(self) -> None:
        with translated():
            await self._engine.connect()

    async def disconnect(self) -> None:
        await self._engine.disconnect()

    async def is_healthy(self) -> bool:
        return await self._engine.is_healthy()

    async def perform(self, operation: Operation, *, mark: bool = False) -> Outcome:
        with translated():
            match operation.do:
                case "create":
                    return await self._create(operation, mark)
                case "update" | "delete":
                    return await self._change(operation, mark)
                case "read" | "list":
                    return await self._find(operation)

    async def _find(self, operation: Operation) -> Outcome:
        table = self._tables[operation.entity]
        args: dict[str, Any] = {
            "where": table.mapper.to_row(operation.where),
            "take": operation.take,
            "skip": operation.skip,
        }
        if operation.do == "read":
            args = {"where": args["where"], "take": 1}
        if operation.order:
            args["orderBy"] = [{name: "desc" if descending else "asc"} for name, descending in operation.order]
        rows = await self._engine.call(table.model.name, "findMany", args)
        return Outcome(tuple(table.mapper.from_row(row) for row in rows))

    async def _create(self, operation: Operation, mark: bool) -> Outcome:
        table = self._tables[operation.entity]
        key = operation.data.get(table.model.id.name) or new_key()
        data = table.mapper.to_row({**operation.data, table.model.id.name: key})
        return await self._write(table, operation.entity, key, "create", {"data": data}, mark)

    async def _change(self, operation: Operation, mark: bool) -> Outcome:
        table = self._tables[operation.entity]
        where = dict(operation.where)
        key = where.get(table.model.id.name)
        if key is None:
            found = await self._find(Operation(operation.entity, "read", where))
            if not found.documents:
                return Outcome()
            key = where[table.model.id.name] = found.documents[0][table.model.id.name]
        args = {"where": table.mapper.to_row(where)}
        if operation.do == "update":
            args["data"] = table.mapper.to_row(operation.data)
        try:
            return await self._write(table, operation.entity, key, operation.do, args, mark)
        except engine.RecordNotFound:
            return Outcome()

    async def _write(
        self, table: Table, entity: str, key: Key, action: str, args: Mapping[str, Any], mark: bool
    ) -> Outcome:
        """Mark before write: here in one transaction, so that neither is ever seen without the other."""
        if not mark:
            row = await self._engine.call(table.model.name, action, args)
            return Outcome((table.mapper.from_row(row),), (key,))
        note = new_key()
        marked = Call("StranglerMark", "create", {"data": {"id": note, "entity": entity, "key": key}})
        _, row = await self._engine.transaction([marked, Call(table.model.name, action, args)])
        return Outcome((table.mapper.from_row(row),), (key,), (note,))

    async def mark(self, entity: str, keys: Sequence[Key | None]) -> list[str]:
        return await self._outbox.mark(entity, keys)

    async def marks(self, entity: str, limit: int, *, older: float = 0.0) -> list[Mark]:
        return await self._outbox.marks(entity, limit, older)

    async def outbox(self) -> dict[str, Backlog]:
        return await self._outbox.sizes()

    async def unmark(self, ids: Sequence[str]) -> None:
        await self._outbox.unmark(ids)

    async def together(self, entity: str, keys: Sequence[Key]) -> Mapping[Key, Key]:
        return {}

    async def hold(self, entity: str, keys: Sequence[Key]) -> Held:
        table = self._tables[entity]
        name = table.model.id.name
        with translated():
            if not self._counts:
                await self._engine.query_raw(_LATER)
                self._counts = True
            # Rule: read after token. The sequence answers before the read is sent.
            [counter] = await self._engine.query_raw("SELECT nextval('strangler_token') AS token")
        documents: dict[Key, Document] = {}
        rows, refused = await self._rows(table, list(keys))
        for row in rows:
            try:
                documents[row[name]] = table.mapper.from_row(row)
            except Invalid as error:
                refused[row[name]] = error
        return Held(counter["token"], documents, refused)

    async def _rows(self, table: Table, keys: list[Key]) -> tuple[list[dict[str, Any]], dict[Key, SideError]]:
        """The rows of these keys. What cannot be read together is halved until only the culprits are refused."""
        try:
            with translated():
                args = {"where": {table.model.id.name: {"in": keys}}}
                return await self._engine.call(table.model.name, "findMany", args), {}
        except Unreadable as error:
            if len(keys) == 1:
                return [], {keys[0]: error}
        half = len(keys) // 2
        (rows, refused), (more, others) = [await self._rows(table, part) for part in (keys[:half], keys[half:])]
        return [*rows, *more], {**refused, **others}

    async def apply(self, entity: str, term: int, token: int, documents: Mapping[Key, Document | None]) -> Applied:
        return await self._apply[entity](term, token, documents)

    async def turn(self, entity: str, term: int) -> None:
        with translated():
            await self._engine.query_raw(TURN, entity, str(term))

    def keys(self, entity: str, *, batch: int = 500) -> AsyncIterator[list[Key]]:
        return self._found(entity, {}, batch)

    async def range(self, entity: str, after: str | None, *, most: int, size: int | None = None) -> Range | None:
        return await self._ranges[entity](after, most=most, size=size)

    async def same(self, entity: str, documents: Mapping[Key, Document]) -> frozenset[Key]:
        return await self._apply[entity].same(documents)

    async def present(self, entity: str, keys: Sequence[Key]) -> frozenset[Key]:
        return await self._ranges[entity].present(keys)

    def changed_since(self, entity: str, at: datetime, *, batch: int = 500) -> AsyncIterator[list[Key]]:
        """Ids made as ObjectIds are tell when, by the second; so do the columns that Prisma Client sets with each write."""
        model = self._tables[entity].model
        since = at.astimezone(UTC).replace(microsecond=0)
        touched = [field.name for field in model.fields.values() if field.updated_at]
        clues = [
            {model.id.name: {"gte": f"{int(since.timestamp()):08x}"}},
            *({name: {"gte": since}} for name in touched),
        ]
        return self._found(entity, {"OR": clues}, batch)

    async def _found(self, entity: str, where: Mapping[str, Any], batch: int) -> AsyncIterator[list[Key]]:
        model = self._tables[entity].model
        name = model.id.name
        after: dict[str, Any] = {}
        while True:
            args = {
                "where": {"AND": [where, after]},
                "select": {name: True},
                "orderBy": {name: "asc"},
                "take": batch,
            }
            with translated():
                rows = await self._engine.call(model.name, "findMany", args)
            if not rows:
                return
            after = {name: {"gt": rows[-1][name]}}
            yield [row[name] for row in rows]

    async def count(self, entity: str) -> int:
        with translated():
            return int(await self._engine.call(self._tables[entity].model.name, "count", {}))


def new_key() -> Key:
    """24 hex digits that nobody else makes, the first eight the time in seconds: what an ObjectId is."""
    return f"{int(time.time()):08x}{secrets.token_hex(8)}"
