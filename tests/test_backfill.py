"""Backfill against both real stores: every race that copiers are known for, forced, and what ends a run or takes it on."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from bson import ObjectId
from structlog.testing import capture_logs

from adapters.side import Flag
from config.load import load
from config.model import Stage
from config.schema import load_schema
from proxy.migration.copy.backfill import NAME
from proxy.migration.copy.copying import Moved
from proxy.migration.run.admission import NotSettling
from proxy.migration.run.keeping import Keeping, Lost, Purpose, Reshaped, Taken
from proxy.migration.run.patience import GivenUp, Patience
from proxy.migration.run.shape import changes, shape_of
from proxy.replication.steps import Step
from tests.backfill_case import At, Stopped, copier, document, emptied, killed, stop, table, unhurried
from tests.proxy_case import COLLECTION_CONFIG, DEADLINE
from tests.settle_case import Bench, Ground, bench_at, grounds

MIB: Final = 2**20


@pytest.fixture(scope="module")
async def ground(mongo_url: str, postgres_url: str, migrated_template: str) -> AsyncIterator[Ground]:
    async with grounds(mongo_url, postgres_url, migrated_template) as found:
        yield found


@pytest.fixture
async def bench(ground: Ground) -> AsyncIterator[Bench]:
    """At dualwrite, with nothing in either store."""
    async with bench_at(Stage.DUALWRITE, ground) as found:
        await emptied(found, stores=True)
        yield found


# What there is


async def test_nothing_is_copied_of_nothing(bench: Bench) -> None:
    done = await copier(bench).backfill.everything("profile")
    assert (done.keys, done.settled, done.refused) == (0, 0, 0)
    run = await copier(bench).run()
    assert run is not None
    assert run.done


async def test_one_document_is_copied(bench: Bench) -> None:
    one = copier(bench)
    [key] = await one.profiles(1, bio="fine")
    done = await one.backfill.everything("profile")
    assert (done.keys, done.written, done.refused) == (1, 1, 0)
    row = await bench.row(key)
    assert row is not None
    assert row["bio"] == "fine"


async def test_many_workers_and_batches_copy_everything_once(bench: Bench) -> None:
    many = copier(bench, batch=7, workers=4)
    keys = await many.profiles(100)
    done = await many.backfill.everything("profile")
    assert (done.keys, done.written, done.superseded, done.refused) == (100, 100, 0, 0)
    assert [row["_id"] for row in await table(bench)] == sorted(keys)


async def test_a_document_of_16_mib_is_copied(ground: Ground, bench: Bench) -> None:
    """As large as MongoDB has them, with text that is longer when it is written as JSON."""
    account = await bench.account()
    small = [await bench.profile(account) for _ in range(3)]
    bio = '"quoted"\n' * ((16 * MIB - 4096) // 9)
    large = await bench.profile(account, bio=bio)
    async with unhurried(ground) as patient:
        done = await copier(patient, batch=100, workers=4).backfill.everything("profile")
        assert (done.keys, done.refused, done.reasons) == (4, 0, {})
        sizes = await patient.stores.engine.query_raw('SELECT "_id", length("bio")::int AS "n" FROM "profiles"')
        row = await patient.row(large)
    assert {one["_id"]: one["n"] for one in sizes} == {**dict.fromkeys(small), large: len(bio)}
    assert row is not None
    assert row["bio"] == bio


async def test_arrays_of_ten_thousand_elements_are_copied(bench: Bench) -> None:
    account = await bench.account()
    data = {"numbers": list(range(10_000)), "texts": [f"é{number}" for number in range(10_000)]}
    key = await bench.insert(
        "notifications", accountId=account, type="NFT_VERIFIED", title="t", message="m", isRead=False, data=data
    )
    done = await copier(bench).backfill.everything("notification")
    assert (done.written, done.reasons) == (1, {})
    row = await bench.row(str(key), "notification")
    assert row is not None
    assert row["data"] == data


async def test_what_is_there_already_is_not_settled_again(bench: Bench) -> None:
    again = copier(bench, batch=3)
    await again.profiles(10)
    assert (await again.backfill.everything("profile")).written == 10
    fences = await _fences(bench)
    assert len(fences) == 10
    done = await copier(bench, batch=3).backfill.everything("profile")
    assert (done.keys, done.written, done.same) == (10, 0, 10)
    assert await _fences(bench) == fences


async def test_of_what_is_mostly_there_the_rest_is_settled(bench: Bench) -> None:
    keys = await copier(bench).profiles(10, bio="old")
    await copier(bench, batch=5).backfill.everything("profile")
    await bench.change(keys[3], bio="new")
    await bench.legacy["profiles"].delete_one({"_id": ObjectId(keys[4])})
    done = await copier(bench, batch=5).backfill.everything("profile")
    assert (done.keys, done.same, done.written) == (9, 8, 1)
    row = await bench.row(keys[3])
    assert row is not None
    assert row["bio"] == "new"


async def test_parents_that_were_not_copied_are_settled_first(bench: Bench) -> None:
    one = copier(bench, batch=50)
    await one.profiles(20)
    assert await table(bench, "accounts") == []
    done = await one.backfill.everything("profile")
    assert (done.written, done.refused) == (20, 0)
    assert len(await table(bench, "accounts")) == 1


async def test_only_some_keys_and_those_that_are_gone_are_gone(bench: Bench) -> None:
    one = copier(bench)
    keys = await one.profiles(4)
    await one.backfill.everything("profile")
    for key in keys:
        await bench.change(key, bio="new")
    await bench.legacy["profiles"].delete_one({"_id": ObjectId(keys[0])})

    async def batches() -> AsyncIterator[list[str]]:
        yield keys[:2]

    before = await one.run()
    done = await copier(bench).backfill.some("profile", batches)
    assert (done.keys, done.settled) == (2, 2)
    assert [row["bio"] for row in await table(bench)] == ["new", None, None]
    after = await one.run()
    assert before is not None
    assert after is not None
    assert (after.holder, after.detail) == (before.holder, before.detail)


async def test_only_what_changed_since(bench: Bench) -> None:
    one = copier(bench)
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    account = await bench.account()
    old = document(account, _id=ObjectId.from_datetime(long_ago), createdAt=long_ago, updatedAt=long_ago)
    await bench.legacy["profiles"].insert_one(old)
    [young] = await one.profiles(1)
    since = datetime(2021, 1, 1, tzinfo=UTC)
    store = bench.stores.legacy
    done = await one.backfill.some("profile", lambda: store.changed_since("profile", since, batch=1))
    assert done.keys == 1
    assert [row["_id"] for row in await table(bench)] == [young]


# What is refused


POISON: Final[Mapping[str, tuple[dict[str, Any], str]]] = {
    "a number for text": ({"bio": 7}, "bio"),
    "nothing where something is required": ({"username": None}, "username"),
    "a character that PostgreSQL has not": ({"bio": "a\x00b"}, "bio"),
    "text too long for its index": ({"username": secrets.token_hex(40_000)}, ""),
    "a parent that there is not": ({"accountId": ObjectId()}, "accountId"),
    "a parent that is no key": ({"accountId": "nobody"}, "accountId"),
}


@pytest.mark.parametrize("what", POISON)
async def test_a_poisonous_document_is_in_quarantine_with_its_reason_and_the_others_are_copied(
    bench: Bench, what: str
) -> None:
    fields, path = POISON[what]
    one = copier(bench, batch=20)
    account = await bench.account()
    good = [await bench.profile(account) for _ in range(5)]
    bad = str(await bench.insert("profiles", **{"accountId": account, "username": secrets.token_hex(6), **fields}))
    good += [await bench.profile(account) for _ in range(5)]
    done = await one.backfill.everything("profile")
    assert (done.keys, done.written, done.refused, set(done.reasons)) == (11, 10, 1, {bad})
    assert path in done.reasons[bad]
    kept = await bench.refusals()
    assert {key: refusal.reason for key, refusal in kept.items()} == done.reasons
    assert sorted(row["_id"] for row in await table(bench)) == sorted(good)


async def test_of_two_with_one_unique_value_one_is_refused(bench: Bench) -> None:
    one = copier(bench, batch=20)
    first = await one.profiles(3)
    taken = await one.profiles(1, username="taken")
    also = await one.profiles(1, username="taken")
    done = await one.backfill.everything("profile")
    assert (done.written, done.refused) == (4, 1)
    assert set(done.reasons) < {*taken, *also}
    assert {row["_id"] for row in await table(bench)} >= set(first)


async def test_a_unique_value_that_moved_to_an_earlier_key_is_no_refusal(bench: Bench) -> None:
    """The earlier key settles while the later one still holds the value on the other side."""
    one = copier(bench, batch=1)
    early, late = await one.profiles(2)
    await bench.change(late, username="wanted")
    await one.backfill.everything("profile")
    await bench.change(late, username="another")
    await bench.change(early, username="wanted")
    done = await copier(bench, batch=1).backfill.everything("profile")
    assert (done.refused, done.reasons) == (0, {})
    assert [row["username"] for row in await table(bench)] == ["wanted", "another"]
    assert await bench.refusals() == {}


async def test_a_key_that_is_good_again_leaves_the_quarantine(bench: Bench) -> None:
    bad, _ = await copier(bench).profiles(1, bio=7), await copier(bench).profiles(1)
    assert (await copier(bench).backfill.everything("profile")).refused == 1
    await bench.change(bad[0], bio="fine")
    assert (await copier(bench).backfill.everything("profile")).refused == 0
    assert await bench.refusals() == {}


async def test_what_nobody_foresaw_costs_one_document_only(bench: Bench) -> None:
    """The batch of four fails, its first half, and the first key alone; then all goes well."""
    failing = At("held", 1, _fail)

    async def reached(step: Step) -> None:
        await failing(step)
        if step == "held" and failing.seen.count(step) in (2, 3):
            await _fail()

    one = copier(bench, batch=4, reached=reached)
    keys = await one.profiles(4)
    done = await one.backfill.everything("profile")
    assert (done.keys, done.written, done.refused, done.reasons) == (4, 4, 0, {})
    assert [row["_id"] for row in await table(bench)] == keys
    assert await bench.refusals() == {}


async def test_a_key_that_never_settles_is_given_up_while_the_others_do(bench: Bench) -> None:
    """Somebody holds its row locked for longer than any call may take; nobody knows but that the others settle."""
    one = copier(bench, batch=1, workers=2)
    keys = await one.profiles(9, bio="old")
    await one.backfill.everything("profile")
    for key in keys:
        await bench.change(key, bio="new")
    engine = bench.stores.engine
    lock = await engine.begin(timeout=100.0)
    await engine.query_raw('SELECT 1 AS one FROM "profiles" WHERE "_id" = $1 FOR UPDATE', keys[0], tx=lock)
    running = asyncio.create_task(copier(bench, batch=1, workers=2).backfill.everything("profile"))
    async with asyncio.timeout(3 * DEADLINE):
        while not (kept := (await bench.refusals()).get(keys[0])):
            await asyncio.sleep(0.05)
    await engine.rollback(lock)
    assert "while others can" in kept.reason
    done = await running
    assert (done.keys, done.written, done.refused) == (9, 9, 0)
    assert [row["bio"] for row in await table(bench)] == ["new"] * 9


# Races with clients


async def test_an_update_while_its_batch_is_held_wins(bench: Bench) -> None:
    one = copier(bench)
    [key] = await one.profiles(1, bio="old")
    async with one.steps.stopped("held", lambda: one.backfill.everything("profile")) as running:
        await bench.change(key, bio="new")
        assert (await one.writer.settle("profile", [key])).written == {key}
    assert (await running).superseded == 1
    assert [row["bio"] for row in await table(bench)] == ["new"]


async def test_an_update_between_being_found_and_being_read_is_read(bench: Bench) -> None:
    one = copier(bench)
    [key] = await one.profiles(1, bio="old")
    async with one.steps.stopped("found", lambda: one.backfill.everything("profile")) as running:
        await bench.change(key, bio="new")
    assert (await running).written == 1
    assert [row["bio"] for row in await table(bench)] == ["new"]
    # What it is settled for once more, by its own mark, changes nothing.
    assert (await one.writer.settle("profile", [key])).written == {key}
    assert [row["bio"] for row in await table(bench)] == ["new"]


async def test_an_update_before_its_range_is_found_is_copied(bench: Bench) -> None:
    one = copier(bench, batch=1)
    keys = await one.profiles(6, bio="old")
    async with one.steps.stopped("found", lambda: one.backfill.everything("profile")) as running:
        await bench.change(keys[-1], bio="new")
    await running
    assert [row["bio"] for row in await table(bench)] == ["old"] * 5 + ["new"]


async def test_a_delete_between_the_read_and_the_insert_wins(bench: Bench) -> None:
    one = copier(bench)
    [key] = await one.profiles(1)
    async with one.steps.stopped("held", lambda: one.backfill.everything("profile")) as running:
        await bench.legacy["profiles"].delete_one({"_id": ObjectId(key)})
        await one.writer.settle("profile", [key])
    assert (await running).superseded == 1
    assert await table(bench) == []


async def test_a_delete_between_being_found_and_being_read_is_a_delete(bench: Bench) -> None:
    one = copier(bench)
    [key] = await one.profiles(1)
    async with one.steps.stopped("found", lambda: one.backfill.everything("profile")) as running:
        await bench.legacy["profiles"].delete_one({"_id": ObjectId(key)})
    assert (await running).keys == 1
    assert await table(bench) == []


async def test_an_insert_behind_the_cursor_is_settled_by_its_own_mark(bench: Bench) -> None:
    one = copier(bench, batch=2)
    account = await bench.account()
    first = ObjectId()
    keys = [await bench.profile(account) for _ in range(6)]
    async with one.steps.stopped("kept", lambda: one.backfill.everything("profile")) as running:
        await bench.legacy["profiles"].insert_one(document(account, _id=first))
    assert (await running).keys == 6
    assert [row["_id"] for row in await table(bench)] == keys
    await one.writer.settle("profile", [str(first)])
    assert [row["_id"] for row in await table(bench)] == [str(first), *keys]


async def test_the_last_key_is_deleted_while_it_is_where_the_walk_goes_on(bench: Bench) -> None:
    """The place of the checkpoint is that of a document which there is no more; what comes after it is found."""
    one = copier(bench, batch=2, reached=At("kept", 1, stop))
    keys = await one.profiles(5)
    with pytest.raises(Stopped):
        await one.backfill.everything("profile")
    await bench.legacy["profiles"].delete_one({"_id": ObjectId(keys[1])})
    await one.writer.settle("profile", [keys[1]])
    done = await copier(bench, batch=2).backfill.everything("profile")
    assert (done.keys, done.refused) == (5, 0)
    assert [row["_id"] for row in await table(bench)] == [keys[0], *keys[2:]]


async def test_the_last_key_of_all_is_deleted_while_its_batch_is_held(bench: Bench) -> None:
    one = copier(bench, batch=10)
    keys = await one.profiles(3)
    async with one.steps.stopped("held", lambda: one.backfill.everything("profile")) as running:
        await bench.legacy["profiles"].delete_one({"_id": ObjectId(keys[-1])})
        await one.writer.settle("profile", [keys[-1]])
    done = await running
    assert (done.written, done.superseded) == (2, 1)
    assert [row["_id"] for row in await table(bench)] == keys[:-1]


async def test_what_is_the_same_and_changes_as_it_is_looked_at_settles_by_its_own_mark(bench: Bench) -> None:
    """Found the same after it had been read and before it changed: no fence is raised, so its writer's settle counts."""
    one = copier(bench)
    [key] = await one.profiles(1, bio="old")
    await one.backfill.everything("profile")
    again = copier(bench)
    async with again.steps.stopped("applied", lambda: again.backfill.everything("profile")) as running:
        await bench.change(key, bio="new")
        assert (await one.writer.settle("profile", [key])).written == {key}
    assert (await running).same == 1
    assert [row["bio"] for row in await table(bench)] == ["new"]


