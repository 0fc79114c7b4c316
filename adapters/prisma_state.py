"""What the proxies share in the Prisma database: flags, audit and the registry of replicas."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from adapters.engine import Engine
from adapters.prisma_errors import translated
from adapters.side import Flag, Replica


class PrismaState:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def flags(self) -> list[Flag]:
        with translated():
            rows = await self._engine.call("StranglerFlag", "findMany", {})
        return [_flag(row) for row in rows]

    async def save_flag(self, flag: Flag) -> bool:
        """One statement, so that of two who save the same epoch one is first and the other is told."""
        with translated():
            written = await self._engine.execute_raw(
                'INSERT INTO "strangler_flag" AS f ("entity", "stage", "target", "fenced", "epoch", "serve", "sample",'
                ' "changed_at", "changed_by") VALUES ($1, $2, $3, $4, $5::text::bigint, $6, $7, now() AT TIME ZONE \'utc\', $8)'
                ' ON CONFLICT ("entity") DO UPDATE SET "stage" = excluded."stage", "target" = excluded."target",'
                ' "fenced" = excluded."fenced", "epoch" = excluded."epoch", "serve" = excluded."serve",'
                ' "sample" = excluded."sample", "changed_at" = excluded."changed_at", "changed_by" = excluded."changed_by"'
                ' WHERE f."epoch" < excluded."epoch"',
                flag.entity,
                flag.stage,
                flag.target,
                flag.target is not None,
                str(flag.epoch),
                flag.serve,
                flag.sample,
                flag.changed_by,
            )
        return written > 0

    async def audit(self, entry: Mapping[str, Any]) -> None:
        with translated():
            await self._engine.call("StranglerAudit", "create", {"data": {"id": secrets.token_hex(12), **entry}})

    async def beat(self, replica: Replica) -> None:
        """By the database's clock, so that the hosts' clocks do not matter."""
        with translated():
            await self._engine.execute_raw(
                'INSERT INTO "strangler_replica" ("id", "epochs", "heartbeat_at", "started_at")'
                " VALUES ($1, $2::text::jsonb, now() AT TIME ZONE 'utc', now() AT TIME ZONE 'utc')"
                ' ON CONFLICT ("id") DO UPDATE SET "epochs" = excluded."epochs", "heartbeat_at" = excluded."heartbeat_at"',
                replica.id,
                orjson.dumps(dict(replica.epochs)).decode(),
            )

    async def replicas(self) -> list[Replica]:
        with translated():
            rows = await self._engine.query_raw(
                'SELECT "id", "epochs", extract(epoch FROM now() AT TIME ZONE \'utc\' - "heartbeat_at")::float8 AS "age"'
                ' FROM "strangler_replica" ORDER BY "id"'
            )
        return [Replica(row["id"], {k: int(v) for k, v in row["epochs"].items()}, float(row["age"])) for row in rows]

    async def forget_replica(self, id: str) -> None:
        with translated():
            await self._engine.call("StranglerReplica", "deleteMany", {"where": {"id": id}})


def _flag(row: Mapping[str, Any]) -> Flag:
    return Flag(
        entity=row["entity"],
        stage=row["stage"],
        epoch=row["epoch"],
        target=row["target"],
        serve=row["serve"],
        sample=row["sample"],
        changed_at=datetime.fromisoformat(row["changedAt"]),
        changed_by=row["changedBy"],
    )
