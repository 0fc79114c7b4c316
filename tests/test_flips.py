"""Flips that move the primary, under traffic: nobody fails, nothing that was acknowledged is lost, and a flip that cannot
drain goes back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from config.load import load
from config.model import Stage
from config.schema import load_schema
from config.settings import read_settings
from proxy.cli.command import connected, coordinator
from proxy.cutover.coordinator import Cutover, Refused
from tests.proxy_case import DEADLINE, Running, fresh, standing
from tests.subjects import PROFILE, VIDEO

NO_MARKS = {"legacy": 0, "prisma": 0}


@pytest.fixture(scope="module")
async def stand(
    server_folder: Path, mongo_url: str, postgres_url: str, migrated_template: str
) -> AsyncIterator[Running]:
    async with standing(server_folder, mongo_url, postgres_url, migrated_template) as proxim8:
        yield proxim8


@pytest.fixture
async def alone(
    server_folder: Path, mongo_url: str, postgres_url: str, migrated_template: str
) -> AsyncIterator[Running]:
    """A proxy that reaches both sides itself."""
    async with standing(server_folder, mongo_url, postgres_url, migrated_template, via="collection") as proxim8:
        yield proxim8


@pytest.fixture(scope="module")
async def elsewhere(stand: Running) -> AsyncIterator[Cutover]:
    """A coordinator with connections of its own, as the command line has."""
    schema = load_schema()
    settings = read_settings(stand.environment)
    config = load(settings.config, stand.environment, schema)
    async with connected(config, settings, schema) as stores:
        yield coordinator(config, stores, schema)


@pytest.fixture
async def shadow(stand: Running) -> Running:
    await stand.move(Stage.SHADOW)
    await stand.verify("video")
    return stand


async def flip(cutover: Cutover, entity: str, to: Stage, *, deadline: float = DEADLINE) -> list[str]:
    return [step async for step in cutover.flip(entity, to, "test", deadline=deadline)]


async def arrived(proxim8: Running, at: Stage) -> None:
    await proxim8.until(lambda: proxim8.proxy.flags["video"].stage == at, f"a flip to {at}")


class Writers:
    """Clients that write videos one after the other, and remember what was acknowledged."""

    def __init__(self, proxim8: Running, owner: tuple[str, str]) -> None:
        self._proxim8 = proxim8
        self._owner = owner
        self._stop = asyncio.Event()
        self.acknowledged: dict[str, str | None] = {}
        self.failed: list[object] = []
        self.writes = 0

    @asynccontextmanager
    async def writing(self, clients: int) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._write(client)) for client in range(clients)]
        try:
            yield
        finally:
            self._stop.set()
            await asyncio.gather(*tasks)

    async def more(self, count: int) -> None:
        """Return once this many more writes have been acknowledged."""
        wanted = self.writes + count
        await self._proxim8.until(lambda: self.writes >= wanted, "writes that go on")

    async def _write(self, client: int) -> None:
        turn = 0
        while not self._stop.is_set():
            turn += 1
            given = VIDEO.make(fresh(), "")
            key = (await self._acknowledged(201, "POST", VIDEO.create, given))["id"]
            self.acknowledged[key] = given["title"]
            title = f"client {client}, turn {turn}"
            await self._acknowledged(200, "PATCH", f"/api/videos/{key}", {"title": title})
            self.acknowledged[key] = title
            read = await self._proxim8.ask("GET", f"/api/videos/{key}")
            if read.status != 200 or read.data["title"] != title:
                self.failed.append(("read", read.status, title))
            if turn % 4 == 0:
                await self._acknowledged(200, "DELETE", f"/api/videos/{key}")
                self.acknowledged[key] = None

    async def _acknowledged(self, status: int, method: str, path: str, body: object = None) -> dict[str, str]:
        answer = await self._proxim8.ask(method, path, body, wallet=self._owner[0])
        self.writes += 1
        if answer.status != status:
            self.failed.append((method, answer.status, answer.body))
            raise AssertionError(f"{method} {path} answered {answer.status}: {answer.body}")
        data: dict[str, str] = answer.data
        return data


async def test_flips_there_and_back_before_an_old_server_lose_nothing(shadow: Running, elsewhere: Cutover) -> None:
    await assert_nothing_lost(shadow, elsewhere)


async def test_flips_there_and_back_of_a_collection_lose_nothing(alone: Running) -> None:
    await alone.move(Stage.SHADOW)
    await assert_nothing_lost(alone, alone.cutover)


async def assert_nothing_lost(shadow: Running, coordinator: Cutover) -> None:
    """Four flips under the writes of six clients: none fails, and both sides hold what was acknowledged last."""
    writers = Writers(shadow, await shadow.account())
    mismatches = len(shadow.said("mismatch"))
    async with writers.writing(6):
        for to in (Stage.LIVE, Stage.SHADOW, Stage.LIVE, Stage.SHADOW):
            await writers.more(24)
            if to == Stage.LIVE:
                await shadow.verify("video")
            await flip(coordinator, "video", to)
            await arrived(shadow, to)
        await writers.more(24)
    assert writers.failed == []
    await shadow.quiet()
    for key, title in writers.acknowledged.items():
        legacy, prisma = await shadow.on_legacy("video", key), await shadow.on_prisma("video", key)
        assert legacy == prisma
        assert (None if legacy is None else legacy["title"]) == title
    assert await shadow.marks() == NO_MARKS
    assert len(shadow.said("mismatch")) == mismatches


async def test_other_entities_are_not_held(shadow: Running, elsewhere: Cutover) -> None:
    owner = await shadow.account()
    async with held(shadow, "video"):
        assert (await shadow.ask("POST", PROFILE.create, PROFILE.make(fresh(), ""), wallet=owner[0])).status == 201


async def test_reads_are_not_held(shadow: Running, elsewhere: Cutover) -> None:
    key = await shadow.create(VIDEO, *await shadow.account())
    await shadow.quiet()
    async with held(shadow, "video"):
        assert (await shadow.ask("GET", f"/api/videos/{key}")).status == 200


@asynccontextmanager
async def held(proxim8: Running, entity: str) -> AsyncIterator[None]:
    """A flip of the entity is under way, and cannot end before the block does: a write of it is still in flight."""
    gate = proxim8.proxy.gates[entity]
    await gate.enter()
    flipping = asyncio.create_task(flip(proxim8.cutover, entity, Stage.LIVE))
    try:
        await proxim8.until(lambda: proxim8.proxy.flags[entity].target == Stage.LIVE, "a fence")
        yield
        assert not flipping.done()
    finally:
        gate.leave()
        await flipping


async def test_held_writes_wait_and_go_on_to_the_new_primary(shadow: Running, elsewhere: Cutover) -> None:
    key = await shadow.create(VIDEO, *await shadow.account())
    await shadow.quiet()
    async with held(shadow, "video"):
        asked = [
            asyncio.create_task(shadow.ask("PATCH", f"/api/videos/{key}", {"description": f"held {number}"}))
            for number in range(5)
        ]
        # They have come in: an answer to what was asked after them says so.
        assert (await shadow.ask("GET", f"/api/videos/{key}")).status == 200
        assert not any(task.done() for task in asked)
    answers = await asyncio.gather(*asked)
    assert [answer.status for answer in answers] == [200] * 5
    assert not any(answer.forwarded for answer in answers)
    await shadow.quiet()
    assert await shadow.on_legacy("video", key) == await shadow.on_prisma("video", key)
    assert shadow.proxy.flags["video"].stage == Stage.LIVE
    assert shadow.count("strangler_held_seconds_count", entity="video") >= 5


async def test_a_flip_that_cannot_drain_goes_back_and_what_it_held_goes_on(shadow: Running, elsewhere: Cutover) -> None:
    """The proxy's own way to prisma hangs, so that what it wrote cannot settle."""
    wallet, account = await shadow.account()
    key = await shadow.create(VIDEO, wallet, account)
    await shadow.quiet()
    epoch = shadow.proxy.flags["video"].epoch
    engine = shadow.proxy.stores.engine.pid
    assert engine is not None
    os.kill(engine, signal.SIGSTOP)
    try:
        assert (await shadow.ask("PATCH", f"/api/videos/{key}", {"title": "cannot settle"})).status == 200
        flipping = asyncio.create_task(flip(elsewhere, "video", Stage.LIVE, deadline=2.5))
        await shadow.until(lambda: shadow.proxy.flags["video"].target == Stage.LIVE, "a fence")
        asked = asyncio.create_task(shadow.ask("PATCH", f"/api/videos/{key}", {"title": "was held"}))
        with pytest.raises(Refused, match=r"not moved within 2\.5 s .*legacy has settled.*: it is at shadow again"):
            await flipping
        answer = await asked
        assert (answer.status, answer.data["title"]) == (200, "was held")
    finally:
        os.kill(engine, signal.SIGCONT)
    flag = shadow.proxy.flags["video"]
    assert (flag.stage, flag.target, flag.epoch) == (Stage.SHADOW, None, epoch + 2)
    await settled_after_the_hang(shadow, key, "was held")
    await flip(elsewhere, "video", Stage.LIVE)
    await shadow.move(Stage.SHADOW)


