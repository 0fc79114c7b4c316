"""The Prisma side of the product's own configuration, on a database of the test's own, and what is asked of it in tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from adapters.documents.mapping import Mapper
from adapters.engine import Engine
from adapters.prisma.store import PrismaStore, Table, new_key
from adapters.side import Document, Key
from config.load import load
from config.schema import load_schema

SCHEMA: Final = load_schema()
_CONFIG: Final = Path(__file__).resolve().parents[1] / "config" / "proxim8.yaml"
_ENVIRON: Final = {"CORE_URL": "http://127.0.0.1:1", "PROXIM8_URL": "http://127.0.0.1:1", "JWT_SECRET": "s" * 32}
ENTITIES: Final = load(_CONFIG, _ENVIRON, SCHEMA).entities
CREATED: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
DEADLINE: Final = 20.0


@asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[tuple[PrismaStore, Engine]]:
    """A store, and the engine that it is on; `options` are the engine's."""
    engine = Engine(url, **options)
    await engine.connect()
    try:
        yield PrismaStore(engine, _tables()), engine
    finally:
        await engine.disconnect()


def _tables() -> Mapping[str, Table]:
    models = {name: SCHEMA.models[entity.model] for name, entity in ENTITIES.items()}
    return {name: Table(models[name], Mapper(entity, models[name], SCHEMA)) for name, entity in ENTITIES.items()}


def account(wallet: str, key: Key | None = None) -> Document:
    return {"id": key or new_key(), "walletAddress": wallet, "createdAt": CREATED, "updatedAt": CREATED}


def keyed(*documents: Document) -> dict[Key, Document]:
    return {document["id"]: document for document in documents}


async def wallets(engine: Engine) -> dict[Key, str]:
    """Each account's wallet, by its key."""
    return {row["id"]: row["walletAddress"] for row in await engine.call("Account", "findMany", {})}


async def waiting_for_a_lock(engine: Engine, kind: str) -> None:
    """Return once a session waits for a lock of this kind: `advisory`, `transactionid` …"""
    async with asyncio.timeout(DEADLINE):
        while not await engine.query_raw(
            "SELECT 1 AS one FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
            " WHERE NOT l.granted AND l.locktype = $1 AND a.datname = current_database()",
            kind,
        ):
            await asyncio.sleep(0.01)