# Going on


@pytest.mark.parametrize(("step", "number"), [(step, number) for step in ("landed", "kept") for number in (1, 2, 3, 4)])
async def test_a_run_that_is_killed_goes_on_and_ends_like_one_that_was_not(
    ground: Ground, bench: Bench, step: Any, number: int
) -> None:
    """Before and after each checkpoint: three ranges of three, and the end."""
    keys = await copier(bench).profiles(8)
    refused = (await copier(bench).profiles(1, bio=7))[0]
    whole = await copier(bench, batch=3).backfill.everything("profile")
    expected = await table(bench)
    assert (whole.keys, len(expected)) == (9, 8)
    await emptied(bench)
    await killed(ground.environment, step, number)
    run = await copier(bench).run()
    assert run is not None
    kept = number if step == "kept" else number - 1
    assert run.detail.get("keys", 0) == min(9, 3 * kept)
    assert run.done == (step == "kept" and number == 4)
    if run.done:
        return
    done = await copier(bench, batch=3).backfill.everything("profile")
    assert (done.keys, done.written + done.same, done.refused) == (9, 8, 1)
    assert set(done.reasons) == {refused}
    assert await table(bench) == expected
    assert [row["_id"] for row in expected] == keys


async def test_a_run_that_has_ended_is_not_gone_on_with(bench: Bench) -> None:
    one = copier(bench)
    await one.profiles(3)
    await one.backfill.everything("profile")
    late = document(await bench.account(), _id=ObjectId("000000000000000000000001"))
    await bench.legacy["profiles"].insert_one(late)
    assert (await copier(bench).backfill.everything("profile")).keys == 4


