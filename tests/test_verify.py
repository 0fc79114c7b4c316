"""Verification on real stores: what differs is found, in either direction, and what merely lags is not. Every ordering that
matters is forced by the steps of the run, or by a settle that waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from bson import ObjectId

from adapters.side import Flag
from config.model import Compare, Stage
from config.schema import load_schema
from proxy.migration.run.admission import NotSettling
from proxy.migration.run.keeping import Lost, Reshaped, Taken
from proxy.migration.verification.sample import Sample
from proxy.migration.verification.verification import Status, compared_shapes, forget
from tests.proxy_case import DEADLINE
from tests.settle_case import Ground, grounds
from tests.verify_case import ENTITY, QUICK, At, Case, Progressed, Stopped, case_at, kinds, nft, stop

SECRET = "hunter2@example.com"
"""A value that may be in nothing that is kept or said."""
MANY = 450
"""Documents that make three ranges."""


@pytest.fixture(scope="module")
async def ground(mongo_url: str, postgres_url: str, migrated_template: str) -> AsyncIterator[Ground]:
    async with grounds(mongo_url, postgres_url, migrated_template) as found:
        yield found


@pytest.fixture(scope="module")
async def stand(ground: Ground) -> AsyncIterator[Case]:
    async with case_at(Stage.DUALWRITE, ground) as found:
        yield found


@pytest.fixture
async def case(stand: Case) -> Case:
    await stand.clear()
    return stand


# What is found


async def test_all_the_same(case: Case) -> None:
    await case.fill(7)
    found = await case.verify()
    assert (found.status, found.compared, found.looked) == (Status.CLEAN, 7, {"legacy": 7, "prisma": 7})
    assert found.conclusion() == "all 7 documents agree"
    assert (found.primary, found.stage, found.term, found.epoch, found.resumed) == ("legacy", "dualwrite", 0, 0, 0)
    assert found.ended is not None
    assert found.began <= found.ended
    run = await case.run()
    assert run.done


async def test_missing_extra_and_different_are_found_and_no_value_is_told(case: Case) -> None:
    keys = await case.fill(5)
    await case.lose(keys[0])
    await case.spoil(keys[2], SECRET)
    extra = await case.plant()
    progress = Progressed()
    found = await case.verify(progress=progress)
    assert kinds(found) == {keys[0]: "missing", keys[2]: "different", extra: "extra"}
    assert found.status == Status.DIFFERENT
    assert found.conclusion() == "1 different, 1 extra, 1 missing"
    [different] = [finding for finding in found.findings.kept if finding.kind == "different"]
    assert different.paths == ("value tokenId",)
    told = [repr(found), repr(progress.shown), repr(progress.ended), repr(await case.run())]
    assert not any(SECRET in text for text in told)


async def test_where_a_document_has_a_field_and_the_row_has_none(case: Case) -> None:
    [key] = await case.fill(1)
    await case.bench.stores.engine.execute_raw(f'UPDATE "{ENTITY}" SET "lastVerified" = now()')
    found = await case.verify()
    assert [finding.paths for finding in found.findings.kept] == [("extra lastVerified",)]
    assert kinds(found) == {key: "different"}


async def test_what_counts_as_the_same_is_the_entitys_own(case: Case) -> None:
    """Both documents are compared by its rules, and a function of its own is given legacy's first."""
    keys = await case.fill(3)
    await case.spoil(keys[0])
    await case.bench.stores.engine.execute_raw(
        f'UPDATE "{ENTITY}" SET "updatedAt" = "updatedAt" + interval \'1 second\' WHERE "_id" = $1', keys[1]
    )
    seconds = timedelta(seconds=1)
    found = await case.verify(compare=Compare(ignore=["tokenId"], tolerance={"updatedAt": seconds}))
    assert (found.status, found.compared) == (Status.CLEAN, 3)
    found = await case.verify(compare=Compare(tolerance={"updatedAt": seconds / 2}))
    assert kinds(found) == {keys[0]: "different", keys[1]: "different"}
    found = await case.verify(compare=Compare(comparator="tests.verify_case:is_spoilt_on_prisma"))
    assert kinds(found) == {keys[1]: "different"}


