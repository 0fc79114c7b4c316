"""What the proxies share in Mongo: flags with their epochs, leases, the registry of replicas, audit."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from adapters.mongo.store import MongoStore
from adapters.side import Flag, Replica
from tests.mongo_case import Database, another_program, connected


@pytest.fixture
async def store(mongo_database: str) -> AsyncIterator[MongoStore]:
    async with connected(mongo_database) as store:
        yield store


@pytest.fixture
async def raw(mongo_database: str) -> AsyncIterator[Database]:
    async with another_program(mongo_database) as database:
        yield database


# Flags


async def test_a_copy_is_written_where_lower_and_tells_when_it_was_decided(store: MongoStore) -> None:
    first = Flag("video", "dualwrite", 1, term=1, changed_at=datetime(2026, 1, 1, tzinfo=UTC), changed_by="ada")
    assert await store.state.save_flag(first)
    assert not await store.state.save_flag(Flag("video", "off", 1))
    second = Flag("video", "shadow", 7, "live", 5, 50, 6, datetime(2026, 2, 1, tzinfo=UTC), "bob")
    assert await store.state.save_flag(second)
    assert not await store.state.save_flag(first)
    [stored] = await store.state.flags()
    assert replace(stored, age=0.0) == second
    # The age is that of what this store holds: clocks of two stores are not compared.
    assert 0 <= stored.age < 3600


async def test_a_decision_is_made_where_the_epoch_is_what_it_was_based_on(store: MongoStore) -> None:
    state = store.state
    assert not await state.save_flag(Flag("video", "shadow", 4), after=3)
    assert await state.flags() == []
    assert await state.save_flag(Flag("video", "dualwrite", 1), after=0)
    assert not await state.save_flag(Flag("video", "off", 1), after=0)
    assert not await state.save_flag(Flag("video", "shadow", 3), after=2)
    assert await state.save_flag(Flag("video", "shadow", 2, term=2), after=1)
    assert not await state.save_flag(Flag("video", "off", 2), after=1)
    [flag] = await state.flags()
    assert (flag.stage, flag.epoch, flag.term) == ("shadow", 2, 2)


async def test_a_decision_is_made_now(store: MongoStore) -> None:
    await store.state.save_flag(Flag("video", "dualwrite", 1, changed_at=datetime(2020, 1, 1, tzinfo=UTC)), after=0)
    [flag] = await store.state.flags()
    assert flag.changed_at is not None
    assert datetime.now(UTC) - flag.changed_at < timedelta(hours=1)


async def test_a_row_of_epoch_zero_is_as_none(store: MongoStore) -> None:
    assert await store.state.save_flag(Flag("video", "off", 0))
    assert await store.state.save_flag(Flag("video", "dualwrite", 1), after=0)


async def test_of_several_deciders_one_is_first(mongo_database: str) -> None:
    async with connected(mongo_database) as one, connected(mongo_database) as two:
        for epoch in range(20):
            decided = await asyncio.gather(
                *(
                    store.state.save_flag(Flag("video", who, epoch + 1), after=epoch)
                    for who, store in zip("abcd", (one, two, one, two), strict=True)
                )
            )
            assert sum(decided) == 1
            assert [flag.stage for flag in await two.state.flags()] == ["abcd"[decided.index(True)]]


async def test_of_several_copies_of_one_epoch_one_is_first(store: MongoStore) -> None:
    for epoch in range(1, 6):
        saved = await asyncio.gather(*(store.state.save_flag(Flag("video", who, epoch)) for who in "abcd"))
        assert sum(saved) == 1
        assert [flag.stage for flag in await store.state.flags()] == ["abcd"[saved.index(True)]]


async def test_flags_of_before_there_were_terms(store: MongoStore, raw: Database) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    row = {"stage": "shadow", "epoch": 3, "target": None, "serve": 0, "sample": 100, "changedBy": "a", "changedAt": at}
    await raw.strangler_flags.insert_one({"_id": "video", **row})
    [flag] = await store.state.flags()
    assert replace(flag, age=0.0) == Flag("video", "shadow", 3, changed_at=at, changed_by="a")
    assert flag.age > 24 * 3600


# Leases


async def test_a_lease_is_held_by_one_until_it_is_released(store: MongoStore) -> None:
    state = store.state
    assert await state.lease("follow", "one", 60)
    assert not await state.lease("follow", "two", 60)
    assert await state.lease("sweep", "two", 60)
    assert await state.lease("follow", "one", 60)
    await state.release("follow", "two")
    assert not await state.lease("follow", "two", 60)
    await state.release("follow", "one")
    await state.release("follow", "one")
    assert await state.lease("follow", "two", 60)
    assert not await state.lease("follow", "one", 60)


async def test_a_lease_that_has_run_out_is_for_whoever_comes(store: MongoStore) -> None:
    assert await store.state.lease("follow", "one", 0)
    assert await store.state.lease("follow", "two", 60)
    assert not await store.state.lease("follow", "one", 60)


async def test_to_ask_for_a_lease_does_not_lengthen_it(store: MongoStore, raw: Database) -> None:
    await store.state.lease("follow", "one", 60)
    before = await raw.strangler_leases.find_one({"_id": "follow"})
    await store.state.lease("follow", "two", 3600)
    assert await raw.strangler_leases.find_one({"_id": "follow"}) == before
    await store.state.lease("follow", "one", 3600)
    after = await raw.strangler_leases.find_one({"_id": "follow"})
    assert before is not None
    assert after is not None
    assert after["until"] - before["until"] > timedelta(seconds=1800)
    assert after.keys() == before.keys()


async def test_of_many_who_want_a_lease_at_once_one_has_it(mongo_database: str) -> None:
    async with connected(mongo_database) as one, connected(mongo_database) as two:
        for name in "abcdefgh":
            held = await asyncio.gather(
                *(store.state.lease(name, f"{n}", 60) for n, store in enumerate((one, two, one, two)))
            )
            assert sum(held) == 1


async def test_a_holders_name_is_no_expression(store: MongoStore) -> None:
    assert await store.state.lease("follow", "$holder", 60)
    assert not await store.state.lease("follow", "$until", 60)
    assert await store.state.lease("follow", "$holder", 60)


# Replicas


async def test_replicas_beat_and_are_forgotten(store: MongoStore) -> None:
    await store.state.beat(Replica("one", {"video": 3}))
    await store.state.beat(Replica("two", {}))
    await store.state.beat(Replica("one", {"account": 4}, {"account": (100, 2)}))
    one, two = await store.state.replicas()
    assert (one.id, one.epochs, one.seen) == ("one", {"account": 4}, {"account": (100, 2)})
    assert (two.id, two.epochs, two.seen) == ("two", {}, {})
    assert 0 <= one.age < 60
    await store.state.forget_replica("one", silent=60.0)
    assert len(await store.state.replicas()) == 2, "it has beaten since"
    await store.state.forget_replica("one")
    await store.state.forget_replica("one")
    assert [replica.id for replica in await store.state.replicas()] == ["two"]


async def test_audit(store: MongoStore, raw: Database) -> None:
    await store.state.audit({"entity": "video", "who": "ada", "action": "set"})
    [entry] = await raw.strangler_audit.find({}, {"_id": 0}).to_list()
    assert isinstance(entry.pop("at"), datetime)
    assert entry == {"entity": "video", "who": "ada", "action": "set"}
