"""Flips before two replicas: under the writes of both, with one that misses it all, cancelled, and two at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from adapters.side import SideName
from config.model import Stage
from proxy.cutover.coordinator import Refused
from tests.cutover_case import ENTITY, Pair, audited, create, flip, pair_of, stands
from tests.proxy_case import DEADLINE, Answer, Event, Running, databases, fresh, recorded
from tests.subjects import NFT

NO_MARKS = {"legacy": 0, "prisma": 0}
ENDS = {Stage.SHADOW: Stage.LIVE, Stage.LIVE: Stage.SHADOW}


@pytest.fixture(scope="module")
def events() -> Iterator[list[Event]]:
    """This process's events: they can be had only once."""
    with recorded() as found:
        yield found


@pytest.fixture(scope="module")
async def stand(
    server_folder: Path, mongo_url: str, postgres_url: str, migrated_template: str, events: list[Event]
) -> AsyncIterator[Pair]:
    async with (
        databases(mongo_url, postgres_url, migrated_template) as stores,
        pair_of(server_folder, stores, events=events) as pair,
    ):
        yield pair


@pytest.fixture
async def shadow(stand: Pair) -> Pair:
    await stand.move(Stage.SHADOW)
    return stand


# Under load


class Writers:
    """Clients that go to one replica and the other in turn, and remember what was acknowledged last."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._stop = asyncio.Event()
        self.held: dict[str, str | None] = {}
        self.failed: list[object] = []
        self.writes = 0

    @asynccontextmanager
    async def writing(self, clients: int) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._write()) for _ in range(clients)]
        try:
            yield
        finally:
            self._stop.set()
            await asyncio.gather(*tasks)

    async def more(self, count: int) -> None:
        wanted = self.writes + count
        await self._pair.one.until(lambda: self.writes >= wanted, "writes that go on")

    async def _write(self) -> None:
        turn = 0
        while not self._stop.is_set():
            turn += 1
            here, there = self._pair.replicas if turn % 2 else reversed(self._pair.replicas)
            given = NFT.make(fresh(), "")
            created = await self._ask(here, "POST", NFT.create, given)
            key = created.data[NFT.id]
            self.held[key] = given["tokenId"]
            token = fresh()
            await self._ask(there, "PATCH", f"{NFT.path}/{key}", {"tokenId": token})
            self.held[key] = token
            if turn % 3 == 0:
                await self._ask(here, "DELETE", f"{NFT.path}/{key}")
                self.held[key] = None

    async def _ask(self, replica: Running, method: str, path: str, body: Any = None) -> Answer:
        answer = await replica.ask(method, path, body)
        self.writes += 1
        if answer.status != 200:
            self.failed.append((method, answer.status, answer.body))
            raise AssertionError(f"{method} {path} answered {answer.status}: {answer.body}")
        return answer


async def test_there_and_back_under_the_writes_of_both_nothing_is_lost(shadow: Pair) -> None:
    writers = Writers(shadow)
    async with writers.writing(6):
        for to in (Stage.LIVE, Stage.SHADOW, Stage.LIVE, Stage.SHADOW):
            await writers.more(20)
            if to == Stage.LIVE:
                await shadow.one.verify(ENTITY)
            steps = await flip(shadow.coordinator(), to)
            assert [step.split(":")[0] for step in steps] == [ENTITY] * 6
            assert "acknowledged by 2 replicas" in steps[1]
            await shadow.at(to, (await shadow.told()).epoch)
        await writers.more(20)
    assert writers.failed == []
    await shadow.settled(*writers.held)
    for key, token in writers.held.items():
        document = await shadow.one.on_legacy(ENTITY, key)
        assert (None if document is None else document["tokenId"]) == token
    await unmarked(shadow)


async def unmarked(pair: Pair) -> None:
    async with asyncio.timeout(DEADLINE):
        while await pair.one.marks(ENTITY) != NO_MARKS:
            await asyncio.sleep(0.05)


async def test_each_step_is_an_event(shadow: Pair, events: list[Event]) -> None:
    before = len(events)
    await flip(shadow.coordinator(), Stage.LIVE)
    flips = [event for event in events[before:] if event["event"] == "flip"]
    assert [event["step"] for event in flips] == [
        "fenced",
        "acknowledged",
        "drained",
        "turned",
        "decided",
        "copied",
    ]
    flag = await shadow.told()
    assert [event["epoch"] for event in flips] == [flag.epoch - 1] * 4 + [flag.epoch] * 2
    for event in flips:
        assert (event["entity"], event["from"], event["to"], event["cause"]) == (ENTITY, "shadow", "live", "test")
        assert event["ms"] >= 0
    assert (await audited(shadow))["legacy"][-1] == (await audited(shadow))["prisma"][-1] == ("flip", None)


# A replica that misses it


@contextmanager
def out_of_touch(replica: Running) -> Iterator[None]:
    """Its beats and its looks at the flags hang, as those of a process that is stopped do; what it was doing goes on."""
    with pytest.MonkeyPatch.context() as patch:
        back = asyncio.Event()
        for store in replica.proxy.stores.by_side().values():
            for name in ("beat", "flags"):
                patch.setattr(store.state, name, _after(back, getattr(store.state, name)))
        try:
            yield
        finally:
            back.set()


def _after(event: asyncio.Event, call: Any) -> Any:
    async def waits(*given: Any) -> Any:
        await event.wait()
        return await call(*given)

    return waits


@contextmanager
def late_writes(replica: Running, side: SideName) -> Iterator[asyncio.Event]:
    """What it performs on this side is on its way until the event."""
    with pytest.MonkeyPatch.context() as patch:
        on = asyncio.Event()
        store = replica.proxy.stores.by_side()[side]
        perform = store.perform

        async def later(operation: Any, *, mark: bool = False) -> Any:
            await on.wait()
            return await perform(operation, mark=mark)

        patch.setattr(store, "perform", later)
        try:
            yield on
        finally:
            on.set()


@pytest.mark.parametrize("stage", [Stage.SHADOW, Stage.LIVE])
async def test_a_late_write_of_a_replica_that_missed_the_flip_is_refused_and_taken_back(
    stand: Pair, stage: Stage
) -> None:
    await stand.move(stage)
    paused = stand.two
    key = await create(stand.one)
    await stand.settled(key)
    primary: SideName = "legacy" if stage == Stage.SHADOW else "prisma"
    with late_writes(paused, primary) as landing:
        with out_of_touch(paused):
            late = asyncio.create_task(paused.ask("PATCH", f"{NFT.path}/{key}", {"tokenId": "late"}))
            await paused.until(lambda: paused.proxy.gates[ENTITY].in_flight == 1, "a write on its way")
            steps = await flip(stand.coordinator(), ENDS[stage])
            assert "acknowledged by 1 replicas" in steps[1], "the other one counts as gone"
            assert not paused.proxy.presence.holds()
            now = await stand.one.ask("PATCH", f"{NFT.path}/{key}", {"tokenId": "now"})
            assert now.status == 200
            # It knows nothing, and so begins nothing; reads are served.
            begun = await paused.ask("POST", NFT.create, NFT.make(fresh(), ""))
            assert_refused(begun)
        # It is in touch again, and has looked, before its write lands on what is no longer the primary.
        await stand.at(ENDS[stage], (await stand.told()).epoch)
        await paused.until(paused.proxy.presence.holds, "a lease that is held again")
        landing.set()
        assert_refused(await late)
    await stand.settled(key)
    document = await stand.one.on_prisma(ENTITY, key)
    assert document is not None
    assert document["tokenId"] == "now"
    assert paused.count("strangler_refused_writes_total", entity=ENTITY, reason="lease_lost") >= 2
    await stand.works()
    await unmarked(stand)


def assert_refused(answer: Answer) -> None:
    assert (answer.status, answer.body["reason"], answer.headers["Retry-After"]) == (503, "lease_lost", "1")
    assert answer.body["success"] is False
    assert answer.body["requestId"] == answer.headers["X-Request-Id"]


async def test_reads_are_served_without_a_lease(shadow: Pair) -> None:
    key = await create(shadow.one)
    with out_of_touch(shadow.two):
        await shadow.two.until(lambda: not shadow.two.proxy.presence.holds(), "a lease that lapses")
        assert (await shadow.two.ask("GET", f"{NFT.path}/{key}")).status == 200
    await shadow.two.until(shadow.two.proxy.presence.holds, "a lease that is held again")
    await shadow.works()


# Cancelled, and two at once


@asynccontextmanager
async def waiting(pair: Pair) -> AsyncIterator[asyncio.Task[list[str]]]:
    """A flip that waits, while the block lasts, for a write that is still in flight."""
    gate = pair.two.proxy.gates[ENTITY]
    await gate.enter()
    flipping = asyncio.create_task(flip(pair.coordinator(), Stage.LIVE))
    try:
        await pair.one.until(lambda: bool(pair.one.proxy.flags[ENTITY].target), "a fence")
        yield flipping
    finally:
        gate.leave()
        await asyncio.gather(flipping, return_exceptions=True)


async def test_cancelling_takes_the_fence_back_and_what_it_held_goes_on(shadow: Pair) -> None:
    epoch = (await shadow.told()).epoch
    async with waiting(shadow) as flipping:
        held = asyncio.create_task(create(shadow.one))
        flag = await shadow.coordinator().cancel(ENTITY, "somebody else")
        assert (flag.stage, flag.target, flag.epoch, flag.changed_by) == ("shadow", None, epoch + 2, "somebody else")
        await held
    with pytest.raises(Refused, match="the fence was taken away: somebody else left it at shadow"):
        await flipping
    await shadow.at(Stage.SHADOW, epoch + 2)
    assert stands(await shadow.told(), Stage.SHADOW)
    actions = [action for action, _ in (await audited(shadow))["prisma"]]
    assert actions[-2:] == ["cancel", "abort"]
    await shadow.works()


async def test_there_is_nothing_to_cancel_where_nothing_moves(shadow: Pair) -> None:
    with pytest.raises(Refused, match=f"{ENTITY} is not being moved: it is at shadow"):
        await shadow.coordinator().cancel(ENTITY, "test")
    with pytest.raises(Refused, match="unknown entity nfts"):
        await shadow.coordinator().cancel("nfts", "test")


async def test_a_flip_under_way_is_nobody_elses_to_change(shadow: Pair) -> None:
    async with waiting(shadow):
        for change in (flip(shadow.coordinator(), Stage.DUALWRITE), shadow.coordinator().tune(ENTITY, "x", serve=5)):
            with pytest.raises(Refused, match="is being moved to live by test"):
                await change


async def test_of_two_coordinators_one_wins(shadow: Pair) -> None:
    epoch = (await shadow.told()).epoch
    found = await asyncio.gather(
        flip(shadow.coordinator(), Stage.LIVE), flip(shadow.one.cutover, Stage.LIVE), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in found) == ["Refused", "list"]
    await shadow.at(Stage.LIVE, epoch + 2)
    assert (await shadow.told()).epoch == epoch + 2


async def test_one_that_stops_iterating_takes_it_back(shadow: Pair) -> None:
    steps = shadow.coordinator().flip(ENTITY, Stage.LIVE, "test")
    epoch = (await shadow.told()).epoch
    assert "fenced" in await anext(steps)
    await steps.aclose()
    await shadow.at(Stage.SHADOW, epoch + 2)
    await shadow.works()
