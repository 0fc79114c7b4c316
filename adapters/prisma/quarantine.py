"""The quarantine in PostgreSQL: keys of which the other store cannot take what this one holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import orjson

from adapters.engine import Engine
from adapters.prisma.errors import translated
from adapters.prisma.state import NOW, seconds_since
from adapters.side import Key, Refusal

_LONGEST: Final = 1000  # characters of a reason
# In the order of the keys, so that two who put the same ones do not wait for each other in a circle.
_PUT: Final = (
    'INSERT INTO "strangler_quarantine" AS q ("entity", "key", "reason", "stamp", "since", "tries", "tried_at")'
    f' SELECT $1, r."key", r."value", gen_random_uuid()::text, {NOW}, 1, {NOW}'
    ' FROM json_each_text($2::text::json) r ORDER BY r."key"'
    ' ON CONFLICT ("entity", "key") DO UPDATE SET "reason" = excluded."reason", "stamp" = excluded."stamp",'
    ' "tries" = q."tries" + 1, "tried_at" = excluded."tried_at"'
)
_REFUSALS: Final = (
    f'SELECT "entity", "key", "reason", "since", "tries", {seconds_since("tried_at")} AS "age"'
    ' FROM "strangler_quarantine" WHERE $1::text IS NULL OR "entity" = $1 ORDER BY "tried_at", "entity", "key" LIMIT $2'
)
_STAMPS: Final = (
    'SELECT "key", "stamp" FROM "strangler_quarantine" WHERE "entity" = $1'
    ' AND "key" IN (SELECT json_array_elements_text($2::text::json))'
)
_RELEASE: Final = (
    'DELETE FROM "strangler_quarantine" q USING json_each_text($2::text::json) r'
    ' WHERE q."entity" = $1 AND q."key" = r."key" AND q."stamp" = r."value"'
)
_TAKE: Final = (
    'DELETE FROM "strangler_quarantine" WHERE "entity" = $1'
    ' AND "key" IN (SELECT json_array_elements_text($2::text::json))'
)
_SIZES: Final = 'SELECT "entity", count(*) AS "keys" FROM "strangler_quarantine" GROUP BY "entity"'


class PrismaQuarantine:
    """The `Quarantine` in PostgreSQL."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def put(self, entity: str, reasons: Mapping[Key, str]) -> None:
        if reasons:
            with translated():
                told = {key: _storable(reason) for key, reason in reasons.items()}
                await self._engine.execute_raw(_PUT, entity, orjson.dumps(told).decode())

    async def refusals(self, entity: str | None = None, *, limit: int = 1000) -> list[Refusal]:
        with translated():
            rows = await self._engine.query_raw(_REFUSALS, entity, limit)
        return [
            Refusal(
                row["entity"],
                row["key"],
                row["reason"],
                datetime.fromisoformat(row["since"]).replace(tzinfo=UTC),
                row["tries"],
                float(row["age"]),
            )
            for row in rows
        ]

    async def stamps(self, entity: str, keys: Sequence[Key]) -> dict[Key, str]:
        with translated():
            rows = await self._engine.query_raw(_STAMPS, entity, orjson.dumps(list(keys)).decode())
        return {row["key"]: row["stamp"] for row in rows}

    async def release(self, entity: str, stamps: Mapping[Key, str]) -> int:
        if not stamps:
            return 0
        with translated():
            return await self._engine.execute_raw(_RELEASE, entity, orjson.dumps(dict(stamps)).decode())

    async def take(self, entity: str, keys: Sequence[Key]) -> int:
        if not keys:
            return 0
        with translated():
            return await self._engine.execute_raw(_TAKE, entity, orjson.dumps(list(keys)).decode())

    async def sizes(self) -> dict[str, int]:
        with translated():
            rows = await self._engine.query_raw(_SIZES)
        return {row["entity"]: row["keys"] for row in rows}


def _storable(reason: str) -> str:
    """Without what PostgreSQL's text cannot hold, which a reason may quote."""
    return reason[:_LONGEST].replace("\0", "\\0").encode("utf-8", "replace").decode()