async def test_restart_begins_anew(bench: Bench) -> None:
    one = copier(bench, reached=At("kept", 1, stop))
    await one.profiles(5)
    with pytest.raises(Stopped):
        await one.backfill.everything("profile")
    done = await copier(bench).backfill.everything("profile", restart=True)
    assert (done.keys, done.settled) == (5, 5)


async def test_an_entity_that_changed_since_the_checkpoint_is_refused_and_what_changed_is_said(bench: Bench) -> None:
    one = copier(bench, reached=At("kept", 1, stop))
    await one.profiles(5)
    with pytest.raises(Stopped):
        await one.backfill.everything("profile")
    changed = {"profile": {"title": "String", "avatar": "String?"}}
    with pytest.raises(Reshaped) as told:
        await copier(bench, shapes=changed).backfill.everything("profile")
    assert told.value.found == ("title: String? -> String", "bio: String? -> nothing", "avatar: nothing -> String?")
    assert "--restart" in str(told.value)
    before = await one.run()
    assert before is not None
    assert not before.done
    done = await copier(bench, shapes=changed).backfill.everything("profile", restart=True)
    assert done.keys == 5


def test_a_shape_tells_types_and_rules_and_nothing_of_traffic() -> None:
    schema = load_schema()
    environment = {"CORE_URL": "http://127.0.0.1:1", "JWT_SECRET": "none"}
    profile = load(COLLECTION_CONFIG, environment, schema).entities["profile"]
    shape = shape_of(profile, schema)
    assert shape["bio"] == "String?"
    assert "objectId" in shape["accountId"]
    assert changes(shape, shape_of(profile.model_copy(update={"stage": Stage.LIVE, "routes": []}), schema)) == []
    other = profile.model_copy(update={"collection": "people"})
    assert changes(shape, shape_of(other, schema)) == ["collection: profiles -> people"]


