"""Flags and flips while a store hangs, is away, or has not heard of what the other one decided."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.side import Flag, SideError, Unavailable
from config.model import Stage
from proxy.cutover.coordinator import Refused
from proxy.cutover.flip import Step
from proxy.flags.view import Flags
from tests.cutover_case import ENTITY, Pair, audited, create, flip, pair_of, stands
from tests.proxy_case import DEADLINE, another, databases

ENDS = {Stage.SHADOW: Stage.LIVE, Stage.LIVE: Stage.SHADOW}


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


@contextmanager
def hung(*engines: int | None) -> Iterator[None]:
    """These ways to prisma hang while the block lasts: nothing is refused, nothing is answered."""
    pids = [pid for pid in engines if pid is not None]
    assert len(pids) == len(engines)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


# What a replica sees


async def test_a_store_that_hangs_does_not_delay_what_is_seen_through_the_other(shadow: Pair) -> None:
    replica = shadow.two
    with hung(replica.proxy.stores.engine.pid):
        flag = await shadow.coordinator().tune(ENTITY, "test", serve=7)
        await replica.until(lambda: replica.proxy.flags[ENTITY].epoch >= flag.epoch, "the change is seen")
        assert replica.proxy.flags[ENTITY].serve == 7
        # Beats are confirmed by the other store as well: writes go on.
        assert replica.proxy.presence.holds()
    await shadow.works()


async def test_a_start_waits_for_nobody_who_hangs(shadow: Pair) -> None:
    with hung(shadow.apart.engine.pid):
        flags = Flags(shadow.entities, shadow.apart.by_side())
        await flags.refresh()
        assert flags[ENTITY].epoch == shadow.one.proxy.flags[ENTITY].epoch > 0
        assert flags[ENTITY].stage == Stage.SHADOW


async def test_a_start_reads_both_stores(shadow: Pair) -> None:
    """What only one of them knows is known, whichever it is."""
    for side, store in shadow.apart.by_side().items():
        now = await shadow.told()
        later = replace(now, epoch=now.epoch + 1, sample=len(side), changed_at=None)
        assert await store.state.save_flag(later)
        flags = Flags(shadow.entities, shadow.apart.by_side())
        await flags.refresh()
        assert flags[ENTITY].sample == len(side)


# Anti-entropy


@pytest.mark.parametrize("stage", [Stage.SHADOW, Stage.LIVE])
async def test_what_only_one_store_knows_the_other_is_told(stand: Pair, stage: Stage) -> None:
    await stand.move(stage)
    for store in stand.apart.by_side().values():
        now = await stand.told()
        assert await store.state.save_flag(replace(now, epoch=now.epoch + 1, sample=now.sample - 1, changed_at=None))
        flag = await stand.told()
        assert (flag.epoch, flag.sample, flag.stage) == (now.epoch + 1, now.sample - 1, stage)
    await stand.works()


async def test_a_store_that_has_lost_its_flags_gets_them_back(shadow: Pair) -> None:
    now = await shadow.told()
    await shadow.one.sql('DELETE FROM "strangler_flag" WHERE "entity" = $1 RETURNING "entity"', ENTITY)
    await shadow.one.legacy["strangler_flags"].update_one({"_id": ENTITY}, {"$set": {"epoch": now.epoch + 1}})
    assert (await shadow.told()).epoch == now.epoch + 1


# Flips


async def test_a_store_that_hangs_while_writes_are_held_ends_the_flip(shadow: Pair) -> None:
    """The writes go on although the coordinator still has not heard of that store."""
    epoch = (await shadow.told()).epoch
    engine = shadow.apart.engine.pid
    held: list[asyncio.Task[str]] = []

    async def hang(step: Step) -> None:
        if step == "acknowledged":
            assert engine is not None
            os.kill(engine, signal.SIGSTOP)
            held.append(asyncio.create_task(create(shadow.one)))

    try:
        flipping = asyncio.create_task(flip(shadow.coordinator(hang), Stage.LIVE))
        await shadow.at(Stage.SHADOW, epoch + 2)
        await held[0]
        with pytest.raises((Refused, SideError), match=r"not moved .*: it is at shadow again"):
            await flipping
    finally:
        assert engine is not None
        os.kill(engine, signal.SIGCONT)
    flag = await shadow.told()
    assert (flag.epoch, flag.term, flag.target) == (epoch + 2, epoch + 2, None)
    assert [action for action, _ in (await audited(shadow))["legacy"]][-1] == "abort"
    await shadow.works()
    await flip(shadow.coordinator(), Stage.LIVE)


@pytest.mark.parametrize("stage", [Stage.SHADOW, Stage.LIVE])
async def test_a_fence_is_in_both_stores_or_nowhere(stand: Pair, stage: Stage) -> None:
    """Past the guards, with prisma hanging: from shadow it is the one that is told, from live the one that decides."""
    await stand.move(stage)
    now = await stand.told()
    with hung(stand.apart.engine.pid):
        with pytest.raises(SideError, match=f"{ENTITY} was not moved"):
            await flip(stand.coordinator(), ENDS[stage], force=True)
        if stage == Stage.SHADOW:
            await stand.at(stage, now.epoch + 2)
            await create(stand.one)
    # What was sent to prisma may have been decided after all; then it was abandoned.
    async with asyncio.timeout(30):
        while not stands(flag := await stand.told(), stage) or flag.term == flag.epoch - 1:
            await asyncio.sleep(0.05)
    await stand.at(stage, flag.epoch)
    await stand.works()
    await flip(stand.coordinator(), ENDS[stage])
    await stand.at(ENDS[stage], (await stand.told()).epoch)


@pytest.mark.parametrize("step", ["fenced", "decided"])
async def test_an_acknowledgement_that_was_lost(shadow: Pair, step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store has decided, and the coordinator does not hear of it: the fence is taken back, the flip is finished."""
    state = shadow.apart.legacy.state
    save_flag, lost = state.save_flag, {"fenced": Stage.LIVE, "decided": None}[step]
    epoch = (await shadow.told()).epoch

    async def unheard(flag: Flag, *, after: int | None = None) -> bool:
        saved = await save_flag(flag, after=after)
        if after is not None and flag.target == lost:
            monkeypatch.undo()
            raise Unavailable("the connection was lost", sent=True)
        return saved

    monkeypatch.setattr(state, "save_flag", unheard)
    if step == "fenced":
        with pytest.raises(Unavailable, match=r"the connection was lost.*: it is at shadow again"):
            await flip(shadow.coordinator(), Stage.LIVE)
    else:
        lines = await flip(shadow.coordinator(), Stage.LIVE)
        assert lines[4] == f"{ENTITY}: shadow -> live, epoch {epoch + 2}, writes go on"
        assert "both stores know" in lines[5]
    to = Stage.SHADOW if step == "fenced" else Stage.LIVE
    await shadow.at(to, epoch + 2)
    assert (await shadow.told()).epoch == epoch + 2
    await shadow.works()


