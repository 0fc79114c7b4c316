"""Applying a settle to PostgreSQL: all of its keys in one transaction, and of a transaction that is refused, all but the
culprits in several. And finding that there is nothing to apply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from adapters.documents.mapping import Mapper
from adapters.engine import Engine
from adapters.prisma.errors import translated
from adapters.prisma.fence import passed_keys
from adapters.prisma.settle import Statements
from adapters.prisma.succession import Succession
from adapters.side import Applied, Conflict, Document, Invalid, Key, Orphan, SideError
from config.schema import Model

Row = dict[str, Any]


class Apply:
    """For one entity."""

    def __init__(self, engine: Engine, entity: str, model: Model, mapper: Mapper) -> None:
        self._engine = engine
        natural = mapper.natural
        succession = Succession(model, natural, engine.schema) if natural else None
        self._statements = Statements(entity, model, succession)
        self._mapper = mapper

    async def __call__(self, term: int, token: int, documents: Mapping[Key, Document | None]) -> Applied:
        rows: dict[Key, Row | None] = {}
        unfit: dict[Key, SideError] = {}
        for key, document in documents.items():
            try:
                rows[key] = None if document is None else self._mapper.sql_row(document)
            except Invalid as error:
                unfit[key] = error
        applied = await self._applied(term, token, rows) if rows else Applied()
        return replace(applied, refused={**unfit, **applied.refused})

    async def same(self, documents: Mapping[Key, Document]) -> frozenset[Key]:
        rows = []
        for document in documents.values():
            try:
                rows.append(self._mapper.sql_row(document))
            except Invalid:
                continue  # no row can be like it
        with translated():
            [row] = await self._engine.query_raw(self._statements.same, orjson.dumps(rows).decode())
        return frozenset(orjson.loads(row["same"]))

    async def _applied(self, term: int, token: int, rows: Mapping[Key, Row | None]) -> Applied:
        try:
            return await self._at_once(term, token, rows)
        except (Conflict, Orphan, Invalid) as error:
            if len(rows) == 1:
                return Applied(refused=dict.fromkeys(rows, error))
            conflict = isinstance(error, Conflict)
        if conflict and self._statements.can_park:
            try:
                return await self._at_once(term, token, rows, park=True)
            except (Conflict, Orphan, Invalid):
                pass  # it was not for values that move between these keys: the halves tell which key it was
        return await self._in_halves(term, token, rows)

    async def _in_halves(self, term: int, token: int, rows: Mapping[Key, Row | None]) -> Applied:
        entries, half = list(rows.items()), len(rows) // 2
        first = await self._applied(term, token, dict(entries[:half]))
        second = await self._applied(term, token, dict(entries[half:]))
        return Applied(
            first.written | second.written,
            first.superseded | second.superseded,
            {**first.refused, **second.refused},
        )

    async def _at_once(self, term: int, token: int, rows: Mapping[Key, Row | None], *, park: bool = False) -> Applied:
        present = {key: row for key, row in rows.items() if row is not None}
        absent = [key for key, row in rows.items() if row is None]
        calls = self._statements.settle(term, token, list(present.values()), list(present), absent, park=park)
        with translated():
            fences, *_ = await self._engine.transaction(calls)
        written = passed_keys(fences)
        return Applied(written, frozenset(rows) - written)
