"""How far long commands have come, in the Prisma database."""

from __future__ import annotations

from typing import Final

import orjson

from adapters.engine import Engine
from adapters.prisma.errors import translated
from adapters.prisma.state import NOW, seconds_since
from adapters.side import Run

_LOAD: Final = (
    f'SELECT "holder", "upto", "done", "detail"::text AS "detail", {seconds_since("saved_at")} AS "age"'
    ' FROM "strangler_run" WHERE "name" = $1 AND "entity" = $2'
)
_BEGIN: Final = (
    'INSERT INTO "strangler_run" ("name", "entity", "holder", "upto", "done", "detail", "saved_at")'
    f" VALUES ($1, $2, $3, $4, $5::boolean, $6::text::jsonb, {NOW})"
    ' ON CONFLICT ("name", "entity") DO UPDATE SET "holder" = excluded."holder", "upto" = excluded."upto",'
    ' "done" = excluded."done", "detail" = excluded."detail", "saved_at" = excluded."saved_at"'
)
_SAVE: Final = (
    f'UPDATE "strangler_run" SET "upto" = $4, "done" = $5::boolean, "detail" = $6::text::jsonb, "saved_at" = {NOW}'
    ' WHERE "name" = $1 AND "entity" = $2 AND "holder" = $3'
)


class PrismaRuns:
    """The `Runs` in PostgreSQL."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def load(self, name: str, entity: str) -> Run | None:
        with translated():
            rows = await self._engine.query_raw(_LOAD, name, entity)
        if not rows:
            return None
        [row] = rows
        detail = orjson.loads(row["detail"])
        return Run(name, entity, row["holder"], row["upto"], row["done"], detail, float(row["age"]))

    async def begin(self, run: Run) -> None:
        with translated():
            await self._engine.execute_raw(_BEGIN, *_bound(run))

    async def save(self, run: Run) -> bool:
        with translated():
            return await self._engine.execute_raw(_SAVE, *_bound(run)) > 0


def _bound(run: Run) -> tuple[str, str, str, str | None, bool, str]:
    return run.name, run.entity, run.holder, run.upto, run.done, orjson.dumps(dict(run.detail)).decode()