async def test_two_empty_sides_are_the_same_and_one_is_not(case: Case) -> None:
    found = await case.verify()
    assert (found.status, found.conclusion()) == (Status.CLEAN, "both sides are empty")
    extra = await case.plant()
    found = await case.verify()
    assert (found.status, kinds(found), found.compared) == (Status.DIFFERENT, {extra: "extra"}, 0)


async def test_a_run_that_compared_nothing_says_nothing(case: Case) -> None:
    await case.fill(3)
    found = await case.verify(replace(QUICK, sample=0.0001))
    assert (found.status, found.compared) == (Status.UNKNOWN, 0)
    assert found.conclusion() == "could not say: nothing was compared"


async def test_what_cannot_be_settled_is_told_with_its_reason(case: Case) -> None:
    await case.fill(1)
    bad = str(await case.bench.insert(ENTITY, **nft(tokenId=f"{SECRET}\0")))
    await case.bench.quarantined(bad, entity=ENTITY)
    found = await case.verify()
    assert kinds(found) == {bad: "refused"}
    assert found.findings.kept[0].reason == "quarantine: tokenId: holds the character NUL"
    assert found.status == Status.DIFFERENT
    assert SECRET not in repr(found)


async def test_what_is_found_is_bounded_and_counted_beyond(case: Case) -> None:
    for _ in range(3):
        await case.fill(50)
    await case.bench.stores.engine.execute_raw(f'DELETE FROM "{ENTITY}"')
    found = await case.verify()
    assert found.findings.counts() == {"missing": 150}
    assert len(found.findings.kept) == 100
    assert found.conclusion() == "150 missing"


async def test_a_sample_is_the_same_keys_in_both_directions(case: Case) -> None:
    keys = await case.fill(60)
    sample = Sample(30.0)
    inside, outside = sample.of(keys), [key for key in keys if key not in sample.of(keys)]
    assert inside
    assert outside
    asked = replace(QUICK, sample=30.0)
    await case.spoil(outside[0])
    found = await case.verify(asked)
    assert (found.status, found.compared, found.sample) == (Status.CLEAN, len(inside), 30.0)
    assert found.conclusion() == f"a sample of 30 %, {len(inside)} documents agree"
    await case.spoil(inside[0])
    planted = [str(ObjectId()) for _ in range(60)]
    for key in planted:
        await case.plant(key)
    found = await case.verify(asked)
    assert kinds(found) == {inside[0]: "different", **dict.fromkeys(sample.of(planted), "extra")}


# Races