# Two of them


async def test_a_second_one_is_told_who_holds_it_since_when(bench: Bench) -> None:
    one, other = copier(bench, holder="here-1-a"), copier(bench)
    await one.profiles(2)
    async with one.steps.stopped("held", lambda: one.backfill.everything("profile")) as running:
        with pytest.raises(Taken, match=r"here-1-a, since \d{4}-\d\d-\d\dT"):
            await other.backfill.everything("profile")
    assert (await running).written == 2
    # It has given the lease back.
    assert (await other.backfill.everything("profile")).same == 2


async def test_another_entity_is_not_held_up(bench: Bench) -> None:
    one, other = copier(bench), copier(bench)
    await one.profiles(2)
    async with one.steps.stopped("held", lambda: one.backfill.everything("profile")) as running:
        assert (await other.backfill.everything("account")).written == 1
    await running


async def test_one_that_was_paused_past_its_lease_ends_where_another_has_begun(bench: Bench) -> None:
    """It was stopped between a range and its checkpoint; what the other one saves stays."""
    one = copier(bench, batch=2)
    await one.profiles(6)
    async with one.steps.stopped("landed", lambda: one.backfill.everything("profile")) as running:
        await bench.legacy["strangler_leases"].delete_one({"_id": "backfill:profile"})
        other = copier(bench, batch=2, holder="another", reached=At("kept", 2, stop))
        with pytest.raises(Stopped):
            await other.backfill.everything("profile")
    with pytest.raises(Lost, match=r"another, since .*nothing is lost"):
        await running
    run = await other.run()
    assert run is not None
    assert (run.holder, run.detail["keys"]) == ("another", 4)
    assert (await copier(bench).backfill.everything("profile")).keys == 6


