"""The outbox in PostgreSQL: marks, and what is left of them."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from adapters.engine import Engine
from adapters.prisma.errors import translated
from adapters.prisma.state import NOW, seconds_since
from adapters.side import Backlog, Key, Mark

_OLDEST: Final = (
    f'SELECT "id", "key", "at", {seconds_since("at")} AS "age" FROM "strangler_mark" WHERE "entity" = $1'
    f' AND ($3::text::float8 <= 0 OR "at" <= {NOW} - make_interval(secs => $3::text::float8))'
    ' ORDER BY "at", "id" LIMIT $2'
)
_SIZES: Final = (
    f'SELECT "entity", count(*) AS "marks", max({seconds_since("at")}) AS "oldest"'
    ' FROM "strangler_mark" GROUP BY "entity"'
)


class PrismaOutbox:
    """The marks of `Store`, as it says them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def mark(self, entity: str, keys: Sequence[Key | None]) -> list[str]:
        rows = [{"id": new_mark(), "entity": entity, "key": key} for key in keys]
        if rows:
            with translated():
                await self._engine.call("StranglerMark", "createMany", {"data": rows})
        return [str(row["id"]) for row in rows]

    async def marks(self, entity: str, limit: int, older: float) -> list[Mark]:
        with translated():
            rows = await self._engine.query_raw(_OLDEST, entity, limit, str(older))
        return [
            Mark(row["id"], entity, row["key"], datetime.fromisoformat(row["at"]).replace(tzinfo=UTC), row["age"])
            for row in rows
        ]

    async def unmark(self, ids: Sequence[str]) -> None:
        if ids:
            with translated():
                await self._engine.call("StranglerMark", "deleteMany", {"where": {"id": {"in": list(ids)}}})

    async def sizes(self) -> dict[str, Backlog]:
        with translated():
            rows = await self._engine.query_raw(_SIZES)
        return {row["entity"]: Backlog(row["marks"], float(row["oldest"])) for row in rows}


def new_mark() -> str:
    return secrets.token_hex(12)
