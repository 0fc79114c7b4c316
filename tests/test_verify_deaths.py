"""A verification that dies, anywhere, and one that has to wait: the next one goes on, forgets nothing and finds the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from config.model import Stage
from proxy.migration.run.pace import Pace
from proxy.migration.run.patience import GivenUp, Patience
from proxy.migration.verification.verification import Status, Verification
from proxy.replication.steps import Step
from tests.faults.relay import Relay, relayed
from tests.proxy_case import COLLECTION_CONFIG, DEADLINE
from tests.settle_case import grounds
from tests.verify_case import ENTITY, At, Case, Progressed, Stopped, case_at, kinds, stamped, stop

MANY = 450
"""Documents that make some ranges."""
AN_END = 40
"""More steps than a run of so many has."""


@pytest.fixture(scope="module")
async def relay(postgres_url: str) -> AsyncIterator[Relay]:
    async with relayed("postgres", urlsplit(postgres_url).port or 0) as found:
        yield found


@pytest.fixture(scope="module")
async def stand(mongo_url: str, postgres_url: str, migrated_template: str, relay: Relay) -> AsyncIterator[Case]:
    through = postgres_url.replace(f":{urlsplit(postgres_url).port}/", f":{relay.port}/")
    async with (
        grounds(mongo_url, through, migrated_template) as ground,
        case_at(Stage.DUALWRITE, ground) as found,
    ):
        yield found


@pytest.fixture
async def case(stand: Case, relay: Relay) -> AsyncIterator[Case]:
    await stand.clear()
    yield stand
    relay.heal()


def essence(found: Verification) -> tuple[object, ...]:
    """What does not depend on how often it died."""
    return found.status, found.compared, dict(found.looked), kinds(found), found.findings.counts(), found.repaired


async def spoilt(case: Case) -> list[str]:
    """Something is wrong at the beginning, in the middle and at the end."""
    keys = await case.fill(MANY)
    await case.spoil(keys[0])
    await case.lose(keys[MANY // 2])
    await case.spoil(keys[-1])
    await case.plant("f" * 24)
    return keys


@pytest.mark.parametrize("step", ["landed", "kept"])
async def test_wherever_it_dies_the_next_one_finds_the_same(case: Case, step: Step) -> None:
    """Before each checkpoint is written, and after it."""
    await spoilt(case)
    whole = await case.verify()
    assert (whole.resumed, whole.findings.counts()) == (0, {"different": 2, "missing": 1, "extra": 1})
    for number in range(1, AN_END):
        death = At(step, number, stop)
        try:
            found = await case.verify(reached=death)
        except Stopped:
            found = await case.verify()
            assert found.began <= (found.ended or found.began)
        assert essence(found) == essence(whole), (step, number)
        if not death.done and death.left > 0:
            break
    assert 6 < number < AN_END - 1


async def test_what_had_been_found_is_kept_and_looked_at_again(case: Case) -> None:
    """The range that it was found in is not looked at twice."""
    keys = await spoilt(case)
    # After all suspects have become findings, and that has been kept.
    steps = await _steps_of(case)
    with pytest.raises(Stopped):
        await case.verify(reached=At("kept", steps - 1, stop))
    kept = Verification.of(await case.run())
    assert kept is not None
    assert kept.findings.counts() == {"different": 2, "missing": 1, "extra": 1}
    await case.bench.settler.settle(ENTITY, [keys[0]])
    await case.spoil(keys[1])  # in a range that is done
    found = await case.verify()
    assert kinds(found) == {keys[MANY // 2]: "missing", keys[-1]: "different", "f" * 24: "extra"}
    assert (found.resumed, found.agreed) == (1, 1)
    assert found.looked["legacy"] == MANY


async def _steps_of(case: Case) -> int:
    """How many checkpoints an undisturbed run writes."""
    count = 0

    async def reached(step: Step) -> None:
        nonlocal count
        count += step == "kept"

    await case.verify(reached=reached)
    return count


async def test_a_repair_that_dies_is_gone_on_with(case: Case) -> None:
    keys = await spoilt(case)
    steps = await _steps_of(case)
    with pytest.raises(Stopped):
        await case.verify(repair=True, reached=At("landed", steps - 1, stop))
    # It had repaired all, and died before it could say so.
    found = await case.verify(repair=True)
    assert (found.status, kinds(found), found.resumed) == (Status.CLEAN, {}, 1)
    assert await case.token(keys[MANY // 2]) == "t"
    assert await case.bench.stores.legacy.marks(ENTITY, 10) == []


async def test_a_store_that_is_away_for_a_while_is_waited_for(case: Case, relay: Relay) -> None:
    keys = await spoilt(case)
    progress = Progressed()

    async def cut() -> None:
        relay.cut()

    async def heal() -> None:
        await case.bench.until(lambda: bool(progress.said))
        relay.heal()

    healing = asyncio.create_task(heal())
    waits = Patience(said=progress.say)
    found = await case.verify(reached=At("kept", 1, cut), progress=progress, patience=waits)
    await healing
    assert kinds(found) == {
        keys[0]: "different",
        keys[MANY // 2]: "missing",
        keys[-1]: "different",
        "f" * 24: "extra",
    }
    assert (found.compared, found.resumed) == (MANY - 1, 0)
    assert progress.said[0]
    assert progress.said[-1] is None


async def test_a_store_that_stays_away_is_given_up_and_gone_on_with(case: Case, relay: Relay) -> None:
    await case.fill(MANY)

    async def cut() -> None:
        relay.cut()

    with pytest.raises(GivenUp):
        await case.verify(reached=At("kept", 1, cut), patience=Patience(0.5))
    relay.heal()
    found = await case.verify()
    assert (found.status, found.compared, found.resumed) == (Status.CLEAN, MANY, 1)


# Orders


def with_texts_for_keys(folder: Path) -> Path:
    before, after = COLLECTION_CONFIG.read_text().split("  nft_ownership:\n", 1)
    assert "{ id: { body: id } }" in after
    after = after.replace("{ id: { body: id } }", "{ id: { body: id, legacy: string } }", 1)
    changed = folder / "texts.yaml"
    changed.write_text(f"{before}  nft_ownership:\n{after}")
    return changed


@pytest.fixture(scope="module")
async def unlike(
    mongo_url: str, postgres_url: str, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Case]:
    """Keys are any texts, and the two databases sort them differently: numbers by value here, by digits there."""
    changed = with_texts_for_keys(tmp_path_factory.mktemp("config"))
    async with grounds(mongo_url, postgres_url, migrated_template, config_file=changed) as ground:
        await ground.legacy.create_collection(ENTITY, collation={"locale": "en", "numericOrdering": True})
        async with case_at(Stage.DUALWRITE, ground) as found:
            yield found


async def test_two_databases_that_sort_differently(unlike: Case) -> None:
    names = [f"{prefix}{number}" for number in range(1, 13) for prefix in ("", "a", "B", "ä")]
    for name in names:
        await unlike.bench.legacy[ENTITY].insert_one({"_id": name, **stamped()})
    await unlike.quiet()
    orders = [await order(unlike, side) for side in ("legacy", "prisma")]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(names)
    assert orders[0] != orders[1]
    found = await unlike.verify(pace=Pace(80.0))
    assert (found.status, found.compared) == (Status.CLEAN, len(names))
    await unlike.spoil("a10")
    await unlike.lose("9")
    await unlike.plant("ä2x")
    found = await unlike.verify(pace=Pace(80.0))
    assert kinds(found) == {"a10": "different", "9": "missing", "ä2x": "extra"}
    with pytest.raises(Stopped):
        await unlike.verify(pace=Pace(80.0), reached=At("kept", 2, stop))
    again = await unlike.verify(pace=Pace(80.0))
    assert essence(again) == essence(found)


async def order(case: Case, side: str) -> list[str]:
    """The keys as this store walks them."""
    store = case.bench.stores.legacy if side == "legacy" else case.bench.stores.prisma
    found: list[str] = []
    place: str | None = None
    async with asyncio.timeout(DEADLINE):
        while (some := await store.range(ENTITY, place, most=5)) is not None:
            found += some.keys
            place = some.upto
    return found