@asynccontextmanager
async def lagging(case: Case, change: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """What this changes is on its way to prisma, and does not arrive before the block ends."""

    async def changed() -> None:
        await change
        await case.quiet()

    async with case.bench.steps.stopped("held", changed) as changing:
        yield
    await changing


async def test_a_row_that_lags_passes_and_a_spoilt_one_fails_in_the_same_race(case: Case) -> None:
    keys = await case.fill(4)
    lags, spoilt = keys[1], keys[3]
    await case.spoil(spoilt)
    looked, go_on = asyncio.Event(), asyncio.Event()
    suspects: list[str] = []

    async def wait() -> None:
        looked.set()
        await go_on.wait()

    async with lagging(case, case.change(lags, tokenId="written late")):
        verifying = asyncio.create_task(case.verify(reached=At("kept", 1, wait)))
        async with asyncio.timeout(DEADLINE):
            await looked.wait()
        # Both differ now, and both were seen to.
        suspects = (await case.run()).detail["verification"]["suspects"]
        assert await case.token(lags) == "t"
        go_on.set()
        await asyncio.sleep(0)  # the rest of the run waits for what is held here
        assert not verifying.done()
    found = await verifying
    assert sorted(suspects) == sorted([lags, spoilt])
    assert kinds(found) == {spoilt: "different"}
    assert await case.token(lags) == "written late"


async def test_what_never_settles_is_neither_clean_nor_different(case: Case) -> None:
    [key] = await case.fill(1)
    async with lagging(case, case.change(key, tokenId="on its way")):
        found = await case.verify(replace(QUICK, patience=0.5))
    assert kinds(found) == {key: "unsettled"}
    assert found.findings.kept[0].reason == "everything that was written to it has not settled"
    assert (found.status, found.conclusion()) == (Status.UNKNOWN, "1 unsettled")


async def test_a_deletion_on_its_way_is_no_extra_document(case: Case) -> None:
    """Deleted between the look at the primary and that at the secondary, which still has it."""
    keys = await case.fill(3)
    progress = Progressed()

    async def delete() -> None:
        await case.remove(keys[1])

    async with lagging(case, case.remove(keys[0])):
        verifying = asyncio.create_task(case.verify(reached=At("kept", 1, delete), progress=progress))
        # The one deleted before the first look as well as the one after it.
        await case.bench.until(lambda: any(counts["suspects"] == 2 for counts in progress.shown))
        assert not verifying.done()
    found = await verifying
    assert (found.status, kinds(found)) == (Status.CLEAN, {})


async def test_a_suspect_that_is_deleted_before_it_is_looked_at_again_is_none(case: Case) -> None:
    keys = await case.fill(3)
    await case.spoil(keys[1])

    async def delete() -> None:
        await case.remove(keys[1])
        await case.quiet()

    gone = At("landed", 1, delete)
    found = await case.verify(reached=gone)
    assert gone.done
    assert (found.status, kinds(found)) == (Status.CLEAN, {})


async def test_a_document_that_is_written_again_and_again_is_never_different(case: Case) -> None:
    keys = await case.fill(3)
    stop = asyncio.Event()

    async def write() -> int:
        turn = 0
        while not stop.is_set():
            turn += 1
            await case.change(keys[1], tokenId=f"turn {turn}")
        return turn

    writing = asyncio.create_task(write())
    try:
        found = await case.verify(replace(QUICK, patience=2.0))
    finally:
        stop.set()
    assert await writing > 10
    assert set(kinds(found).values()) <= {"unsettled"}
    assert found.status != Status.DIFFERENT
    await case.quiet()
    assert (await case.verify()).status == Status.CLEAN


async def test_a_wrong_document_that_never_holds_still_is_not_judged_until_it_does(case: Case) -> None:
    """Prisma itself makes something else of whatever is written to it."""
    keys = await case.fill(3)
    stop = asyncio.Event()

    async def write() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            await case.change(keys[1], contractAddress=f"turn {turn}")

    async with spoiling(case, keys[1]):
        await case.change(keys[1], contractAddress="spoilt on arrival")
        await case.quiet()
        writing = asyncio.create_task(write())
        try:
            found = await case.verify(replace(QUICK, patience=2.0, steady=1.0))
        finally:
            stop.set()
            await writing
        assert (found.status, kinds(found)) == (Status.UNKNOWN, {keys[1]: "unsettled"})
        await case.quiet()
        found = await case.verify()
        assert (found.status, kinds(found)) == (Status.DIFFERENT, {keys[1]: "different"})


@asynccontextmanager
async def spoiling(case: Case, key: str) -> AsyncIterator[None]:
    """Whatever is written to this row, until the block ends, is spoilt."""
    engine = case.bench.stores.engine
    await engine.execute_raw(
        "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.\"tokenId\" := 'spoilt'; RETURN NEW; END $$"
    )
    await engine.execute_raw(
        f'CREATE TRIGGER spoil BEFORE INSERT OR UPDATE ON "{ENTITY}" FOR EACH ROW'
        f" WHEN (NEW.\"_id\" = '{key}') EXECUTE FUNCTION spoil()"
    )
    try:
        yield
    finally:
        await engine.execute_raw(f'DROP TRIGGER spoil ON "{ENTITY}"')
        await engine.execute_raw("DROP FUNCTION spoil()")


async def test_a_difference_under_the_traffic_of_others_is_found(case: Case) -> None:
    """The entity never holds still, the spoilt row does."""
    keys = await case.fill(10)
    await case.spoil(keys[0])
    stop = asyncio.Event()

    async def write() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            await case.change(keys[1 + turn % 9], tokenId=f"turn {turn}")

    writing = asyncio.create_task(write())
    try:
        found = await case.verify()
    finally:
        stop.set()
        await writing
    assert kinds(found).get(keys[0]) == "different"
    assert set(kinds(found).values()) <= {"different", "unsettled"}
    assert [key for key, kind in kinds(found).items() if kind == "different"] == [keys[0]]


# The primary, the lease, the shape


async def test_an_entity_whose_sides_are_not_kept_in_step_is_none_to_verify(ground: Ground) -> None:
    async with case_at(Stage.OFF, ground) as off:
        with pytest.raises(NotSettling, match="nft_ownership is at off"):
            await off.verify()


async def test_a_flip_meanwhile_makes_it_worth_nothing(case: Case) -> None:
    keys = await case.fill(3)
    await case.spoil(keys[0])

    async def flip() -> None:
        for store in case.bench.stores.by_side().values():
            assert await store.state.save_flag(Flag(ENTITY, "live", 2, term=2, changed_by="somebody"))

    try:
        found = await case.verify(reached=At("landed", 1, flip))
    finally:
        await case.bench.legacy["strangler_flags"].delete_many({})
        await case.bench.stores.engine.execute_raw('DELETE FROM "strangler_flag"')
    assert found.status == Status.UNKNOWN
    assert found.conclusion() == "could not say: somebody moved it to live meanwhile, epoch 0 -> 2"
    assert (await case.run()).done


async def test_a_flip_there_and_back_ends_it(case: Case) -> None:
    """The store that becomes the primary again forgets what was verified in it."""
    await case.fill(3)

    async def turned() -> None:
        await forget(case.bench.stores.legacy, ENTITY, "somebody")

    with pytest.raises(Lost, match="another verify of nft_ownership has begun meanwhile"):
        await case.verify(reached=At("landed", 1, turned))


async def test_of_two_at_once_the_second_is_told_of_the_first(case: Case) -> None:
    await case.fill(3)
    refused: list[str] = []

    async def second() -> None:
        with pytest.raises(Taken) as taken:
            await case.verify()
        refused.append(str(taken.value))

    found = await case.verify(reached=At("kept", 1, second))
    assert found.status == Status.CLEAN
    assert refused[0].startswith("a verify of nft_ownership is under way: ")
    assert "since" in refused[0]


async def test_a_run_is_not_gone_on_with_under_another_shape(case: Case) -> None:
    await case.fill(MANY)
    with pytest.raises(Stopped):
        await case.verify(reached=At("kept", 1, stop))
    shapes = compared_shapes(case.config, load_schema())
    shapes[ENTITY] = {**shapes[ENTITY], "tokenId": "Int", ":compare": "ignore updatedAt"}
    with pytest.raises(Reshaped) as refused:
        await case.verify(shapes=shapes)
    assert refused.value.found == ("tokenId: String -> Int", "compare: nothing -> ignore updatedAt")
    with pytest.raises(Reshaped, match="sample: 100 % -> 5 %"):
        await case.verify(replace(QUICK, sample=5.0))
    found = await case.verify(replace(QUICK, restart=True), shapes=shapes)
    assert (found.status, found.resumed, found.looked["legacy"]) == (Status.CLEAN, 0, MANY)


# Repair


async def test_repair_settles_what_differs_and_looks_again(case: Case) -> None:
    keys = await case.fill(5)
    await case.lose(keys[0])
    await case.spoil(keys[2])
    extra = await case.plant()
    found = await case.verify(repair=True)
    assert (found.status, kinds(found), found.repaired) == (Status.CLEAN, {}, 3)
    assert [await case.token(key) for key in (keys[0], keys[2], extra)] == ["t", "t", None]
    assert await case.bench.stores.legacy.marks(ENTITY, 10) == []
    assert (await case.verify()).conclusion() == "all 5 documents agree"


async def test_what_cannot_be_repaired_is_in_quarantine_with_the_reason(case: Case) -> None:
    """Somebody had given it up; it is refused again, and kept."""
    await case.fill(2)
    bad = str(await case.bench.insert(ENTITY, **nft(tokenId="\0")))
    await case.bench.quarantined(bad, entity=ENTITY)
    await case.bench.stores.legacy.quarantine.take(ENTITY, [bad])
    await case.plant()
    found = await case.verify(repair=True)
    assert (found.status, kinds(found), found.repaired) == (Status.DIFFERENT, {bad: "refused"}, 1)
    kept = (await case.bench.refusals(entity=ENTITY))[bad]
    assert kept.reason == "tokenId: holds the character NUL"
    assert found.findings.kept[0].reason == f"quarantine: {kept.reason}"
    assert await case.bench.stores.legacy.marks(ENTITY, 10) == []
