"""PostgreSQL and the engine behind a relay: black holes, silent connections, answers that are lost, kills."""

import asyncio
import os
import random
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from adapters.engine import Call, Engine, EngineError, EngineTimeout, Unavailable
from adapters.prisma.marking import Transactions
from adapters.prisma.store import PrismaStore
from adapters.side import Operation, Outcome
from adapters.side import Unavailable as SideUnavailable
from tests.faults.relay import Fault, Relay, relayed
from tests.prisma_case import DEADLINE, account, connected, keyed, wallets

SILENCE = 3.0  # seconds that a statement may take where its connection is to go silent
NO_NAMES = "?pgbouncer=true"  # statements travel as their text, so that the relay can tell a COMMIT


@pytest.fixture
async def relay(database_url: str) -> AsyncIterator[Relay]:
    port = urlsplit(database_url).port
    assert port is not None
    async with relayed("postgres", port) as relay:
        yield relay


@pytest.fixture
async def direct(database_url: str) -> AsyncIterator[Engine]:
    """Past the relay."""
    async with connected(database_url) as (_, engine):
        yield engine


def through(relay: Relay, url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.username}@127.0.0.1:{relay.port}").geturl()


async def lost(engine: Engine, at_least: int = 1) -> None:
    """Return once the engine has found so many of its connections dead."""
    async with asyncio.timeout(DEADLINE):
        while (await engine.metrics())["pool"]["lost"] < at_least:
            await asyncio.sleep(0.01)


async def warm(engine: Engine, connections: int) -> None:
    """Have so many connections open and idle."""
    held = await asyncio.gather(*(engine.begin(max_wait=DEADLINE) for _ in range(connections)))
    await asyncio.gather(*(engine.rollback(tx) for tx in held))
    assert (await engine.metrics())["pool"]["total"] == connections


def create(wallet: str) -> Operation:
    return Operation("account", "create", data={"walletAddress": wallet})


# Black holes


async def test_it_starts_before_a_black_hole_and_says_within_its_limit_that_it_is_one(
    relay: Relay, database_url: str
) -> None:
    relay.hole()
    async with asyncio.timeout(DEADLINE), connected(through(relay, database_url), connect=0.3) as (store, engine):
        read = Call.query_raw("SELECT 1 AS one")
        for asked in (engine.query_raw("SELECT 1 AS one"), engine.transaction([read]), engine.begin()):
            with pytest.raises(Unavailable) as caught:
                await asked
            assert not caught.value.sent
        with pytest.raises(SideUnavailable) as refused:
            await store.perform(create("w"), mark=True)
        assert not refused.value.sent
        assert not await engine.is_healthy()
        relay.heal()
        assert await engine.query_raw("SELECT 1 AS one") == [{"one": 1}]
        assert await engine.is_healthy()


async def test_more_callers_than_connections_all_hear_that_it_is_a_black_hole(relay: Relay, database_url: str) -> None:
    relay.hole()
    async with (
        asyncio.timeout(DEADLINE),
        connected(through(relay, database_url), pool=2, connect=0.3, timeout=DEADLINE) as (_, engine),
    ):
        answers = await asyncio.gather(
            *(engine.query_raw("SELECT 1 AS one") for _ in range(20)), return_exceptions=True
        )
        assert all(isinstance(answer, Unavailable) and not answer.sent for answer in answers)
        relay.heal()
        assert await engine.query_raw("SELECT 1 AS one") == [{"one": 1}]
        assert (await engine.metrics())["inFlight"] == 1


async def test_connections_that_have_gone_silent_are_all_given_up_once_one_is_found(
    relay: Relay, database_url: str
) -> None:
    async with connected(through(relay, database_url), pool=4, timeout=SILENCE) as (_, engine):
        await warm(engine, 4)
        for connection in relay.connections:
            connection.give(Fault("hole"))
        with pytest.raises(EngineError) as caught:
            await engine.query_raw("SELECT 1 AS one")
        assert isinstance(caught.value, EngineTimeout | Unavailable)
        assert caught.value.sent
        await lost(engine)
        answers = await asyncio.gather(*(engine.query_raw("SELECT 1 AS one") for _ in range(4)))
        assert answers == [[{"one": 1}]] * 4
        assert (await engine.metrics())["pool"]["total"] <= 4


