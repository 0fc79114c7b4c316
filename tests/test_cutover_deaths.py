"""A coordinator that dies at any step of a flip: the replicas end what it began, and so does the next one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from config.model import Stage
from proxy.cutover.coordinator import Refused
from proxy.cutover.flip import Step
from tests.cutover_case import ENTITY, STEPS, Killed, Pair, create, flip, holding_for, killed_at, pair_of, stands
from tests.proxy_case import DEADLINE, databases

ENDS = {Stage.SHADOW: Stage.LIVE, Stage.LIVE: Stage.SHADOW}
DECIDED = ("decided", "copied")


@pytest.fixture(scope="module")
async def stand(
    server_folder: Path,
    mongo_url: str,
    postgres_url: str,
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Pair]:
    config = holding_for(tmp_path_factory.mktemp("config"), "1s")
    async with (
        databases(mongo_url, postgres_url, migrated_template) as stores,
        pair_of(server_folder, stores, config=config) as pair,
    ):
        await pair.move(Stage.SHADOW)
        yield pair


@pytest.fixture
async def pair(stand: Pair) -> Pair:
    if (await stand.told()).stage == Stage.SHADOW:
        await stand.one.verify(ENTITY)
    return stand


@pytest.mark.parametrize("step", STEPS)
async def test_the_replicas_end_what_it_began(pair: Pair, step: Step) -> None:
    before = Stage(pair.one.proxy.flags[ENTITY].stage)
    epoch = pair.one.proxy.flags[ENTITY].epoch
    with pytest.raises(Killed):
        await flip(pair.coordinator(killed_at(step)), ENDS[before])
    held = asyncio.create_task(create(pair.two))

    # Nobody else comes.
    after = ENDS[before] if step in DECIDED else before
    await pair.at(after, epoch + 2)
    flag = await pair.told()
    assert (flag.stage, flag.target, flag.epoch, flag.term) == (after, None, epoch + 2, epoch + 2)
    async with asyncio.timeout(DEADLINE):
        await pair.settled(await held)
    await pair.works()


@pytest.mark.parametrize("step", STEPS)
async def test_the_next_one_goes_on(pair: Pair, step: Step) -> None:
    before = Stage(pair.one.proxy.flags[ENTITY].stage)
    with pytest.raises(Killed):
        await flip(pair.coordinator(killed_at(step)), ENDS[before])
    to = before if step in DECIDED else ENDS[before]
    await moved(pair, to)
    await pair.at(to, (await pair.told()).epoch)
    assert stands(await pair.told(), to)
    await pair.works()


async def moved(pair: Pair, to: Stage) -> None:
    """Flip, as an engineer would who is told that somebody else is at it, until the fence has been abandoned."""
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                await flip(pair.coordinator(), to)
            except Refused as refused:
                if f"strangler verify {ENTITY}" in str(refused):  # it has just come to shadow
                    await pair.one.verify(ENTITY)
                elif f"strangler flag cancel {ENTITY}" not in str(refused):
                    raise
                await asyncio.sleep(0.05)
            else:
                return


async def test_a_fence_is_taken_back_by_the_next_one_where_no_replica_lives(pair: Pair) -> None:
    """Its replicas look away: as far as the fence goes there are none."""
    before = Stage(pair.one.proxy.flags[ENTITY].stage)
    for replica in pair.replicas:
        await replica.proxy.flags.stop()
    with pytest.raises(Killed):
        await flip(pair.coordinator(killed_at("fenced")), ENDS[before])
    async with asyncio.timeout(DEADLINE):
        while (await pair.coordinator().flags())[ENTITY].age < 2.1:
            await asyncio.sleep(0.05)
    cutover = pair.coordinator()
    await cutover.tune(ENTITY, "the next one", sample=99)
    flag = await pair.told()
    assert (flag.stage, flag.target, flag.sample, flag.changed_by) == (before, None, 99, "the next one")
    for replica in pair.replicas:
        replica.proxy.flags.start()
    await pair.at(before, flag.epoch)
    await pair.works()
