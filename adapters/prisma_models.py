"""The Prisma side: the models of `schema.prisma` in PostgreSQL, through Prisma Client on our engine."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from adapters import engine
from adapters.engine import Call, Engine
from adapters.mapping import Mapper
from adapters.prisma_errors import translated
from adapters.prisma_settle import Statements
from adapters.prisma_state import PrismaState
from adapters.side import (
    Applied,
    Conflict,
    Document,
    Held,
    Invalid,
    Key,
    Mark,
    Operation,
    Orphan,
    Outcome,
    SideError,
)
from config.schema import Model


@dataclass(frozen=True, slots=True)
class Table:
    """How one entity stands in PostgreSQL."""

    model: Model
    mapper: Mapper


class PrismaStore:
    """The Prisma side as a `Store`. `state` holds what the proxies share: flags, audit and the replica registry."""

    def __init__(self, engine: Engine, tables: Mapping[str, Table]) -> None:
        self._engine = engine
        self._tables = tables
        self._statements = {name: Statements(name, table.model) for name, table in tables.items()}
        self.state = PrismaState(engine)

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

    async def marks(self, entity: str, limit: int) -> list[Mark]:
        with translated():
            rows = await self._engine.call(
                "StranglerMark",
                "findMany",
                {"where": {"entity": entity}, "orderBy": [{"at": "asc"}, {"id": "asc"}], "take": limit},
            )
        return [Mark(row["id"], row["entity"], row["key"], datetime.fromisoformat(row["at"])) for row in rows]

    async def unmark(self, ids: Sequence[str]) -> None:
        if ids:
            with translated():
                await self._engine.call("StranglerMark", "deleteMany", {"where": {"id": {"in": list(ids)}}})

    async def hold(self, entity: str, keys: Sequence[Key]) -> Held:
        table = self._tables[entity]
        name = table.model.id.name
        with translated():
            # Rule: read after token. The sequence answers before the read is sent.
            [counter] = await self._engine.query_raw("SELECT nextval('strangler_token') AS token")
            args = {"where": {name: {"in": list(keys)}}}
            rows = await self._engine.call(table.model.name, "findMany", args)
        documents: dict[Key, Document] = {}
        refused: dict[Key, SideError] = {}
        for row in rows:
            try:
                documents[row[name]] = table.mapper.from_row(row)
            except Invalid as error:
                refused[row[name]] = error
        return Held(counter["token"], documents, refused)

    async def apply(self, entity: str, token: int, documents: Mapping[Key, Document | None]) -> Applied:
        """As `Store.apply` says. A transaction that PostgreSQL refuses is halved until only the culprits are refused."""
        if not documents:
            return Applied()
        statements, mapper = self._statements[entity], self._tables[entity].mapper
        rows: dict[Key, dict[str, Any]] = {}
        unfit: dict[Key, SideError] = {}
        for key, document in documents.items():
            try:
                if document is not None:
                    rows[key] = mapper.sql_row(document)
            except Invalid as error:
                unfit[key] = error
        absent = [key for key, document in documents.items() if document is None]
        keys = [*rows, *absent]
        if not keys:
            return Applied(refused=unfit)
        try:
            with translated():
                *_, passed = await self._engine.transaction(
                    statements.settle(token, list(rows.values()), list(rows), absent)
                )
        except (Conflict, Orphan, Invalid) as error:
            if len(keys) == 1:
                return Applied(refused={**unfit, keys[0]: error})
            half = len(keys) // 2
            parts = [
                await self.apply(entity, token, {key: documents[key] for key in part})
                for part in (keys[:half], keys[half:])
            ]
            return Applied(
                parts[0].written | parts[1].written,
                parts[0].superseded | parts[1].superseded,
                {**unfit, **parts[0].refused, **parts[1].refused},
            )
        written = frozenset(row["key"] for row in passed)
        return Applied(written, frozenset(keys) - written, unfit)

    async def keys(self, entity: str, *, batch: int = 500) -> AsyncIterator[list[Key]]:
        table = self._tables[entity]
        name = table.model.id.name
        after: Key | None = None
        while True:
            where = {} if after is None else {name: {"gt": after}}
            args = {"where": where, "select": {name: True}, "orderBy": {name: "asc"}, "take": batch}
            with translated():
                rows = await self._engine.call(table.model.name, "findMany", args)
            if not rows:
                return
            after = rows[-1][name]
            yield [row[name] for row in rows]

    async def count(self, entity: str) -> int:
        with translated():
            return int(await self._engine.call(self._tables[entity].model.name, "count", {}))


def new_key() -> Key:
    """24 hex digits that nobody else makes: what an ObjectId's identity is for."""
    return secrets.token_hex(12)