async def test_a_lease_that_another_one_has_taken_is_noticed_without_a_checkpoint(bench: Bench) -> None:
    store = bench.stores.legacy
    keeping, other = (Keeping(Purpose(NAME, "profile", name), store) for name in ("one", "other"))
    await keeping.take()
    await store.state.release("backfill:profile", "one")
    await other.take()
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(Lost, match="other"):
            await keeping.renew()
    await other.end()


async def test_the_lease_of_a_process_that_this_machine_knows_to_be_dead_is_not_waited_for(bench: Bench) -> None:
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    from socket import gethostname

    store = bench.stores.legacy
    dead = Keeping(Purpose(NAME, "profile", f"{gethostname()}-{process.pid}-abcdef"), store)
    await dead.take()
    one = copier(bench)
    await one.profiles(1)
    assert (await one.backfill.everything("profile")).keys == 1


# Flips


async def test_an_entity_that_settles_nothing_is_refused(ground: Ground) -> None:
    async with bench_at(Stage.OFF, ground) as bench:
        with pytest.raises(NotSettling, match="dualwrite"):
            await copier(bench).backfill.everything("profile")


async def test_a_flip_meanwhile_ends_it_with_nothing_written_the_wrong_way(bench: Bench) -> None:
    one = copier(bench)
    await one.profiles(2)
    stores = bench.stores
    async with one.steps.stopped("held", lambda: one.backfill.everything("profile")) as running:
        await stores.prisma.turn("profile", 2)
        live = Flag("profile", "live", 2, term=2, changed_by="an engineer")
        for store in stores.by_side().values():
            await store.state.save_flag(live)
    try:
        with pytest.raises(Moved, match="live meanwhile, by an engineer"):
            await running
        assert await table(bench) == []
    finally:
        await _forget_flags(bench)