async def test_a_flip_is_undone_when_its_coordinator_gives_up(shadow: Running) -> None:
    async with held(shadow, "video"):
        pass
    await shadow.move(Stage.SHADOW)
    await shadow.verify("video")
    gate = shadow.proxy.gates["video"]
    await gate.enter()
    try:
        flipping = asyncio.create_task(flip(shadow.cutover, "video", Stage.LIVE))
        await shadow.until(lambda: shadow.proxy.flags["video"].target == Stage.LIVE, "a fence")
        flipping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flipping
        await shadow.until(lambda: shadow.proxy.flags["video"].target is None, "a fence that is taken away")
    finally:
        gate.leave()
    assert shadow.proxy.flags["video"].stage == Stage.SHADOW
    key = await shadow.create(VIDEO, *await shadow.account())
    await settled_after_the_hang(shadow, key, "first")


async def test_two_at_once_one_is_refused(shadow: Running, elsewhere: Cutover) -> None:
    found = await asyncio.gather(
        flip(shadow.cutover, "video", Stage.LIVE), flip(elsewhere, "video", Stage.LIVE), return_exceptions=True
    )
    refused = [error for error in found if isinstance(error, BaseException)]
    assert [type(error) for error in refused] == [Refused]
    await shadow.until(lambda: shadow.proxy.flags["video"].stage == Stage.LIVE, "the other's flip")
    stored = await shadow.cutover.flags()
    assert (stored["video"].stage, stored["video"].target) == (Stage.LIVE, None)


async def settled_after_the_hang(proxim8: Running, key: str, title: str) -> None:
    await proxim8.quiet()
    held = await proxim8.on_legacy("video", key)
    assert held is not None
    assert held["title"] == title
    assert await proxim8.on_prisma("video", key) == held
