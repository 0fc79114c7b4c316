"""Raw queries, errors, life cycle and metrics of the generated client on our engine."""

from __future__ import annotations

from typing import Any

import pytest
from prisma import Prisma, errors
from prisma.engine.errors import EngineConnectionError
from prisma.models import Account, Video

from adapters.client import client
from adapters.engine import Engine, EngineGone
from tests.prisma_client.conftest import DAY, key


async def test_raw_queries_typed_and_untyped(db: Prisma, videos: list[Video]) -> None:
    [video] = await db.query_raw('SELECT *, _id AS id FROM videos WHERE "jobId" = $1', "job-1", model=Video)
    assert video == videos[1]
    counted = await db.query_raw("SELECT count(*) AS n, 1.5::numeric AS d, $1::text AS t FROM videos", "x")
    assert counted == [{"n": 6, "d": 1.5, "t": "x"}]
    first = await db.query_first('SELECT "jobId", "createdAt" FROM videos WHERE "createdAt" = $1', DAY)
    assert first == {"jobId": "job-0", "createdAt": "2026-01-01T00:00:00+00:00"}
    assert await db.query_first("SELECT 1 AS one WHERE false") is None
    typed = await db.account.query_raw('SELECT _id AS id, "walletAddress", "createdAt", "updatedAt" FROM accounts')
    assert sorted(a.walletAddress for a in typed) == ["0x1", "0x2"]
    assert isinstance(typed[0], Account)
    one = await db.account.query_first(
        'SELECT _id AS id, "walletAddress", "createdAt", "updatedAt" FROM accounts WHERE _id = $1', key(2)
    )
    assert one == await db.account.find_unique({"id": key(2)})
    assert await db.execute_raw('UPDATE videos SET title = $1 WHERE "isPublic"', "raw") == 2


async def test_its_own_errors(db: Prisma, videos: list[Video]) -> None:
    async def failing(doing: Any, kind: type[errors.DataError]) -> errors.DataError:
        with pytest.raises(errors.DataError) as caught:
            await doing
        assert type(caught.value) is kind
        return caught.value

    unique = await failing(db.account.create({"id": key(9), "walletAddress": "0x1"}), errors.UniqueViolationError)
    assert (unique.code, unique.meta["target"]) == ("P2002", ["walletAddress"])
    orphan: Any = {"id": key(9), "accountId": "none", "username": "x"}
    foreign = await failing(db.profile.create(orphan), errors.ForeignKeyViolationError)
    assert foreign.meta["field_name"] == "accountId"
    await failing(db.account.delete({"id": key(1)}), errors.ForeignKeyViolationError)
    lacking: Any = {"id": key(9)}
    await failing(db.account.create(lacking), errors.MissingRequiredValueError)
    unknown: Any = {"id": key(9), "walletAddress": "x", "nope": 1}
    assert "nope" in str(await failing(db.account.create(unknown), errors.FieldNotFoundError))
    wrong: Any = {"nope": {"equals": 1}}
    await failing(db.account.find_many(where=wrong), errors.FieldNotFoundError)
    mistaken: Any = {"id": 5, "walletAddress": "x"}
    await failing(db.account.create(mistaken), errors.InputError)
    raw = await failing(db.query_raw("SELECT * FROM nowhere"), errors.RawQueryError)
    assert 'relation "nowhere" does not exist' in str(raw)
    connect: Any = {"account": {"connect": {"id": "none"}}}
    assert await db.video.update(connect, where={"id": videos[0].id}) is None


async def test_a_table_that_is_missing_is_named(database_url: str) -> None:
    engine = Engine(database_url)
    await engine.connect()
    try:
        await engine.execute_raw("DROP TABLE profiles")
        with pytest.raises(errors.TableNotFoundError) as caught:
            await client(engine).profile.find_many()
        assert "profiles" in (caught.value.table or "")
    finally:
        await engine.disconnect()


async def test_disconnecting_a_client_leaves_the_engine_to_its_owner(db: Prisma, engine: Engine) -> None:
    other = client(engine)
    await other.disconnect()
    assert not other.is_connected()
    with pytest.raises(errors.ClientNotConnectedError):
        await other.account.count()
    assert await engine.is_healthy()
    async with other:
        assert await other.account.count() == 0
    assert await db.account.count() == 0


async def test_an_engine_that_is_gone_is_a_connection_error(module_database_url: str) -> None:
    engine = Engine(module_database_url)
    db = client(engine)
    with pytest.raises(EngineConnectionError) as caught:
        await db.account.count()
    assert isinstance(caught.value.__cause__, EngineGone)
    await db.connect()
    assert await db.account.count() >= 0
    await engine.disconnect()


async def test_metrics_in_both_formats(db: Prisma) -> None:
    metrics = await db.get_metrics(global_labels={"app": "test"})
    assert {m.key for m in metrics.counters} == {"prisma_client_queries_total", "prisma_client_errors_total"}
    assert all(m.labels == {"app": "test"} for m in metrics.gauges)
    text = await db.get_metrics(format="prometheus")
    assert "# TYPE prisma_client_queries_total counter\nprisma_client_queries_total " in text
