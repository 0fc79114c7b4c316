"""What the proxies share in the Prisma database: flags, replicas, leases, audit and the quarantine."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from adapters.engine import Engine
from adapters.prisma.quarantine import PrismaQuarantine
from adapters.prisma.state import PrismaState
from adapters.side import Flag, Replica, Unavailable
from tests.prisma_case import connected, waiting_for_a_lock


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    async with connected(database_url, owner="this one") as (_, engine):
        yield engine


@pytest.fixture
def state(engine: Engine) -> PrismaState:
    return PrismaState(engine)


@pytest.fixture
def quarantine(engine: Engine) -> PrismaQuarantine:
    return PrismaQuarantine(engine)


# Flags


async def test_a_flag_comes_back_as_it_was_saved(state: PrismaState) -> None:
    flag = Flag("video", "shadow", 2**60, target="live", serve=5, sample=50, term=2**59, changed_by="ada")
    before = datetime.now(UTC)
    assert await state.save_flag(flag)
    [found] = await state.flags()
    assert found.changed_at is not None
    assert before - timedelta(seconds=1) < found.changed_at < before + timedelta(minutes=1)
    assert 0 <= found.age < 60
    assert replace(found, changed_at=None, age=0.0) == flag


async def test_a_decision_needs_exactly_the_epoch_that_it_is_based_on(state: PrismaState) -> None:
    assert not await state.save_flag(Flag("video", "off", 2), after=1)
    assert await state.flags() == []
    assert await state.save_flag(Flag("video", "dualwrite", 1), after=0)
    assert not await state.save_flag(Flag("video", "off", 1), after=0)
    assert not await state.save_flag(Flag("video", "off", 9), after=3)
    assert await state.save_flag(Flag("video", "shadow", 2), after=1)
    [flag] = await state.flags()
    assert (flag.stage, flag.epoch) == ("shadow", 2)


async def test_a_row_of_epoch_zero_is_like_none(state: PrismaState) -> None:
    assert await state.save_flag(Flag("video", "off", 0))
    assert not await state.save_flag(Flag("video", "off", 0))
    assert await state.save_flag(Flag("video", "dualwrite", 1), after=0)


async def test_a_copy_is_written_where_the_epoch_is_lower(state: PrismaState) -> None:
    assert await state.save_flag(Flag("video", "shadow", 5))
    for epoch in (4, 5):
        assert not await state.save_flag(Flag("video", "off", epoch))
    assert await state.save_flag(Flag("video", "live", 8))
    assert [flag.stage for flag in await state.flags()] == ["live"]


async def test_of_many_deciders_exactly_one_decides(state: PrismaState) -> None:
    for epoch in range(10):
        decided = await asyncio.gather(
            *(state.save_flag(Flag("video", "off", epoch + 1, changed_by=who), after=epoch) for who in "abcdef")
        )
        assert decided.count(True) == 1
        [flag] = await state.flags()
        assert (flag.epoch, flag.changed_by) == (epoch + 1, "abcdef"[decided.index(True)])


async def test_a_decision_that_waits_for_another_one_is_refused(state: PrismaState, engine: Engine) -> None:
    await state.save_flag(Flag("video", "off", 1))
    first = await engine.begin(timeout=20.0)
    await engine.execute_raw("UPDATE strangler_flag SET epoch = 2", tx=first)
    second = asyncio.create_task(state.save_flag(Flag("video", "dualwrite", 2), after=1))
    await waiting_for_a_lock(engine, "transactionid")
    await engine.commit(first)
    assert not await second


async def test_a_copy_keeps_when_it_was_changed_and_a_decision_is_made_now(state: PrismaState) -> None:
    long_ago = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    flag = Flag("video", "shadow", 3, changed_at=long_ago)
    await state.save_flag(flag)
    [copied] = await state.flags()
    assert copied.changed_at == long_ago
    assert copied.age < 60  # since this store was told, by its own clock
    await state.save_flag(replace(copied, epoch=4), after=3)
    [decided] = await state.flags()
    assert decided.changed_at is not None
    assert decided.changed_at > long_ago + timedelta(days=30)


async def test_a_flags_age_is_by_the_databases_clock(state: PrismaState, engine: Engine) -> None:
    await state.save_flag(Flag("video", "shadow", 3), after=None)
    await engine.execute_raw("UPDATE strangler_flag SET saved_at = saved_at - interval '90 seconds'")
    [flag] = await state.flags()
    assert 90 <= flag.age < 3600


# Replicas


async def test_beats_are_remembered_by_the_databases_clock(state: PrismaState, engine: Engine) -> None:
    await state.beat(Replica("one", {"video": 3}, {"video": (100, 2)}))
    await state.beat(Replica("two", {}))
    await engine.execute_raw("UPDATE strangler_replica SET heartbeat_at = heartbeat_at - interval '90 seconds'")
    await state.beat(Replica("two", {"video": 4}))
    one, two = await state.replicas()
    assert (one.id, one.epochs, one.seen) == ("one", {"video": 3}, {"video": (100, 2)})
    assert 90 <= one.age < 3600
    assert (two.id, two.epochs, two.seen) == ("two", {"video": 4}, {})
    assert 0 <= two.age < 60


async def test_a_forgotten_replica_is_gone_with_what_it_left_open(
    state: PrismaState, engine: Engine, database_url: str
) -> None:
    await state.beat(Replica("lost", {}))
    async with connected(database_url, owner="lost") as (_, lost), connected(database_url, owner="other") as (_, other):
        for at_work in (lost, other):
            tx = await at_work.begin(timeout=60.0)
            await at_work.query_raw("SELECT pg_advisory_xact_lock(hashtext($1))::text AS held", at_work.owner, tx=tx)
        waiting = asyncio.create_task(engine.query_raw("SELECT pg_advisory_lock(hashtext('lost'))::text AS mine"))
        await waiting_for_a_lock(engine, "advisory")
        await state.forget_replica("lost")
        await waiting
        still = "SELECT pg_try_advisory_xact_lock(hashtext('other')) AS free"
        assert await engine.query_raw(still) == [{"free": False}]
        # It is not barred: once it is heard of again, it works.
        assert await lost.query_raw("SELECT 1 AS one") == [{"one": 1}]
    assert await state.replicas() == []
    await state.forget_replica("never known")


async def test_a_replica_that_has_beaten_since_stays(state: PrismaState) -> None:
    await state.beat(Replica("back", {}))
    await state.forget_replica("back", silent=60.0)
    assert [replica.id for replica in await state.replicas()] == ["back"]
    await state.forget_replica("back")
    assert await state.replicas() == []


async def test_a_replica_that_leaves_keeps_its_own_connections(state: PrismaState, engine: Engine) -> None:
    await state.beat(Replica("this one", {}))
    tx = await engine.begin()
    await state.forget_replica("this one")
    assert await engine.query_raw("SELECT 1 AS one", tx=tx) == [{"one": 1}]
    await engine.commit(tx)
    assert await state.replicas() == []


# Leases


async def test_a_lease_is_one_holders_until_it_is_released(state: PrismaState) -> None:
    assert await state.lease("follow", "a", 60.0)
    assert not await state.lease("follow", "b", 60.0)
    assert await state.lease("sweep", "b", 60.0)
    assert await state.lease("follow", "a", 60.0)
    await state.release("follow", "b")
    assert not await state.lease("follow", "b", 60.0)
    await state.release("follow", "a")
    assert await state.lease("follow", "b", 60.0)
    assert not await state.lease("follow", "a", 60.0)


async def test_a_lease_ends_by_the_databases_clock(state: PrismaState, engine: Engine) -> None:
    assert await state.lease("follow", "a", 60.0)
    [row] = await engine.query_raw(
        "SELECT extract(epoch FROM until - now() AT TIME ZONE 'utc')::float8 AS left FROM strangler_lease"
    )
    assert 0 < row["left"] <= 60
    await engine.execute_raw("UPDATE strangler_lease SET until = until - interval '61 seconds'")
    assert await state.lease("follow", "b", 2.5)
    assert not await state.lease("follow", "a", 60.0)


async def test_of_many_who_want_a_lease_one_has_it(state: PrismaState, engine: Engine) -> None:
    for _ in range(5):
        taken = await asyncio.gather(*(state.lease("sweep", who, 60.0) for who in "abcdef"))
        assert taken.count(True) == 1
        await engine.execute_raw("UPDATE strangler_lease SET until = until - interval '61 seconds'")


# Audit


async def test_audit_entries_are_kept(state: PrismaState, engine: Engine) -> None:
    entry = {"entity": "video", "who": "ada", "action": "set", "fromStage": "off", "toStage": "dualwrite", "epoch": 3}
    await state.audit(entry)
    [row] = await engine.call("StranglerAudit", "findMany", {})
    assert {name: row[name] for name in entry} == entry


# Quarantine


async def test_a_refusal_keeps_its_first_time_and_its_last_reason(quarantine: PrismaQuarantine, engine: Engine) -> None:
    await quarantine.put("video", {})
    await quarantine.put("video", {"a": "first", "b": "other"})
    await engine.execute_raw("UPDATE strangler_quarantine SET since = since - interval '1 hour', tried_at = since")
    [before, _] = await quarantine.refusals("video")
    await quarantine.put("video", {"a": "second"})
    other, again = await quarantine.refusals("video")
    assert (other.key, other.reason, other.tries) == ("b", "other", 1)
    assert (again.entity, again.key, again.reason, again.tries) == ("video", "a", "second", 2)
    assert again.since == before.since
    assert again.age < 60


async def test_refusals_come_by_the_time_of_their_last_try(quarantine: PrismaQuarantine, engine: Engine) -> None:
    for entity, key in (("video", "c"), ("account", "b"), ("video", "a")):
        await quarantine.put(entity, {key: "why"})
    await engine.execute_raw(
        "UPDATE strangler_quarantine SET tried_at = tried_at - interval '1 minute' * (ascii(key) - 90)"
    )
    assert [refusal.key for refusal in await quarantine.refusals()] == ["c", "b", "a"]
    assert [refusal.key for refusal in await quarantine.refusals(limit=2)] == ["c", "b"]
    assert [refusal.key for refusal in await quarantine.refusals("video")] == ["c", "a"]
    assert (await quarantine.refusals())[2].age >= 7 * 60


async def test_keys_are_let_go(quarantine: PrismaQuarantine) -> None:
    await quarantine.put("video", {"a": "why", "b": "why", "c": "why"})
    await quarantine.put("account", {"a": "why"})
    assert await quarantine.sizes() == {"video": 3, "account": 1}
    assert await quarantine.take("video", []) == 0
    assert await quarantine.take("video", ["a", "c", "unknown"]) == 2
    assert await quarantine.take("account", ["a"]) == 1
    assert await quarantine.sizes() == {"video": 1}


async def test_keys_are_released_for_the_refusal_that_was_seen(quarantine: PrismaQuarantine) -> None:
    await quarantine.put("video", {"a": "why", "b": "why"})
    seen = await quarantine.stamps("video", ["a", "b", "unknown"])
    assert seen.keys() == {"a", "b"}
    await quarantine.put("video", {"b": "why"})
    assert await quarantine.release("video", {}) == 0
    assert await quarantine.release("video", seen) == 1
    assert [refusal.key for refusal in await quarantine.refusals("video")] == ["b"]


async def test_any_reason_can_be_kept(quarantine: PrismaQuarantine) -> None:
    await quarantine.put("video", {"a": "a NUL\0 and half a character \ud800" + "x" * 100_000})
    [refusal] = await quarantine.refusals()
    assert refusal.reason.startswith("a NUL\\0 and half a character ?x")
    assert len(refusal.reason) < 2000


async def test_those_who_put_the_same_keys_at_once_all_count(quarantine: PrismaQuarantine) -> None:
    keys = [f"{n}" for n in range(50)]
    await asyncio.gather(
        *(quarantine.put("video", dict.fromkeys(keys if turn % 2 else keys[::-1], "why")) for turn in range(6))
    )
    assert {refusal.tries for refusal in await quarantine.refusals()} == {6}


async def test_a_database_that_is_away_is_told() -> None:
    async with connected("postgresql://nobody@127.0.0.1:9/nothing") as (store, _):
        for asked in (
            store.state.flags(),
            store.state.save_flag(Flag("video", "off", 1)),
            store.state.lease("follow", "a", 1.0),
            store.quarantine.sizes(),
            store.marks("video", 1),
            store.outbox(),
            store.mark("video", [None]),
            store.turn("video", 1),
        ):
            with pytest.raises(Unavailable):
                await asked
