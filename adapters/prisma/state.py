"""What the proxies share in the Prisma database: flags, audit, the registry of replicas and leases.

All times are by the database's clock, and each change is one statement: of two who want the same, one is first.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from adapters.engine import Engine
from adapters.prisma.errors import translated
from adapters.side import Flag, Replica

NOW: Final = "(now() AT TIME ZONE 'utc')"
"""The database's clock as its columns hold it."""


def seconds_since(column: str) -> str:
    """SQL for how long ago a column's time was. What was rounded up to the next millisecond is not in the future."""
    return f'greatest(0, extract(epoch FROM {NOW} - "{column}"))::float8'


_FLAGS: Final = (
    'SELECT "entity", "stage", "target", "epoch", "term", "serve", "sample", "changed_at", "changed_by",'
    f' {seconds_since("saved_at")} AS "age" FROM "strangler_flag" ORDER BY "entity"'
)
# $10 is the epoch that a decision is based on, NULL for a copy. Without a row, only a copy and a decision after 0 pass.
_SAVE: Final = (
    'INSERT INTO "strangler_flag" AS f ("entity", "stage", "target", "epoch", "term", "serve", "sample", "changed_at",'
    ' "changed_by", "saved_at") SELECT $1, $2, $3, $4::text::bigint, $5::text::bigint, $6::int, $7::int,'
    f" coalesce($8::text::timestamptz AT TIME ZONE 'utc', {NOW}), $9, {NOW}"
    ' WHERE coalesce($10::text::bigint, 0) = 0 OR EXISTS (SELECT FROM "strangler_flag" WHERE "entity" = $1)'
    ' ON CONFLICT ("entity") DO UPDATE SET "stage" = excluded."stage", "target" = excluded."target",'
    ' "epoch" = excluded."epoch", "term" = excluded."term", "serve" = excluded."serve", "sample" = excluded."sample",'
    ' "changed_at" = excluded."changed_at", "changed_by" = excluded."changed_by", "saved_at" = excluded."saved_at"'
    ' WHERE CASE WHEN $10::text IS NULL THEN f."epoch" < excluded."epoch" ELSE f."epoch" = $10::text::bigint END'
)
_BEAT: Final = (
    'INSERT INTO "strangler_replica" ("id", "epochs", "seen", "heartbeat_at", "started_at")'
    f" VALUES ($1, $2::text::jsonb, $3::text::jsonb, {NOW}, {NOW})"
    ' ON CONFLICT ("id") DO UPDATE SET "epochs" = excluded."epochs", "seen" = excluded."seen",'
    ' "heartbeat_at" = excluded."heartbeat_at"'
)
_REPLICAS: Final = (
    f'SELECT "id", "epochs", "seen", {seconds_since("heartbeat_at")} AS "age" FROM "strangler_replica" ORDER BY "id"'
)
_SILENT: Final = seconds_since("heartbeat_at")
_FORGET: Final = f'DELETE FROM "strangler_replica" WHERE "id" = $1 AND {_SILENT} >= $2::text::float8'
_LEASE: Final = (
    'INSERT INTO "strangler_lease" AS l ("name", "holder", "until")'
    f" VALUES ($1, $2, {NOW} + make_interval(secs => $3::text::float8))"
    ' ON CONFLICT ("name") DO UPDATE SET "holder" = excluded."holder", "until" = excluded."until"'
    f' WHERE l."holder" = excluded."holder" OR l."until" < {NOW}'
)
_HOLDER: Final = f'SELECT "holder" FROM "strangler_lease" WHERE "name" = $1 AND "until" > {NOW}'
_RELEASE: Final = 'DELETE FROM "strangler_lease" WHERE "name" = $1 AND "holder" = $2'

# Sessions end with their process, but not with a network: what the lost one has locked, others would wait for.
_CUT_OFF: Final = (
    'SELECT pg_terminate_backend(pid) AS "ended" FROM pg_stat_activity WHERE datname = current_database()'
    " AND application_name = left('strangler ' || $1, 63)"
)


class PrismaState:
    """The `State` in PostgreSQL."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def flags(self) -> list[Flag]:
        with translated():
            rows = await self._engine.query_raw(_FLAGS)
        return [_flag(row) for row in rows]

    async def save_flag(self, flag: Flag, *, after: int | None = None) -> bool:
        # A decision is made now; a copy tells when it was made.
        made = flag.changed_at.isoformat() if after is None and flag.changed_at is not None else None
        with translated():
            written = await self._engine.execute_raw(
                _SAVE,
                flag.entity,
                flag.stage,
                flag.target,
                str(flag.epoch),
                str(flag.term),
                flag.serve,
                flag.sample,
                made,
                flag.changed_by,
                None if after is None else str(after),
            )
        return written > 0

    async def audit(self, entry: Mapping[str, Any]) -> None:
        with translated():
            await self._engine.call("StranglerAudit", "create", {"data": {"id": secrets.token_hex(12), **entry}})

    async def beat(self, replica: Replica) -> None:
        with translated():
            await self._engine.execute_raw(_BEAT, replica.id, _json(replica.epochs), _json(replica.seen))

    async def replicas(self) -> list[Replica]:
        with translated():
            rows = await self._engine.query_raw(_REPLICAS)
        return [_replica(row) for row in rows]

    async def forget_replica(self, id: str, *, silent: float = 0.0) -> None:
        with translated():
            if id != self._engine.owner:
                await self._engine.query_raw(_CUT_OFF, id)
            await self._engine.execute_raw(_FORGET, id, str(silent))

    async def lease(self, name: str, holder: str, seconds: float) -> bool:
        with translated():
            return await self._engine.execute_raw(_LEASE, name, holder, str(seconds)) > 0

    async def release(self, name: str, holder: str) -> None:
        with translated():
            await self._engine.execute_raw(_RELEASE, name, holder)

    async def holder(self, name: str) -> str | None:
        with translated():
            rows = await self._engine.query_raw(_HOLDER, name)
        return str(rows[0]["holder"]) if rows else None


def _flag(row: Mapping[str, Any]) -> Flag:
    return Flag(
        entity=row["entity"],
        stage=row["stage"],
        epoch=row["epoch"],
        target=row["target"],
        serve=row["serve"],
        sample=row["sample"],
        term=row["term"],
        changed_at=datetime.fromisoformat(row["changed_at"]).replace(tzinfo=UTC),
        changed_by=row["changed_by"],
        age=float(row["age"]),
    )


def _replica(row: Mapping[str, Any]) -> Replica:
    epochs = {entity: int(epoch) for entity, epoch in row["epochs"].items()}
    seen = {entity: (int(compared), int(differed)) for entity, (compared, differed) in row["seen"].items()}
    return Replica(row["id"], epochs, seen, float(row["age"]))


def _json(value: Mapping[str, Any]) -> str:
    return orjson.dumps(dict(value)).decode()
