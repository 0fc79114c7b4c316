"""What clients notice at `shadow` of a throttled backfill: the same traffic with one beside it and without, in turns."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp

from bench.move_command import done, under_way
from bench.move_ground import Ground
from bench.open_loop import Call, latencies
from config.model import Stage

_ROUNDS: Final = 5
_SECONDS: Final = 6.0
_RATE: Final = 50.0
_READ_OF: Final = 5
"""One call in so many is a write."""
_VIDEOS: Final = 200
_PATIENCE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Noticed:
    """Latencies in milliseconds."""

    beside: Sequence[float]
    without: Sequence[float]


async def measure_traffic(here: Ground) -> Noticed:
    """The backfill is a first one, with a rate that would take it some minutes: it does not come to its end.
    The videos that the clients ask for are on both sides from the beginning, as they were written since `dualwrite`."""
    await here.empty()
    async with aiohttp.ClientSession(here.proxim8.url) as session:
        call = _traffic(session, await _written(here, session))
        await done(here.proxim8.environment, "backfill", "account")
        await here.move(Stage.SHADOW)
        await latencies(call, seconds=2, rate=_RATE)
        beside: list[float] = []
        without: list[float] = []
        for _ in range(_ROUNDS):
            without += await latencies(call, seconds=_SECONDS, rate=_RATE)
            async with under_way(here.proxim8.environment, "backfill", "video", "--rate", str(_throttled(here))):
                beside += await latencies(call, seconds=_SECONDS, rate=_RATE)
    return Noticed(beside, without)


def _throttled(here: Ground) -> int:
    return max(1, here.documents // 200)


async def _written(here: Ground, session: aiohttp.ClientSession) -> list[str]:
    """Some videos from all over the collection, which have been changed and have settled."""
    legacy, prisma = here.reached.stores.legacy, here.reached.stores.prisma
    every, seen = max(1, here.documents // _VIDEOS), 0
    keys: list[str] = []
    async for batch in legacy.keys("video"):
        keys += batch[-seen % every :: every]
        seen += len(batch)
    for key in keys:
        async with session.patch(f"/api/videos/{key}", json={"title": "written since"}) as response:
            assert response.status == 200, await response.text()
            await response.read()
    async with asyncio.timeout(_PATIENCE):
        while await prisma.count("video") < len(keys):
            await asyncio.sleep(0.1)
    return keys


def _traffic(session: aiohttp.ClientSession, keys: Sequence[str]) -> Call:
    async def call(turn: int) -> None:
        path = f"/api/videos/{keys[turn % len(keys)]}"
        write = turn % _READ_OF == 0
        asked = session.patch(path, json={"title": f"turn {turn}"}) if write else session.get(path)
        async with asked as response:
            assert response.status == 200, await response.text()
            await response.read()

    return call
