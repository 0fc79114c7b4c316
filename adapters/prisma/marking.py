"""Transactions in which a handler writes through the Prisma client: what it wrote is known from its own calls, and is
marked in the same transaction."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from adapters.client import client
from adapters.engine import Call, Engine
from adapters.prisma.errors import translated
from adapters.side import Key, SideError

if TYPE_CHECKING:
    from prisma import Prisma

_WRITE_ONE: Final = frozenset({"create", "update", "upsert", "delete"})
_WRITE_MANY: Final = frozenset({"createMany", "updateMany", "deleteMany"})
_WRITING_SQL: Final = re.compile(r"(?<!\bfor )(?<!\bkey )\b(insert|update|delete|merge|truncate|copy)\b", re.IGNORECASE)


Admit = Callable[[str], Awaitable[bool]]


class Unrecorded(SideError):
    """A handler wrote in a way whose keys cannot be known; its transaction was rolled back."""


@dataclass(slots=True)
class Transaction:
    """A handler's transaction. After it: the keys that it wrote, by entity, and the marks left for them."""

    client: Prisma
    written: dict[str, set[Key]] = field(default_factory=dict)
    marks: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def keys(self) -> dict[str, tuple[Key, ...]]:
        return {entity: tuple(keys) for entity, keys in self.written.items()}


class Transactions:
    """`client` is for reading outside of any transaction."""

    def __init__(self, engine: Engine, entities: Mapping[str, str]) -> None:
        """`entities` maps the models to their entities; other models are nobody's to replicate."""
        self._engine = engine
        self._entities = entities
        self._client: Prisma | None = None

    @property
    def client(self) -> Prisma:
        if self._client is None:
            self._client = client(self._engine, before=_only_reads)
        return self._client

    @asynccontextmanager
    async def begin(self, admit: Admit) -> AsyncIterator[Transaction]:
        """A transaction that is committed when the block ends, with its marks, or rolled back when it raises. `admit` is
        asked before each write whether its entity is marked, and may refuse it by raising. Raises SideError."""
        with translated():
            tx = await self._engine.begin()
            recorder = _Recorder(self._engine, self._entities, tx, admit)
            transaction = Transaction(
                client(self._engine, tx=tx, before=recorder.before, observe=recorder.after), recorder.written
            )
            try:
                yield transaction
                transaction.marks = await self._mark(recorder.marked, tx)
            except BaseException:
                await self._engine.rollback(tx)
                raise
            await self._engine.commit(tx)

    async def _mark(self, keys: Mapping[str, set[Key]], tx: str) -> dict[str, tuple[str, ...]]:
        """Mark before the write is seen: the same transaction shows both."""
        rows = [
            {"id": secrets.token_hex(12), "entity": entity, "key": key}
            for entity, every in keys.items()
            for key in every
        ]
        if rows:
            await self._engine.call("StranglerMark", "createMany", {"data": rows}, tx=tx)
        return {entity: tuple(row["id"] for row in rows if row["entity"] == entity) for entity in keys}


class _Recorder:
    """Sees each call of one transaction, before it is sent and after it has succeeded."""

    def __init__(self, engine: Engine, entities: Mapping[str, str], tx: str, admit: Admit) -> None:
        self._engine = engine
        self._entities = entities
        self._tx = tx
        self._admit = admit
        self._settled: set[str] = set()
        self.written: dict[str, set[Key]] = {}

    @property
    def marked(self) -> dict[str, set[Key]]:
        return {entity: keys for entity, keys in self.written.items() if entity in self._settled}

    async def before(self, call: Call) -> Call:
        """The call as it will be sent. Raises Unrecorded for one whose keys nobody could tell."""
        if _is_raw_write(call):
            raise Unrecorded("a handler may not write with raw SQL: what it changes could not be replicated")
        entity = self._entities.get(call.model or "")
        if entity is None or call.action not in _WRITE_ONE | _WRITE_MANY:
            return call
        self._refuse_nested(call)
        if await self._admit(entity):
            self._settled.add(entity)
        if call.action == "createMany":
            self._record(entity, [self._id(call, row) for row in _rows(call.args["data"])])
            return call
        if call.action in _WRITE_MANY:
            return await self._narrowed(entity, call)
        return call

    def after(self, call: Call, result: Any, tx: str | None) -> None:
        entity = self._entities.get(call.model or "")
        if tx != self._tx and call.action in _WRITE_ONE | _WRITE_MANY:
            raise Unrecorded("a handler writes in the transaction that it is given: one of its own could not be marked")
        if entity is not None and call.action in _WRITE_ONE:
            self._record(entity, [self._id(call, result)])

    async def _narrowed(self, entity: str, call: Call) -> Call:
        """Many are written by the keys that match now, so that exactly these are marked."""
        name = self._id_name(call)
        where = call.args.get("where") or {}
        rows = await self._engine.call(
            call.model or "", "findMany", {"where": where, "select": {name: True}}, tx=self._tx
        )
        keys = [row[name] for row in rows]
        self._record(entity, keys)
        return Call(call.model, call.action, {**call.args, "where": {"AND": [where, {name: {"in": keys}}]}})

    def _record(self, entity: str, keys: list[Key]) -> None:
        self.written.setdefault(entity, set()).update(keys)

    def _id_name(self, call: Call) -> str:
        return self._engine.schema.models[call.model or ""].id.name

    def _id(self, call: Call, row: Mapping[str, Any]) -> Key:
        name = self._id_name(call)
        if not row or name not in row:
            raise Unrecorded(f"{call.action} on {call.model} has to name the {name}: without it nobody knows the key")
        return str(row[name])

    def _refuse_nested(self, call: Call) -> None:
        fields = self._engine.schema.models[call.model or ""].fields
        for part in ("data", "create", "update"):
            for row in _rows(call.args.get(part) or ()):
                for name in row:
                    relation = fields[name].relation if name in fields else None
                    if relation and not (relation.fields and set(row[name]) <= {"connect"}):
                        raise Unrecorded(
                            f"{call.action} on {call.model} writes {name} within it: call {relation.model} by itself"
                        )


async def _only_reads(call: Call) -> Call:
    if call.action in _WRITE_ONE | _WRITE_MANY or _is_raw_write(call):
        raise Unrecorded(f"{call.action} in the handler of a read: what it changes could not be replicated")
    return call


def _is_raw_write(call: Call) -> bool:
    """Statements that read may be asked; what locks rows (`FOR UPDATE`) reads as well."""
    return call.action == "executeRaw" or (call.action == "queryRaw" and bool(_WRITING_SQL.search(call.args["sql"])))


def _rows(data: Any) -> list[Mapping[str, Any]]:
    return [data] if isinstance(data, Mapping) else list(data)
