"""The guards of a flip: each refuses by its name and says what would be accepted; `--force` goes past them, never past the
fence, and is audited."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from bson import ObjectId

from adapters.side import Replica
from config.load import load
from config.model import Stage
from config.schema import load_schema
from config.settings import read_settings
from examples.processes import temporary_folder
from examples.servers import standalone_mongod
from proxy.cli.command import connected, coordinator
from proxy.cutover.coordinator import Cutover, Refused
from proxy.migration.verification.verification import Status
from proxy.migration.verification.verify import Asked
from tests.cutover_case import ENTITY, Pair, audited, create, flip, pair_of
from tests.proxy_case import COLLECTION_CONFIG, DEADLINE, databases
from tests.subjects import NFT

KEY = str(ObjectId())


@pytest.fixture(scope="module")
async def stand(server_folder: Path, mongo_url: str, postgres_url: str, migrated_template: str) -> AsyncIterator[Pair]:
    async with (
        databases(mongo_url, postgres_url, migrated_template) as stores,
        pair_of(server_folder, stores) as pair,
    ):
        yield pair


@pytest.fixture
async def shadow(stand: Pair) -> Pair:
    await stand.move(Stage.SHADOW)
    await stand.told()
    return stand


async def assert_refused(pair: Pair, *said: str, to: Stage = Stage.LIVE) -> None:
    """By exactly these guards, and nothing of it was ever visible."""
    before = await pair.told()
    with pytest.raises(Refused) as refused:
        await flip(pair.coordinator(), to)
    first, *guards = str(refused.value).splitlines()
    assert first == f"{ENTITY} stays at {before.stage}; --force goes past this:"
    assert len(guards) == len(said), guards
    assert [part for part, guard in zip(said, guards, strict=True) if part not in guard] == []
    assert (await pair.told()).epoch == before.epoch


async def assert_forced(pair: Pair, *noted: str) -> None:
    """It goes past them all the same; both stores keep who, why, and what the guards had said."""
    steps = await flip(pair.coordinator(), Stage.LIVE, force=True, reason="we know")
    assert "fenced" in steps[0]
    assert "acknowledged" in steps[1]
    await pair.at(Stage.LIVE, (await pair.told()).epoch)
    for kept in (await audited(pair)).values():
        action, note = kept[-1]
        assert action == "force"
        assert note is not None
        assert note.startswith("we know; ")
        assert [part for part in noted if part not in note] == []


async def test_a_quarantine_that_is_not_empty(shadow: Pair) -> None:
    quarantine = shadow.apart.legacy.quarantine
    await quarantine.put(ENTITY, {KEY: "it is too long"})
    try:
        await assert_refused(shadow, "quarantine: 1 keys of legacy cannot be settled; expected none")
        await assert_forced(shadow, "quarantine: 1 keys of legacy cannot be settled", "stores: both are healthy")
        # It is the primary's quarantine that counts.
        await flip(shadow.coordinator(), Stage.SHADOW)
        await shadow.at(Stage.SHADOW, (await shadow.told()).epoch)
    finally:
        await quarantine.take(ENTITY, [KEY])


async def test_a_backlog_that_nobody_settles(shadow: Pair) -> None:
    async with unswept(shadow):
        [mark] = await shadow.apart.legacy.mark(ENTITY, [KEY])
        long_ago = {"at": datetime.now(UTC) - timedelta(seconds=90)}
        await shadow.one.legacy["strangler_marks"].update_one({"_id": ObjectId(mark)}, {"$set": long_ago})
        await assert_refused(shadow, "backlog: 1 writes of legacy wait to be settled, the oldest for 9")
        # Past the guard, it still has to drain.
        with pytest.raises(Refused, match="not everything that was written to legacy has settled"):
            await flip(shadow.coordinator(), Stage.LIVE, force=True)
        await shadow.apart.legacy.unmark([mark])
    await shadow.works()


@asynccontextmanager
async def unswept(pair: Pair) -> AsyncIterator[None]:
    """Nobody sweeps while the block lasts."""
    sweeps = [sweep for replica in pair.replicas for sweep in replica.proxy.sweeps]
    await asyncio.gather(*(sweep.stop() for sweep in sweeps))
    try:
        yield
    finally:
        for sweep in sweeps:
            sweep.start()


async def test_comparisons_that_found_too_many_mismatches(shadow: Pair) -> None:
    async with counting(shadow, 200, 11):
        await assert_refused(shadow, "mismatches: 11 of the last 200 comparisons found a mismatch; expected at most 5%")
        await assert_forced(shadow, "mismatches: 11 of the last 200 comparisons")
        # The way back is open.
        await flip(shadow.coordinator(), Stage.SHADOW)
        await shadow.at(Stage.SHADOW, (await shadow.told()).epoch)


@pytest.mark.parametrize(("compared", "differed"), [(200, 10), (19, 19), (20, 1), (0, 0)])
async def test_comparisons_that_found_few_or_say_little(shadow: Pair, compared: int, differed: int) -> None:
    async with counting(shadow, compared, differed):
        await flip(shadow.coordinator(), Stage.LIVE)
        await shadow.at(Stage.LIVE, (await shadow.told()).epoch)


@asynccontextmanager
async def counting(pair: Pair, compared: int, differed: int) -> AsyncIterator[None]:
    """One more replica is in the registries while the block lasts, which has counted that."""
    counted = Replica("counting", {ENTITY: 1_000_000}, {ENTITY: (compared, differed)})
    stores = pair.apart.by_side().values()
    first = asyncio.Event()

    async def beat() -> None:
        while True:
            for store in stores:
                await store.state.beat(counted)
            first.set()
            await asyncio.sleep(0.5)

    beating = asyncio.create_task(beat())
    try:
        async with asyncio.timeout(DEADLINE):
            await first.wait()
        yield
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        for store in stores:
            await store.state.forget_replica("counting")


async def test_what_the_replicas_compare_is_what_is_counted(shadow: Pair) -> None:
    """Reads through both of them; the registry holds the sum."""
    key = await shadow.one.create(NFT, *await shadow.one.account())
    await shadow.settled(key)
    for replica in shadow.replicas:
        for _ in range(3):
            assert (await replica.ask("GET", f"{NFT.path}/{key}")).status == 200
        await replica.proxy.comparing.finished()

    async def counted() -> list[tuple[int, int]]:
        found = await shadow.apart.prisma.state.replicas()
        return [seen for one in found if (seen := one.seen.get(ENTITY)) is not None and seen[0] >= 3]

    async with asyncio.timeout(DEADLINE):
        while len(await counted()) < 2:
            await asyncio.sleep(0.05)
    assert [differed for _, differed in await counted()] == [0, 0]


async def test_a_store_that_does_not_answer(shadow: Pair) -> None:
    engine = shadow.apart.engine.pid
    assert engine is not None
    os.kill(engine, signal.SIGSTOP)
    try:
        with pytest.raises(Refused) as refused:
            await flip(shadow.coordinator(), Stage.LIVE)
    finally:
        os.kill(engine, signal.SIGCONT)
    assert "\n  stores: " in str(refused.value)
    assert "expected both" in str(refused.value)


# The last verification

RUN = {"_id": {"n": "verify", "e": ENTITY}}
HOW = f"expected one that is clean: strangler verify {ENTITY}"


async def change_run(pair: Pair, **fields: object) -> None:
    """What is kept of the last verification."""
    done = await pair.one.legacy["strangler_runs"].update_one(RUN, {"$set": fields})
    assert done.matched_count == 1


async def test_no_verification(shadow: Pair) -> None:
    await shadow.one.legacy["strangler_runs"].delete_one(RUN)
    await assert_refused(shadow, f"verification: there is none since legacy is the primary; {HOW}")
    await assert_forced(shadow, "verification: there is none since legacy is the primary")
    # The way back is open, and onward again asks for another one: what was verified before is forgotten.
    await shadow.move(Stage.SHADOW)
    await flip(shadow.coordinator(), Stage.LIVE)
    await flip(shadow.coordinator(), Stage.SHADOW)
    await shadow.at(Stage.SHADOW, (await shadow.told()).epoch)
    await assert_refused(shadow, f"verification: there is none since legacy is the primary; {HOW}")


async def test_a_verification_that_found_something(shadow: Pair) -> None:
    key = await create(shadow.one)
    await shadow.settled(key)
    await shadow.one.change_row(ENTITY, key, tokenId="spoilt")
    try:
        found = await shadow.one.verifier().verify(ENTITY)
        assert found.status == Status.DIFFERENT
        await assert_refused(shadow, "s ago, found differences: 1 different; expected one that is clean")
    finally:
        await shadow.one.change_row(ENTITY, key, tokenId=NFT.make("", "")["tokenId"])


async def test_a_verification_that_has_not_ended(shadow: Pair) -> None:
    await change_run(shadow, done=False)
    await assert_refused(shadow, "verification: the last one has not ended, it was begun 2")


async def test_a_verification_of_a_sample(shadow: Pair) -> None:
    await shadow.settled(*[await create(shadow.one) for _ in range(20)])
    found = await shadow.one.verifier().verify(ENTITY, Asked(sample=50))
    assert found.status == Status.CLEAN
    await assert_refused(shadow, f"verification: the last one compared a sample of 50 %; {HOW}")


async def test_a_verification_of_long_ago(shadow: Pair) -> None:
    await change_run(shadow, at=datetime.now(UTC) - timedelta(hours=25))
    await assert_refused(shadow, f"verification: the last one was 25 h ago, and counts for 24 h; {HOW}")
    await change_run(shadow, at=datetime.now(UTC) - timedelta(hours=23))
    await flip(shadow.coordinator(), Stage.LIVE)
    await shadow.at(Stage.LIVE, (await shadow.told()).epoch)


async def test_a_verification_of_another_shape(shadow: Pair) -> None:
    await change_run(shadow, **{"detail.shape.tokenId": "Int"})
    said = "verification: since the last one something has changed: tokenId: Int -> String"
    await assert_refused(shadow, f"{said}; {HOW}")


async def test_a_flip_that_was_taken_back_leaves_the_verification_as_it_was(shadow: Pair) -> None:
    steps = shadow.coordinator().flip(ENTITY, Stage.LIVE, "test")
    async for step in steps:
        if "refuses settles of before" in step:
            break
    await steps.aclose()
    flag = await shadow.told()
    assert (flag.stage, flag.target) == (Stage.SHADOW, None)
    await flip(shadow.coordinator(), Stage.LIVE)
    await shadow.at(Stage.LIVE, (await shadow.told()).epoch)


@asynccontextmanager
async def nobody(stack: AsyncExitStack, mongo_url: str, postgres_url: str, template: str) -> AsyncIterator[Cutover]:
    """A coordinator before stores that no proxy runs on, with the entity at shadow."""
    stores = await stack.enter_async_context(databases(mongo_url, postgres_url, template))
    environment = {
        "MONGO_URL": stores.mongo_url,
        "DATABASE_URL": stores.database_url,
        "CORE_URL": "http://127.0.0.1:1",
        "JWT_SECRET": "the secret of tests that know no callers",
        "STRANGLER_CONFIG": str(COLLECTION_CONFIG),
    }
    schema = load_schema()
    config = load(COLLECTION_CONFIG, environment, schema)
    reached = await stack.enter_async_context(connected(config, read_settings(environment), schema))
    cutover = coordinator(config, reached, schema)
    for stage in (Stage.DUALWRITE, Stage.SHADOW):
        await flip(cutover, stage)
    yield cutover


async def test_no_proxy_and_no_transactions(postgres_url: str, migrated_template: str) -> None:
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        server = await stack.enter_async_context(standalone_mongod(folder))
        cutover = await stack.enter_async_context(nobody(stack, server.url, postgres_url, migrated_template))
        with pytest.raises(Refused) as refused:
            await flip(cutover, Stage.LIVE)
        assert (await cutover.flags())[ENTITY].stage == Stage.SHADOW
    _, *guards = str(refused.value).splitlines()
    assert [guard.split(":")[0].strip() for guard in guards] == ["replicas", "transactions", "verification"]
    assert "no proxy is running; expected one" in guards[0]
    assert "expected a replica set" in guards[1]


async def test_forced_without_a_proxy_it_is_taken_back_and_not_lost(
    mongo_url: str, postgres_url: str, migrated_template: str
) -> None:
    """Nobody follows the change stream: that everything has settled is what nobody can say."""
    async with AsyncExitStack() as stack:
        cutover = await stack.enter_async_context(nobody(stack, mongo_url, postgres_url, migrated_template))
        with pytest.raises(Refused, match=r"legacy has settled.*: it is at shadow again"):
            _ = [line async for line in cutover.flip(ENTITY, Stage.LIVE, "test", force=True, deadline=0.5)]
        flag = (await cutover.flags())[ENTITY]
    assert (flag.stage, flag.target) == (Stage.SHADOW, None)
