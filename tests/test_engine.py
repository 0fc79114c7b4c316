"""Calls, transactions and errors of the engine, on the product's own schema."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from prisma import errors

from adapters.client import client
from adapters.engine import (
    Call,
    Engine,
    EngineError,
    EngineTimeout,
    ForeignKeyViolation,
    Invalid,
    Json,
    RecordNotFound,
    TransactionClosed,
    Unavailable,
    UniqueViolation,
    WriteConflict,
)
from adapters.engine.errors import engine_error
from adapters.engine.link import LONGEST

ADA, BOB = "a" * 24, "b" * 24


@pytest.fixture(scope="module")
async def shared(module_database_url: str) -> AsyncIterator[Engine]:
    engine = Engine(module_database_url, pool=5)
    await engine.connect()
    yield engine
    await engine.disconnect()


@pytest.fixture
async def engine(shared: Engine) -> Engine:
    for model in ("Notification", "Video", "Profile", "Account", "StranglerFence", "StranglerMark"):
        await shared.call(model, "deleteMany", {})
    return shared


def account(id: str, wallet: str) -> Call:
    return Call("Account", "create", {"data": {"id": id, "walletAddress": wallet}})


async def add(engine: Engine, id: str, wallet: str) -> dict[str, Any]:
    made: dict[str, Any] = await engine.call("Account", "create", account(id, wallet).args)
    return made


async def wallets(engine: Engine, tx: str | None = None) -> list[str]:
    rows = await engine.call("Account", "findMany", {"orderBy": {"id": "asc"}}, tx=tx)
    return [row["walletAddress"] for row in rows]


async def test_replies_reach_their_own_caller_in_any_order(engine: Engine) -> None:
    tx = await engine.begin()
    await engine.query_raw("SELECT pg_advisory_xact_lock(7)::text AS held", tx=tx)
    last = asyncio.ensure_future(engine.query_raw("SELECT 'last' AS who, pg_advisory_xact_lock(7)::text AS held"))
    others = [engine.query_raw("SELECT $1::int AS n", n) for n in range(200)]
    assert [rows[0]["n"] for rows in await asyncio.gather(*others)] == list(range(200))
    assert not last.done()
    await engine.rollback(tx)
    assert (await last)[0]["who"] == "last"


async def test_messages_of_sixteen_mebibytes_pass_both_ways(engine: Engine) -> None:
    await add(engine, ADA, "w")
    text = "0123456789abcdeø" * 2**20
    data = {"id": BOB, "accountId": ADA, "type": "NFT_VERIFIED", "title": "t", "message": text, "data": Json([text])}
    answers = await asyncio.gather(
        engine.call("Notification", "create", {"data": data}), engine.query_raw("SELECT 1 AS one")
    )
    assert answers[1] == [{"one": 1}]
    assert answers[0]["message"] == answers[0]["data"][0] == text


async def test_a_call_that_is_too_long_is_refused_before_it_is_sent(engine: Engine) -> None:
    with pytest.raises(Invalid, match="longer than"):
        await engine.query_raw("SELECT $1", "x" * LONGEST)
    assert await engine.query_raw("SELECT length($1) AS n", "x" * (LONGEST - 1000)) == [{"n": LONGEST - 1000}]


async def test_a_batch_is_one_transaction_and_answers_every_call(engine: Engine) -> None:
    made, counted, affected = await engine.transaction(
        [
            account(ADA, "one"),
            Call.query_raw("SELECT count(*) AS n, $1::text AS given FROM accounts", "it"),
            Call.execute_raw('UPDATE accounts SET "walletAddress" = $2 WHERE _id = $1', ADA, "two"),
        ]
    )
    assert (made["walletAddress"], counted, affected) == ("one", [{"n": 1, "given": "it"}], 1)
    assert await wallets(engine) == ["two"]


async def test_a_batch_whose_last_call_fails_leaves_nothing(engine: Engine) -> None:
    with pytest.raises(UniqueViolation):
        await engine.transaction([account(ADA, "one"), account(BOB, "two"), account(ADA, "three")])
    with pytest.raises(EngineError):
        await engine.transaction([account(ADA, "one"), Call.execute_raw("UPDATE nowhere SET x = 1")])
    assert await wallets(engine) == []
    assert (await engine.metrics())["transactions"] == 0


async def test_an_empty_batch_is_no_error(engine: Engine) -> None:
    assert await engine.transaction([]) == []


async def test_serializable_batches_that_collide_conflict(engine: Engine) -> None:
    """Each reads both accounts and changes its own: one of two concurrent ones has to give way."""
    await engine.transaction([account(ADA, "on-a"), account(BOB, "on-b")])
    read = "SELECT count(*) AS n FROM accounts WHERE \"walletAddress\" LIKE 'on%'"
    both = [await engine.begin(isolation="Serializable") for _ in range(2)]
    for tx in both:
        await engine.query_raw(read, tx=tx)
    results: list[BaseException | None] = []
    for tx, id in zip(both, (ADA, BOB), strict=True):
        change = {"where": {"id": id}, "data": {"walletAddress": f"off{id}"}}
        try:
            await engine.call("Account", "update", change, tx=tx)
            await engine.commit(tx)
            results.append(None)
        except EngineError as error:
            results.append(error)
            await engine.rollback(tx)
    assert results[0] is None
    assert isinstance(results[1], WriteConflict)


async def test_an_interactive_transaction_is_isolated_until_it_commits(engine: Engine) -> None:
    tx = await engine.begin()
    await engine.call("Account", "create", account(ADA, "one").args, tx=tx)
    await engine.transaction([account(BOB, "two")], tx=tx)
    assert await engine.execute_raw('UPDATE accounts SET "walletAddress" = upper("walletAddress")', tx=tx) == 2
    assert await wallets(engine, tx) == ["ONE", "TWO"]
    assert await wallets(engine) == []
    assert (await engine.metrics())["transactions"] == 1
    await engine.commit(tx)
    assert await wallets(engine) == ["ONE", "TWO"]


async def test_a_rolled_back_transaction_leaves_nothing_and_is_over(engine: Engine) -> None:
    tx = await engine.begin()
    await engine.call("Account", "create", account(ADA, "one").args, tx=tx)
    await engine.rollback(tx)
    assert await wallets(engine) == []
    for late in (engine.commit(tx), engine.rollback(tx), engine.call("Account", "count", {}, tx=tx)):
        with pytest.raises(TransactionClosed) as caught:
            await late
        assert caught.value.reason == "rolled back"
    with pytest.raises(TransactionClosed) as caught:
        await engine.commit("never-begun")
    assert caught.value.reason == "unknown"


async def test_an_abandoned_transaction_is_rolled_back_at_its_timeout(engine: Engine) -> None:
    await add(engine, ADA, "one")
    tx = await engine.begin(timeout=0.2)
    await engine.call("Account", "update", {"where": {"id": ADA}, "data": {"walletAddress": "two"}}, tx=tx)
    # This update waits for the row that the transaction has locked, so for its end.
    await engine.call("Account", "update", {"where": {"id": ADA}, "data": {"walletAddress": "three"}})
    assert await wallets(engine) == ["three"]
    with pytest.raises(TransactionClosed) as caught:
        await engine.commit(tx)
    assert caught.value.reason == "expired"


async def test_a_transaction_that_finds_no_connection_in_time_does_not_begin(module_database_url: str) -> None:
    engine = Engine(module_database_url, pool=1)
    await engine.connect()
    try:
        tx = await engine.begin()
        with pytest.raises(Unavailable) as caught:
            await engine.begin(max_wait=0.05)
        assert not caught.value.sent
        with pytest.raises(errors.TransactionError):
            await client(engine).tx(max_wait=timedelta(milliseconds=50)).start()
        await engine.rollback(tx)
        assert await engine.query_raw("SELECT 1 AS one") == [{"one": 1}]
    finally:
        await engine.disconnect()


async def test_errors_say_what_and_where(engine: Engine) -> None:
    await add(engine, ADA, "secret-wallet")
    with pytest.raises(UniqueViolation) as unique:
        await add(engine, BOB, "secret-wallet")
    assert (unique.value.fields, unique.value.code, unique.value.sqlstate) == (("walletAddress",), "P2002", "23505")
    with pytest.raises(UniqueViolation) as same_id:
        await add(engine, ADA, "other")
    assert same_id.value.fields == ("id",)
    with pytest.raises(ForeignKeyViolation) as orphan:
        await engine.call("Profile", "create", {"data": {"id": ADA, "accountId": BOB, "username": "secret-name"}})
    assert (orphan.value.field, orphan.value.code) == ("accountId", "P2003")
    with pytest.raises(RecordNotFound) as missing:
        await engine.call("Account", "update", {"where": {"id": BOB}, "data": {}})
    assert missing.value.code == "P2025"
    for error in (unique, same_id, orphan, missing):
        assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("raw", "sent"),
    [
        ({"code": "P1017", "meta": {}}, True),
        ({"code": "P2010", "meta": {"kind": "ConnectionClosed"}}, True),
        ({"code": None, "meta": {"kind": "SocketTimeout"}}, True),
        ({"code": "P2010", "meta": {"sqlstate": "57P01"}}, True),
        ({"code": "P2010", "meta": {"sqlstate": "08006"}}, True),
        ({"code": "P2010", "meta": {"sqlstate": "57P03"}}, False),
        ({"code": "P2010", "meta": {"sqlstate": "08001"}}, False),
        ({"code": "P1001", "meta": {"kind": "DatabaseNotReachable"}}, False),
        ({"code": "P2024", "meta": {}}, False),
        ({"code": "P2010", "meta": {"sqlstate": "53300"}}, False),
    ],
)
def test_what_is_unavailable_says_whether_it_may_have_happened(raw: dict[str, Any], sent: bool) -> None:
    error = engine_error({"message": "away", **raw}, {})
    assert isinstance(error, Unavailable)
    assert error.sent is sent


@pytest.mark.parametrize(
    ("action", "args", "says"),
    [
        ("create", {"data": {"id": ADA}}, "walletAddress"),
        ("create", {"data": {"id": ADA, "walletAddress": "secret", "nope": 1}}, "nope"),
        ("create", {"data": {"id": ADA, "walletAddress": {"$ne": "secret"}}}, "walletAddress"),
        ("findMany", {"where": {"nope": "secret"}}, "nope"),
        ("findMany", {"where": {"walletAddress": {"$ne": "secret"}}}, "$ne"),
        ("findMany", {"take": "secret"}, "take"),
        ("findMany", {"include": {"nope": True}}, "nope"),
        ("destroyEverything", {}, "destroyEverything"),
        ("constructor", {}, "constructor"),
    ],
)
async def test_arguments_that_do_not_fit_are_invalid_and_not_repeated(
    engine: Engine, action: str, args: dict[str, Any], says: str
) -> None:
    with pytest.raises(Invalid) as caught:
        await engine.call("Account", action, args)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_an_unknown_model_is_invalid(engine: Engine) -> None:
    for model in ("Nope", "account", "__proto__", "$queryRawUnsafe"):
        with pytest.raises(Invalid, match="unknown model"):
            await engine.call(model, "findMany", {})


async def test_raw_parameters_are_values_never_sql(engine: Engine) -> None:
    nasty = "'; DROP TABLE accounts; --"
    [row] = await engine.query_raw("SELECT $1 AS text", nasty)
    assert row == {"text": nasty}
    with pytest.raises(EngineError) as caught:
        await engine.query_raw("SELEC $1", 1)
    assert (caught.value.code, caught.value.sqlstate) == ("P2010", "42601")


async def test_a_statement_that_takes_too_long_is_cancelled(module_database_url: str) -> None:
    engine = Engine(module_database_url, timeout=0.3)
    await engine.connect()
    try:
        with pytest.raises(EngineTimeout) as caught:
            await engine.call("Account", "count", {}, timeout=0.0001)
        assert caught.value.sent
        with pytest.raises(EngineTimeout) as cancelled:
            await engine._request({"action": "queryRaw", "args": {"sql": "SELECT pg_sleep(30)", "params": []}}, 20.0)
        assert (cancelled.value.sent, cancelled.value.sqlstate) == (False, "57014")
        assert await engine.is_healthy()
    finally:
        await engine.disconnect()


async def test_a_violation_does_not_cost_the_connection(engine: Engine) -> None:
    await add(engine, ADA, "one")
    [before] = await engine.query_raw("SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = 'strangler'")
    for _ in range(10):
        with pytest.raises(UniqueViolation):
            await add(engine, BOB, "one")
    assert (await engine.metrics())["pool"]["total"] >= 1
    [after] = await engine.query_raw("SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = 'strangler'")
    assert after["n"] >= before["n"]


async def test_a_change_of_the_tables_under_prepared_statements(database_url: str) -> None:
    engine = Engine(database_url, pool=1)
    await engine.connect()
    try:
        for column in ("first", "second"):
            for _ in range(2):
                rows = await engine.query_raw("SELECT * FROM (SELECT 1) AS one LEFT JOIN accounts ON true")
            assert column not in rows[0]
            await engine.execute_raw(f"ALTER TABLE accounts ADD COLUMN {column} text")
            assert column in (await engine.query_raw("SELECT * FROM (SELECT 1) AS one LEFT JOIN accounts ON true"))[0]
        await engine.execute_raw("ALTER TABLE accounts DROP COLUMN second")
        read = Call.query_raw("SELECT * FROM (SELECT 1) AS one LEFT JOIN accounts ON true")
        with pytest.raises(WriteConflict):
            await engine.transaction([read, read])
        [[row], again] = await engine.transaction([read, read])
        assert again == [row]
        assert "second" not in row
    finally:
        await engine.disconnect()


async def test_without_prepared_statements_behind_a_pooler(database_url: str) -> None:
    engine = Engine(f"{database_url}?pgbouncer=true", pool=1)
    await engine.connect()
    try:
        assert await engine.call("Account", "count", {}) == 0
        assert await engine.query_raw("SELECT count(*) AS n FROM pg_prepared_statements") == [{"n": 0}]
    finally:
        await engine.disconnect()


async def test_more_calls_than_the_limit_are_refused_at_once(module_database_url: str) -> None:
    engine = Engine(module_database_url, limit=3)
    await engine.connect()
    try:
        calls = [asyncio.ensure_future(engine.query_raw("SELECT pg_sleep(0.1)::text AS x")) for _ in range(5)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [getattr(r, "code", None) for r in results] == [None, None, None, "BUSY", "BUSY"]
        assert (await engine.metrics())["inFlight"] == 1
    finally:
        await engine.disconnect()


async def test_whoever_stops_waiting_leaves_nothing_behind(engine: Engine) -> None:
    waiting = asyncio.ensure_future(engine.query_raw("SELECT pg_sleep(0.2)::text AS x"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await engine.query_raw("SELECT 1 AS one") == [{"one": 1}]


async def test_metrics_count(engine: Engine) -> None:
    before = await engine.metrics()
    await add(engine, ADA, "one")
    with pytest.raises(UniqueViolation):
        await add(engine, ADA, "one")
    after = await engine.metrics()
    assert (after["calls"] - before["calls"], after["errors"] - before["errors"]) == (3, 1)
    assert (after["pool"]["size"], after["restarts"], after["refused"]) == (5, 0, 0)
    assert after["inFlight"] >= 1