async def test_a_flip_that_was_taken_back_ends_nothing(bench: Bench) -> None:
    """The secondary knows of the later term before this process does."""
    one = copier(bench)
    await one.profiles(2)
    stores = bench.stores
    async with one.steps.stopped("held", lambda: one.backfill.everything("profile")) as running:
        back = Flag("profile", "dualwrite", 2, term=2)
        await stores.prisma.turn("profile", 2)
        for store in stores.by_side().values():
            await store.state.save_flag(back)
    try:
        assert (await running).written == 2
    finally:
        await _forget_flags(bench)


# Trouble


async def test_a_store_that_is_away_is_waited_for_and_no_batch_is_left_in_part(ground: Ground, bench: Bench) -> None:
    said: list[str | None] = []
    away = asyncio.Event()

    def heard(text: str | None) -> None:
        said.append(text)
        away.set()

    async with unhurried(ground) as patient:
        one = copier(patient, batch=5, patience=Patience(600, heard))
        await one.profiles(10)
        engine = patient.stores.engine
        with capture_logs() as logs:
            async with one.steps.stopped("held", lambda: one.backfill.everything("profile")) as running:
                await engine.disconnect()
            async with asyncio.timeout(3 * DEADLINE):
                await away.wait()
                # As others see it, for whom the store is there.
                assert await table(bench) == []
            assert not running.done()
            await engine.connect()
            done = await running
    assert (done.keys, done.written, done.refused) == (10, 10, 0)
    assert said[0] is not None
    assert said[-1] is None
    told = [log["event"] for log in logs]
    assert [event for event in told if event in ("store_away", "store_back")] == ["store_away", "store_back"]


async def test_a_store_that_stays_away_ends_it_and_the_next_one_goes_on(ground: Ground, bench: Bench) -> None:
    async with unhurried(ground) as patient:
        one = copier(patient, batch=2, patience=Patience(0.0))
        await one.profiles(6)
        async with one.steps.stopped("kept", lambda: one.backfill.everything("profile")) as running:
            await patient.stores.engine.disconnect()
        with pytest.raises(GivenUp, match="has been away"):
            await running
        await patient.stores.engine.connect()
        run = await one.run()
        assert run is not None
        assert (run.done, run.detail["keys"]) == (False, 2)
        done = await copier(patient).backfill.everything("profile")
    assert (done.keys, done.written) == (6, 6)


async def _fail() -> None:
    raise RuntimeError("nobody foresaw this")


async def _fences(bench: Bench) -> dict[str, int]:
    rows = await bench.stores.engine.query_raw(
        'SELECT "key", "token" FROM "strangler_fence" WHERE "entity" = \'profile\''
        ' AND "key" IN (SELECT "_id" FROM "profiles")'
    )
    return {row["key"]: row["token"] for row in rows}


async def _forget_flags(bench: Bench) -> None:
    """As if nobody had ever set one; the terms too."""
    await bench.legacy["strangler_flags"].delete_many({})
    for name in ("strangler_flag", "strangler_term"):
        await bench.stores.engine.execute_raw(f'DELETE FROM "{name}"')