async def test_a_step_that_moves_nothing_needs_only_the_store_that_decides(shadow: Pair) -> None:
    with hung(shadow.apart.engine.pid):
        lines = await flip(shadow.coordinator(), Stage.DUALWRITE)
        assert lines[1:] == [f"{ENTITY}: prisma is away, and hears of it when it is back"]
        await shadow.at(Stage.DUALWRITE)
    assert (await shadow.told()).stage == Stage.DUALWRITE


async def test_nothing_is_decided_without_the_store_that_decides(stand: Pair) -> None:
    await stand.move(Stage.LIVE)
    now = await stand.told()
    with (
        hung(stand.apart.engine.pid),
        pytest.raises(Unavailable, match=f"prisma, which decides about {ENTITY}, does not answer"),
    ):
        await stand.coordinator().tune(ENTITY, "test", sample=3)
    # Nobody knows what has become of it, until it is looked at: either way both stores say the same.
    assert (await stand.told()).epoch in (now.epoch, now.epoch + 1)


async def test_who_leaves_is_in_neither_registry(shadow: Pair) -> None:
    async with another(shadow.one) as third:
        name = third.proxy.settings.replica
        async with asyncio.timeout(DEADLINE):
            while await registered(shadow, name) != ["legacy", "prisma"]:
                await asyncio.sleep(0.02)
        assert third.proxy.presence.holds()
    assert await registered(shadow, name) == []


async def registered(pair: Pair, name: str) -> list[str]:
    sides = pair.apart.by_side().items()
    return [side for side, store in sides if name in {one.id for one in await store.state.replicas()}]
