"""The Prisma side as a store: the gate before a settle, the outbox, and which keys have changed."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from adapters.engine import Engine
from adapters.prisma.store import PrismaStore, new_key
from adapters.side import Applied, Backlog, Conflict, Document, Invalid, Operation, Orphan, Stale
from tests.prisma_case import CREATED, account, connected, keyed, waiting_for_a_lock, wallets

TERM = 7


@pytest.fixture
async def pair(database_url: str) -> AsyncIterator[tuple[PrismaStore, Engine]]:
    async with connected(database_url) as (store, engine):
        for entity in ("account", "profile"):
            await store.turn(entity, TERM)
        yield store, engine


@pytest.fixture
def store(pair: tuple[PrismaStore, Engine]) -> PrismaStore:
    return pair[0]


@pytest.fixture
def engine(pair: tuple[PrismaStore, Engine]) -> Engine:
    return pair[1]


async def fences(engine: Engine) -> dict[str, int]:
    return {row["key"]: row["token"] for row in await engine.call("StranglerFence", "findMany", {})}


# The gate


async def test_a_settle_of_the_stores_term_is_applied_and_fenced(store: PrismaStore, engine: Engine) -> None:
    one, two = account("one"), account("two")
    assert await store.apply("account", TERM, 5, keyed(one, two)) == Applied(frozenset({one["id"], two["id"]}))
    assert await wallets(engine) == {one["id"]: "one", two["id"]: "two"}
    late = await store.apply("account", TERM, 4, {one["id"]: None, two["id"]: {**two, "walletAddress": "late"}})
    assert late == Applied(superseded=frozenset({one["id"], two["id"]}))
    gone = await store.apply("account", TERM, 6, {one["id"]: None})
    assert gone.written == {one["id"]}
    assert await wallets(engine) == {two["id"]: "two"}
    assert await fences(engine) == {one["id"]: 6, two["id"]: 5}


@pytest.mark.parametrize("term", [TERM - 1, TERM + 1])
async def test_a_settle_of_another_term_is_stale_and_writes_nothing(
    store: PrismaStore, engine: Engine, term: int
) -> None:
    one = account("one")
    with pytest.raises(Stale) as caught:
        await store.apply("account", term, 5, keyed(one))
    assert caught.value.term == TERM
    with pytest.raises(Stale):
        await store.apply("account", term, 5, {one["id"]: None})
    assert await wallets(engine) == {}
    assert await fences(engine) == {}


async def test_an_entity_without_a_term_takes_no_settle(store: PrismaStore, engine: Engine) -> None:
    with pytest.raises(Stale) as caught:
        await store.apply("video", 0, 5, {new_key(): None})
    assert caught.value.term == -1
    await store.turn("video", 0)
    assert len((await store.apply("video", 0, 5, {new_key(): None})).written) == 1


async def test_the_same_settle_again_is_stale_too_once_the_term_is_over(store: PrismaStore, engine: Engine) -> None:
    """Its fence is its own still: only the gate keeps it out."""
    one = account("one")
    await store.apply("account", TERM, 5, keyed(one))
    await store.turn("account", TERM + 2)
    await store.perform(Operation("account", "update", {"id": one["id"]}, {"walletAddress": "of the new primary"}))
    with pytest.raises(Stale):
        await store.apply("account", TERM, 5, keyed(one))
    assert await wallets(engine) == {one["id"]: "of the new primary"}


async def test_a_term_is_never_lowered_and_is_one_entitys(store: PrismaStore) -> None:
    await store.turn("account", TERM + 5)
    await store.turn("account", TERM)
    with pytest.raises(Stale) as caught:
        await store.apply("account", TERM, 1, {new_key(): None})
    assert caught.value.term == TERM + 5
    assert (await store.apply("profile", TERM, 1, {new_key(): None})).written


async def test_a_turn_waits_for_the_settles_under_way_and_refuses_later_ones(
    store: PrismaStore, engine: Engine
) -> None:
    one = account("one")
    await store.apply("account", TERM, 1, keyed(one))
    held = await engine.begin(timeout=20.0)
    await engine.query_raw('SELECT 1 AS one FROM "strangler_fence" WHERE "key" = $1 FOR UPDATE', one["id"], tx=held)
    settle = asyncio.create_task(store.apply("account", TERM, 2, keyed({**one, "walletAddress": "two"})))
    await waiting_for_a_lock(engine, "transactionid")
    turn = asyncio.create_task(store.turn("account", TERM + 2))
    await waiting_for_a_lock(engine, "advisory")
    overtaking = asyncio.create_task(store.apply("account", TERM, 3, keyed(account("later"))))
    assert not turn.done()
    assert not settle.done()
    await engine.rollback(held)
    assert (await settle).written == {one["id"]}
    await turn
    with pytest.raises(Stale) as caught:
        await overtaking
    assert caught.value.term == TERM + 2
    with pytest.raises(Stale):
        await store.apply("account", TERM, 4, keyed({**one, "walletAddress": "three"}))
    assert await wallets(engine) == {one["id"]: "two"}


async def test_a_turn_to_the_term_that_is_waits_as_well(store: PrismaStore, engine: Engine) -> None:
    one = account("one")
    await store.apply("account", TERM, 1, keyed(one))
    held = await engine.begin(timeout=20.0)
    await engine.query_raw('SELECT 1 AS one FROM "strangler_fence" WHERE "key" = $1 FOR UPDATE', one["id"], tx=held)
    settle = asyncio.create_task(store.apply("account", TERM, 2, keyed(one)))
    await waiting_for_a_lock(engine, "transactionid")
    turn = asyncio.create_task(store.turn("account", TERM))
    await waiting_for_a_lock(engine, "advisory")
    await engine.rollback(held)
    await asyncio.gather(settle, turn)


async def test_a_settle_that_waits_for_a_turn_sees_what_it_decided(store: PrismaStore, engine: Engine) -> None:
    one, two = account("one"), account("two")
    turning = await engine.begin(timeout=20.0)
    await engine.query_raw('SELECT "strangler_turn"(\'account\', $1) AS "turned"', TERM + 2, tx=turning)
    old = asyncio.create_task(store.apply("account", TERM, 1, keyed(one)))
    new = asyncio.create_task(store.apply("account", TERM + 2, 2, keyed(two)))
    await waiting_for_a_lock(engine, "advisory")
    assert not old.done()
    assert not new.done()
    await engine.commit(turning)
    with pytest.raises(Stale) as caught:
        await old
    assert caught.value.term == TERM + 2
    assert (await new).written == {two["id"]}
    assert await wallets(engine) == {two["id"]: "two"}
    assert await fences(engine) == {two["id"]: 2}


async def test_a_turn_that_is_rolled_back_has_not_been(store: PrismaStore, engine: Engine) -> None:
    one = account("one")
    turning = await engine.begin(timeout=20.0)
    await engine.query_raw('SELECT "strangler_turn"(\'account\', $1) AS "turned"', TERM + 2, tx=turning)
    settle = asyncio.create_task(store.apply("account", TERM, 1, keyed(one)))
    await waiting_for_a_lock(engine, "advisory")
    await engine.rollback(turning)
    assert (await settle).written == {one["id"]}


async def test_settles_without_end_do_not_keep_a_turn_waiting(store: PrismaStore) -> None:
    """The gate is passed in the order of arrival: once the turn waits, no settle of the old term goes before it."""
    stale = 0

    async def settle_without_end() -> None:
        nonlocal stale
        keys = [new_key() for _ in range(20)]
        for token in range(1, 1_000_000):
            documents = keyed(*(account(f"{key}.{token}", key) for key in keys))
            try:
                await store.apply("account", TERM, token, documents)
            except Stale:
                stale += 1
                return

    settles = [asyncio.create_task(settle_without_end()) for _ in range(5)]
    async with asyncio.timeout(20):
        await store.turn("account", TERM + 2)
        await asyncio.gather(*settles)
    assert stale == 5


# What a settle brings


async def test_culprits_are_refused_and_the_rest_is_written(store: PrismaStore, engine: Engine) -> None:
    await store.apply("account", TERM, 1, keyed(account("taken")))
    good, bad = [account(secrets.token_hex(4)) for _ in range(9)], account("taken")
    documents = keyed(*good[:4], bad, *good[4:])
    applied = await store.apply("account", TERM, 2, documents)
    assert applied.written == set(documents) - {bad["id"]}
    assert isinstance(applied.refused[bad["id"]], Conflict)
    nul = account("nul\0")
    unfit = await store.apply("account", TERM, 3, keyed(nul, good[0]))
    assert isinstance(unfit.refused[nul["id"]], Invalid)
    assert unfit.written == {good[0]["id"]}
    child: Document = {
        "id": new_key(),
        "accountId": new_key(),
        "username": "u",
        "createdAt": CREATED,
        "updatedAt": CREATED,
    }
    orphan = await store.apply("profile", TERM, 4, keyed(child))
    assert isinstance(orphan.refused[child["id"]], Orphan)


async def test_unique_values_may_move_between_the_keys_of_a_settle(store: PrismaStore, engine: Engine) -> None:
    a, b, c, gone = account("a"), account("b"), account("c"), account("gone")
    await store.apply("account", TERM, 1, keyed(a, b, c, gone))
    swapped: dict[str, str | None] = {a["id"]: "b", b["id"]: "c", c["id"]: "a", new_key(): "gone"}
    documents = {key: account(wallet, key) for key, wallet in swapped.items() if wallet}
    applied = await store.apply("account", TERM, 2, {**documents, gone["id"]: None})
    assert applied == Applied(frozenset(swapped) | {gone["id"]})
    assert await wallets(engine) == swapped


async def test_a_value_that_another_key_keeps_is_refused_beside_values_that_move(
    store: PrismaStore, engine: Engine
) -> None:
    a, b, other = account("a"), account("b"), account("other")
    await store.apply("account", TERM, 1, keyed(a, b, other))
    thief = account("other")
    applied = await store.apply(
        "account", TERM, 2, keyed({**a, "walletAddress": "b"}, {**b, "walletAddress": "a"}, thief, account("new"))
    )
    assert isinstance(applied.refused[thief["id"]], Conflict)
    held = await wallets(engine)
    assert (held[a["id"]], held[b["id"]], held[other["id"]]) == ("b", "a", "other")
    assert thief["id"] not in held


async def test_a_key_with_a_higher_fence_keeps_its_value_when_others_move(store: PrismaStore, engine: Engine) -> None:
    a, b = account("a"), account("b")
    await store.apply("account", TERM, 1, keyed(b))
    await store.apply("account", TERM, 9, keyed(a))
    applied = await store.apply("account", TERM, 2, keyed({**a, "walletAddress": "b"}, {**b, "walletAddress": "a"}))
    assert applied.superseded == {a["id"]}
    assert isinstance(applied.refused[b["id"]], Conflict)
    assert await wallets(engine) == {a["id"]: "a", b["id"]: "b"}


# The outbox


async def test_marks_with_and_without_key_the_oldest_first(store: PrismaStore, engine: Engine) -> None:
    before = datetime.now(UTC)
    assert await store.mark("account", []) == []
    first = await store.mark("account", ["one", None])
    [second] = await store.mark("account", ["two"])
    await store.mark("video", [None])
    marks = await store.marks("account", 10)
    assert {mark.id for mark in marks[:2]} == set(first)
    assert {mark.key for mark in marks[:2]} == {"one", None}
    assert (marks[2].id, marks[2].key, marks[2].entity) == (second, "two", "account")
    assert [mark.id for mark in await store.marks("account", 2)] == [mark.id for mark in marks[:2]]
    assert all(before - timedelta(seconds=1) < mark.at < before + timedelta(minutes=1) for mark in marks)
    assert all(mark.age >= 0 for mark in marks)
    assert {entity: size.marks for entity, size in (await store.outbox()).items()} == {"account": 3, "video": 1}
    await store.unmark([*first, "long gone"])
    assert [mark.id for mark in await store.marks("account", 10)] == [second]
    await store.unmark([second, *(mark.id for mark in await store.marks("video", 10))])
    assert await store.outbox() == {}


async def test_ages_are_by_the_databases_clock(store: PrismaStore, engine: Engine) -> None:
    [old] = await store.mark("account", ["old"])
    [young] = await store.mark("account", ["young"])
    await engine.execute_raw("UPDATE strangler_mark SET at = at - interval '90 seconds' WHERE id = $1", old)
    assert [mark.id for mark in await store.marks("account", 10, older=60.0)] == [old]
    assert await store.marks("account", 10, older=3600.0) == []
    marks = await store.marks("account", 10)
    assert [mark.id for mark in marks] == [old, young]
    assert 90 <= marks[0].age < 3600
    assert marks[1].age < 60
    [(entity, backlog)] = (await store.outbox()).items()
    assert (entity, backlog.marks) == ("account", 2)
    assert 90 <= backlog.oldest < 3600
    assert Backlog().oldest == 0


async def test_the_mark_of_a_write_has_the_databases_time(store: PrismaStore) -> None:
    made = await store.perform(Operation("account", "create", data={"walletAddress": "w"}), mark=True)
    [mark] = await store.marks("account", 10)
    assert ((mark.id,), (mark.key,)) == (made.marks, made.keys)
    assert mark.age < 60


# Which keys there are


async def found(store: PrismaStore, at: datetime, batch: int = 500) -> list[str]:
    return [key async for keys in store.changed_since("account", at, batch=batch) for key in keys]


async def test_changed_since_tells_what_was_created_or_touched(store: PrismaStore) -> None:
    at = datetime(2026, 6, 1, 12, 0, 0, 700_000, tzinfo=UTC)

    def key(seconds: int) -> str:
        return f"{int(at.timestamp()) + seconds:08x}{secrets.token_hex(8)}"

    old, touched, same, new = key(-60), key(-60), key(0), key(60)
    documents = [account(k, k) for k in (old, touched, same, new)]
    documents[1]["updatedAt"] = at + timedelta(milliseconds=1)
    await store.apply("account", TERM, 1, keyed(*documents))
    assert await found(store, at) == [touched, same, new]
    assert await found(store, at, batch=1) == [touched, same, new]
    assert await found(store, at + timedelta(days=1)) == []
    assert len(await found(store, datetime(2000, 1, 1, tzinfo=UTC))) == 4


async def test_keys_made_here_tell_when(store: PrismaStore) -> None:
    before = datetime.now(UTC)
    made = await store.perform(Operation("account", "create", data={"walletAddress": "w"}))
    assert await found(store, before) == list(made.keys)
    assert await found(store, before + timedelta(hours=1)) == []
    assert len({new_key() for _ in range(1000)}) == 1000