@pytest.mark.parametrize("statement", ["batch", "interactive"])
async def test_a_transaction_whose_connection_goes_silent_gives_it_up(
    relay: Relay, database_url: str, statement: str
) -> None:
    async with connected(through(relay, database_url), pool=1, timeout=SILENCE) as (_, engine):
        tx = await engine.begin(timeout=60.0) if statement == "interactive" else None
        await warm(engine, 1) if tx is None else await engine.query_raw("SELECT 1 AS one", tx=tx)
        for connection in relay.connections:
            connection.give(Fault("hole"))
        with pytest.raises(EngineError) as caught:
            await engine.transaction([Call.query_raw("SELECT 1 AS one")], tx=tx)
        assert isinstance(caught.value, EngineTimeout | Unavailable)
        await lost(engine)
        if tx is not None:
            with pytest.raises(EngineError):
                await engine.commit(tx)
        # The only connection of the pool is free for another one.
        async with asyncio.timeout(DEADLINE):
            while not await engine.is_healthy():
                await asyncio.sleep(0.01)
        assert (await engine.metrics())["transactions"] == 0


async def test_a_black_hole_under_load_ends_with_it(relay: Relay, database_url: str) -> None:
    async with connected(through(relay, database_url), pool=4, connect=0.3, timeout=SILENCE) as (_, engine):
        await warm(engine, 4)
        relay.hole()
        answers = await asyncio.gather(
            *(engine.query_raw("SELECT 1 AS one") for _ in range(50)), return_exceptions=True
        )
        assert all(isinstance(answer, EngineTimeout | Unavailable) for answer in answers)
        relay.heal()
        async with asyncio.timeout(DEADLINE):
            while not await engine.is_healthy():
                await asyncio.sleep(0.01)
        answers = await asyncio.gather(*(engine.query_raw("SELECT 1 AS one") for _ in range(50)))
        assert answers == [[{"one": 1}]] * 50


async def test_idle_connections_that_are_cut_are_counted_and_replaced(relay: Relay, database_url: str) -> None:
    async with connected(through(relay, database_url), pool=3) as (_, engine):
        await warm(engine, 3)
        for connection in relay.connections:
            connection.reset()
        await lost(engine, 3)
        assert await engine.query_raw("SELECT 1 AS one") == [{"one": 1}]


async def test_an_engine_that_does_not_read_is_not_sent_ever_more(database_url: str) -> None:
    async with connected(database_url, timeout=0.2) as (_, engine):
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGSTOP)
        try:
            for _ in range(20):
                with pytest.raises(EngineError) as caught:
                    await engine.query_raw("SELECT length($1) AS n", "x" * 16 * 2**20)
                if isinstance(caught.value, Unavailable):
                    break
                assert isinstance(caught.value, EngineTimeout)
            assert (caught.value.code, getattr(caught.value, "sent", None)) == ("BUSY", False)
        finally:
            os.kill(engine.pid, signal.SIGCONT)
        async with asyncio.timeout(DEADLINE):
            while not await engine.is_healthy():
                await asyncio.sleep(0.01)


# A commit whose acknowledgement was lost


@asynccontextmanager
async def unnamed(relay: Relay, database_url: str) -> AsyncIterator[tuple[PrismaStore, Engine]]:
    async with connected(through(relay, database_url + NO_NAMES), pool=2) as pair:
        await pair[1].query_raw("SELECT 1 AS one")
        yield pair


async def test_a_write_whose_commit_is_not_acknowledged_may_have_been_and_its_mark_says_so(
    relay: Relay, database_url: str, direct: Engine
) -> None:
    async with unnamed(relay, database_url) as (store, _):
        relay.lose_answers(1, b"COMMIT")
        with pytest.raises(SideUnavailable) as caught:
            await store.perform(create("committed"), mark=True)
        assert caught.value.sent
        assert relay.lost == 1
        [key] = await wallets(direct)
        [mark] = await store.marks("account", 10)
        assert mark.key == key


async def test_so_may_a_write_without_transaction(relay: Relay, database_url: str, direct: Engine) -> None:
    async with unnamed(relay, database_url) as (store, _):
        relay.lose_answers(1, b"INSERT")
        with pytest.raises(SideUnavailable) as caught:
            await store.perform(create("written"))
        assert caught.value.sent
        assert list((await wallets(direct)).values()) == ["written"]


async def test_so_may_a_handlers_transaction(relay: Relay, database_url: str, direct: Engine) -> None:
    async def handled(transactions: Transactions) -> None:
        async with transactions.begin(admitted) as transaction:
            await transaction.client.account.create({"id": secrets.token_hex(12), "walletAddress": "by a handler"})
            relay.lose_answers(1, b"COMMIT")

    async def admitted(entity: str) -> bool:
        return True

    async with unnamed(relay, database_url) as (store, engine):
        with pytest.raises(SideUnavailable) as caught:
            await handled(Transactions(engine, {"Account": "account"}))
        assert caught.value.sent
        [key] = await wallets(direct)
        assert [mark.key for mark in await store.marks("account", 10)] == [key]


async def test_a_settle_whose_commit_is_not_acknowledged_can_be_done_again(
    relay: Relay, database_url: str, direct: Engine
) -> None:
    async with unnamed(relay, database_url) as (store, _):
        await store.turn("account", 1)
        one = account("one")
        relay.lose_answers(1, b"COMMIT")
        with pytest.raises(SideUnavailable) as caught:
            await store.apply("account", 1, 5, keyed(one))
        assert caught.value.sent
        assert await wallets(direct) == {one["id"]: "one"}
        assert (await store.apply("account", 1, 5, keyed(one))).written == {one["id"]}


async def test_a_write_whose_connection_is_cut_before_its_commit_is_not_there_nor_is_its_mark(
    relay: Relay, database_url: str, direct: Engine
) -> None:
    async with unnamed(relay, database_url) as (store, _):
        relay.lose_answers(1, b'INSERT INTO "public"."accounts"')
        with pytest.raises(SideUnavailable):
            await store.perform(create("not committed"), mark=True)
        assert relay.lost == 1
        assert await wallets(direct) == {}
        assert await store.marks("account", 10) == []


async def test_an_engine_killed_around_a_commit_leaves_the_write_with_its_mark_or_neither(
    relay: Relay, database_url: str, direct: Engine
) -> None:
    """Each packet takes its time, so that the kill falls now before, now after the commit has gone out."""
    rng = random.Random(3)
    relay.delay(0.01)
    for turn in range(6):
        async with connected(through(relay, database_url)) as (store, engine):
            await store.perform(create(f"before {turn}"), mark=True)
            write = asyncio.create_task(store.perform(create(f"{turn}"), mark=True))
            await asyncio.wait([write], timeout=rng.uniform(0.02, 0.14))
            assert engine.pid is not None
            os.kill(engine.pid, signal.SIGKILL)
            [outcome] = await asyncio.gather(write, return_exceptions=True)
            assert isinstance(outcome, Outcome | SideUnavailable)
            if isinstance(outcome, Outcome):
                assert f"{turn}" in (await wallets(direct)).values()
            else:
                assert outcome.sent
        # What the killed engine had begun may end later: whenever one looks, the write and its mark are there or not.
        alone = "SELECT a._id, m.key FROM accounts a FULL JOIN strangler_mark m ON m.key = a._id"
        assert await direct.query_raw(f"{alone} WHERE a._id IS NULL OR m.key IS NULL") == []
    assert {f"before {turn}" for turn in range(6)} <= set((await wallets(direct)).values())
